"""A gateway with iptables: the chains are replaced whole by `iptables-restore --noflush`, in one commit a table."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

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
        self._end(_to(f.public_address, f.public_port, f.protocol) for f in forwards)

    def cut_strangers(self, forwards: Iterable[ForwardSpec]) -> None:
        guarded = {(f.public_address, f.public_port): f for f in forwards if not f.is_open}
        if not guarded:
            return
        self._end(
            f"{_to(one.public_address, one.public_port)} --orig-src {one.source}"
            for one in self._tracked()
            if (forward := guarded.get((one.public_address, one.public_port))) and not forward.allows(one.source)
        )

    def cut_all_but(self, forwards: Iterable[ForwardSpec], public_address: str, first: int, last: int) -> int:
        wanted = {(f.public_address, f.public_port): f for f in forwards}
        stale = set()
        for one in self._tracked():
            if one.public_address != public_address or not first <= one.public_port <= last:
                continue
            forward = wanted.get((public_address, one.public_port))
            if forward is None or one.target != (forward.node_address, forward.node_port):
                stale.add(_to(public_address, one.public_port))
            elif not forward.allows(one.source):
                stale.add(f"{_to(public_address, one.public_port)} --orig-src {one.source}")
        self._end(stale)
        return len(stale)

    def _tracked(self) -> Iterator["Tracked"]:
        """The TCP connections that are led on to somewhere else, whoever leads them."""
        listing = self._ask("conntrack -L --dst-nat -o extended 2>/dev/null || [ $? -eq 1 ]")
        for line in listing.splitlines():
            fields = line.split()
            words = [word.split("=", 1) for word in fields if "=" in word]
            original = dict(reversed(words[:4]))  # the first direction's src dst sport dport
            answer = dict(words[4:8])
            if (
                len(fields) < 3
                or not {"src", "dst", "dport"} <= original.keys()
                or not {"src", "sport"} <= answer.keys()
            ):
                continue
            if fields[2] == "tcp":
                target = answer["src"], int(answer["sport"])
                yield Tracked(original["src"], original["dst"], int(original["dport"]), target)

    def _end(self, which: Iterable[str]) -> None:
        """End the connections that conntrack finds by these; it exits 1 when there are none, which is success here."""
        lines = dict.fromkeys(f"conntrack -D {one} >/dev/null 2>&1 || [ $? -eq 1 ]\n" for one in which)
        if lines:
            self.host.run(["sh", "-s"], stdin="".join(lines), timeout_s=TIMEOUT_S)


@dataclass(frozen=True, slots=True)
class Tracked:
    """A connection from `source` to a public address, and where it is led."""

    source: str
    public_address: str
    public_port: int
    target: tuple[str, int]


def _to(public_address: str, public_port: int, protocol: str = "tcp") -> str:
    return f"-p {protocol} --orig-dst {public_address} --orig-port-dst {public_port}"


class DirectGateway:
    """No gateway at all: the nodes' own published ports are the public ones. Nothing to apply, nothing to drift."""

    def apply(self, rules: Rules) -> None:
        """Nothing: the engine publishes the port."""

    def found(self) -> Rules:
        return Rules((), ())

    def cut(self, forwards: Iterable[ForwardSpec]) -> None:
        """Nothing: removing the container ends its connections."""

    def cut_strangers(self, forwards: Iterable[ForwardSpec]) -> None:
        """Nothing: nobody stands before the node who could hold anybody back."""

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
