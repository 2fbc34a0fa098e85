"""The node's own guard: a timer that ends what is past its lease, and the firewall around the containers.

Two small shell programs (`node_files/`) live on each node and need nobody but it: with the portal gone and the
cables pulled, every ten seconds they stop the containers whose time is over and mend the firewall. This module puts
them there, asks how they are, and writes the leases that they go by.

A lease is a length of time, not a time of day: what counts on the node is how long it had left when it was written,
so that a node whose clock is wrong ends it at the right moment, and so does one whose clock is set meanwhile.

All calls are idempotent and may raise CommandFailed or NoAnswer. Knows no reservations and no Django.
"""

import hashlib
import re
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from compute import skew
from compute.shell import CommandFailed, Host

FILES = Path(__file__).with_name("node_files")
HOME = "/var/lib/berth/guard"
LEASES = "/var/lib/berth/leases"
LATE_S = 60  # without a sign of life from the timer; a round takes about a second, with a hanging engine some 40
INSTALL_TIMEOUT_S = 120
_END = "END-OF-FILE-FROM-BERTH"
_NETWORK = re.compile(r"\A[0-9.]+(/[0-9]+)?\Z")
# Docker's own rule for names of containers; so none is a path or an option.
_NAME = re.compile(r"\A[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}\Z")


@dataclass(frozen=True, slots=True)
class Report:
    """What a node says of its guard. `skew_s`: how far its clock is ahead of this one, as far as that is certain."""

    problems: tuple[str, ...]
    needs_install: bool = False  # which would mend some of them
    skew_s: float = 0.0
    told_s: int = 0  # what the node allows for at present

    @property
    def allowance_s(self) -> int:
        """What it should allow for: nothing where its clock is right."""
        return round(self.skew_s) if skew.too_much(self.skew_s) else 0


def install(host: Host, *, blocked: Sequence[str] = ()) -> None:
    """Put the guard on the node, or a newer one in place of the old; start it, and have the firewall up on return.

    `blocked` are the networks that containers must not reach, beside all private ones: the operator's own.
    """
    host.run(["sh", "-s"], stdin=install_script(blocked), timeout_s=INSTALL_TIMEOUT_S)


def check(host: Host, *, blocked: Sequence[str] = ()) -> list[str]:
    """What is wrong with the node's guard, as sentences that begin with "its" or "it"; empty when all is well."""
    return list(examine(host, blocked=blocked).problems)


def examine(host: Host, *, blocked: Sequence[str] = (), clock: Callable[[], float] = time.time) -> Report:
    """The same, with how far its clock is off and whether `install` would help. Changes nothing."""
    before = clock()
    try:
        answer = host.run(["sh", "-s"], stdin=f"[ -r {HOME}/guard.sh ] || exit 3\nexec sh {HOME}/guard.sh look\n")
    except CommandFailed as problem:
        if problem.code != 3:
            raise
        return Report(("it has no guard: neither timer nor firewall",), needs_install=True)
    return judge(answer, version(blocked), before, clock())


def tell_skew(host: Host, report: Report) -> None:
    """Have the node's timer allow for its wrong clock where it goes by a label, since there is no lease yet."""
    if report.allowance_s != report.told_s:
        host.run(["sh", "-c", f"mkdir -p /run/berth && echo {report.allowance_s} >/run/berth/guard.offset"])


def judge(answer: str, wanted_version: str, before: float, after: float) -> Report:
    """What the answer of `guard.sh look` means, which was asked for at `before` and there at `after`. Pure."""
    said: dict[str, list[str]] = {}
    for line in answer.splitlines():
        word, _, rest = line.partition(" ")
        said.setdefault(word, []).append(rest)
    mendable = [sentence for sentence in said.get("problem", []) if sentence.startswith("its firewall")]
    lacking = [sentence for sentence in said.get("problem", []) if sentence not in mendable]
    if said.get("version") != [wanted_version]:
        mendable.insert(0, "its guard is not the present version")
    beat = said.get("beat")
    if not beat:
        mendable.append("its timer has not run since the machine was started")
    elif int(beat[0]) > LATE_S:
        mendable.append(f"its timer does not run: the last sign of life is {beat[0]} s old")
    ahead_s = skew.ahead_s(before, after, float(said["now"][0])) if "now" in said else 0.0
    if off := skew.sentence("its", ahead_s, "the portal's"):
        lacking.append(off)
    told = said.get("offset", ["0"])[0]
    return Report((*mendable, *lacking), bool(mendable), ahead_s, int(told) if told.lstrip("-").isdigit() else 0)


# ---- leases ------------------------------------------------------------------------------------------------


def write_lease(host: Host, container_name: str, expires_at: datetime, *, now: datetime | None = None) -> None:
    """The node stops the container at this time, whatever its label says; once more with another time moves it."""
    host.run(["sh", "-s"], stdin=lease_script(container_name, expires_at, now or datetime.now(UTC)))


def lease_script(container_name: str, expires_at: datetime, now: datetime) -> str:
    """What `write_lease` runs. The file has the end by the node's clock, and by its uptime while it is not rebooted."""
    left = int((expires_at - now).total_seconds())
    return f"""set -eu
lease={LEASES}/{_checked(container_name)}
mkdir -p {LEASES}
end=$(($(date +%s) + {left})) up=$(($(cut -d. -f1 /proc/uptime) + {left}))
[ "$end" -gt 0 ] || end=1
[ "$up" -gt 0 ] || up=1
printf '%s\\n%s %s\\n' "$end" "$(cat /proc/sys/kernel/random/boot_id)" "$up" >"$lease.new.$$"
sync "$lease.new.$$"
mv "$lease.new.$$" "$lease"
"""


def _checked(container_name: str) -> str:
    if not _NAME.match(container_name):
        raise ValueError(f"{container_name!r} cannot be the name of a container")
    return container_name


# ---- what is installed -------------------------------------------------------------------------------------


def version(blocked: Sequence[str] = ()) -> str:
    """Of programs and configuration together, as guard.sh computes it on the node."""
    text = (FILES / "guard.sh").read_bytes() + (FILES / "firewall.sh").read_bytes() + _conf(blocked).encode()
    return hashlib.sha256(text).hexdigest()[:16]


def install_script(blocked: Sequence[str]) -> str:
    """One script that carries all files. Pure but for reading them."""
    files = {name: (FILES / name).read_text() for name in ("guard.sh", "firewall.sh", "berth-guard.service")}
    files["guard.conf"] = _conf(blocked)
    lines = [f"set -eu\numask 022\nmkdir -p {HOME}\nnew=$(mktemp -d {HOME}/new.XXXXXX)\n"]
    for name, text in files.items():
        lines.append(f"cat >\"$new/{name}\" <<'{_END}'\n{text}{_END}\n")
    return "".join(lines) + (FILES / "install.sh").read_text()


def _conf(blocked: Sequence[str]) -> str:
    for network in blocked:
        if not _NETWORK.match(network):
            raise ValueError(f"{network!r} is not an IPv4 network")
    return f"# Written by Berth; your own settings belong in guard.local.\nblocked={shlex.quote(' '.join(blocked))}\n"
