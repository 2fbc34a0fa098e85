"""A gateway with iptables: the chains are replaced whole by `iptables-restore --noflush`, in one commit a table."""

from collections.abc import Iterable

from compute.gateway import DNAT_CHAIN, FORWARD_CHAIN, Rules
from compute.shell import CommandFailed, Host, NoAnswer
from compute.spec import ForwardSpec

WAIT = ["-w", "5"]  # for the xtables lock: without it another's change makes ours fail
JUMPS = (("filter", "FORWARD", FORWARD_CHAIN), ("nat", "PREROUTING", DNAT_CHAIN))  # never led in unfiltered
TIMEOUT_S = 10.0  # no command takes longer than the wait for that lock; what must be cut waits for a hung gateway
LOCK_HELD = 4  # iptables' exit code when another program has its lock, or the kernel is short of something


class IptablesGateway:
    """A compute.gateway.Gateway on `host`, which logs in as root or may use iptables and conntrack."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._jumps_seen = False

    def apply(self, rules: Rules) -> None:
        self._change(["iptables-restore", *WAIT, "--noflush"], stdin=as_restore(rules))
        if not self._jumps_seen:
            self._make_jumps()
            self._jumps_seen = True

    def _make_jumps(self) -> None:
        """The jumps come first in the built-in chains, and only once."""
        for table, chain, ours in JUMPS:
            jump = [chain, "-j", ours]
            try:
                self._change(["iptables", *WAIT, "-t", table, "-C", *jump])
            except CommandFailed:
                self._change(["iptables", *WAIT, "-t", table, "-I", *jump])

    def _change(self, argv: list[str], stdin: str = "") -> None:
        """Run it. Raises NoAnswer when iptables' lock could not be had: no booking is to blame, and waiting helps."""
        try:
            self.host.run(argv, stdin=stdin, timeout_s=TIMEOUT_S)
        except CommandFailed as problem:
            if problem.code == LOCK_HELD:
                raise NoAnswer(f"another program holds the lock of iptables: {problem}") from problem
            raise

    def _ask(self, script: str) -> str:
        return self.host.run(["sh", "-c", script], timeout_s=TIMEOUT_S)

    def found(self) -> Rules:
        saved = self._ask("iptables-save -t nat; iptables-save -t filter").splitlines()
        jumps = {f"-A {chain} -j {ours}" for _, chain, ours in JUMPS}
        self._jumps_seen = jumps <= set(saved)
        if not self._jumps_seen:
            return Rules((), ())  # chains that nothing jumps to hold nothing back
        return Rules(
            tuple(line for line in saved if line.startswith(f"-A {DNAT_CHAIN} ")),
            tuple(line for line in saved if line.startswith(f"-A {FORWARD_CHAIN} ")),
        )

    def cut(self, forwards: Iterable[ForwardSpec]) -> None:
        lines = [
            f"conntrack -D -p {f.protocol} --orig-dst {f.public_address} --orig-port-dst {f.public_port}"
            for f in forwards
        ]
        if lines:  # conntrack exits 1 when it found nothing to end, which is success here
            script = "".join(f"{line} >/dev/null 2>&1 || [ $? -eq 1 ]\n" for line in lines)
            self.host.run(["sh", "-s"], stdin=script, timeout_s=TIMEOUT_S)

    def cut_all_but(self, forwards: Iterable[ForwardSpec], public_address: str, first: int, last: int) -> int:
        wanted = {(f.public_address, f.public_port): f"{f.node_address}:{f.node_port}" for f in forwards}
        listing = self._ask("conntrack -L --dst-nat -o extended 2>/dev/null || [ $? -eq 1 ]")
        stale = set()
        for line in listing.splitlines():
            fields = line.split()
            words = [word.split("=", 1) for word in fields if "=" in word]
            original = dict(reversed(words[:4]))  # the first direction's src dst sport dport
            answer = dict(words[4:8])
            if len(fields) < 3 or not {"dst", "dport"} <= original.keys() or not {"src", "sport"} <= answer.keys():
                continue
            port, target = int(original["dport"]), f"{answer['src']}:{answer['sport']}"
            ours = fields[2] == "tcp" and original["dst"] == public_address and first <= port <= last
            if ours and wanted.get((public_address, port)) != target:
                stale.add(ForwardSpec(public_address, port, answer["src"], int(answer["sport"])))
        self.cut(stale)
        return len(stale)


class DirectGateway:
    """No gateway at all: the nodes' own published ports are the public ones. Nothing to apply, nothing to drift."""

    def apply(self, rules: Rules) -> None:
        """Nothing: the engine publishes the port."""

    def found(self) -> Rules:
        return Rules((), ())

    def cut(self, forwards: Iterable[ForwardSpec]) -> None:
        """Nothing: removing the container ends its connections."""

    def cut_all_but(self, forwards: Iterable[ForwardSpec], public_address: str, first: int, last: int) -> int:
        return 0


def as_restore(rules: Rules) -> str:
    """The input of `iptables-restore --noflush`: naming a chain empties it, so that each is replaced whole.

    Each table is one commit. The filter comes first: a packet that is forwarded but not yet let through would be
    dropped, and its sender would wait a second before the next try.
    """
    return "".join(
        f"*{table}\n:{chain} - [0:0]\n" + "".join(f"{line}\n" for line in lines) + "COMMIT\n"
        for table, chain, lines in (("filter", FORWARD_CHAIN, rules.filter), ("nat", DNAT_CHAIN, rules.nat))
    )
