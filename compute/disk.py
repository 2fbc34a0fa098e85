"""What containers have written on their node apart from their volumes, and how much room its disk has left.

overlay2 on ext4 knows no limit for one container, so it is measured: each container's own layer, and volumes that an
image declares by itself. One small script does it on the node over SSH, at low priority and with a limit for each
container. Where Berth has nothing but the engine, the engine measures; the free room is not known there.
"""

import random
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field

from compute.engine import ContainerEngine
from compute.shell import Host
from compute.spec import Writes

EACH_S = 5  # enough for some 700,000 files in the page cache (100,000 took 0.66 s)
ALL_S = 30
LEAST_FREE_MIB = 1024
LEAST_FREE_PART = 0.05
PLACES = ("/var/lib/docker", "/var/lib/berth")

_SCRIPT = f"""
begun=$(date +%s)
measure() {{
  name=$1; shift
  # Not looked at is not late: others took the time. The order is another one each time.
  if [ $(($(date +%s) - begun)) -ge {ALL_S} ]; then return; fi
  found=$(nice -n 19 timeout -k 1 {EACH_S} du -skx -- "$@" 2>/dev/null); code=$?
  case $code in
    124|137) echo "late $name" ;;
    *) echo "$found" | awk -v name="$name" '{{ sum += $1 }} END {{ print "kib", name, sum + 0 }}' ;;
  esac
}}
for place in {" ".join(PLACES)}; do
  if [ -d "$place" ]; then df -kP "$place" | awk -v place="$place" 'NR == 2 {{ print "disk", place, $2, $4 }}'; fi
done
"""


@dataclass(frozen=True, slots=True)
class Disk:
    """A node's disk. `late` are containers whose own files are too many to be counted in time."""

    written_mib: dict[str, int] = field(default_factory=dict)
    late: frozenset[str] = frozenset()
    problem: str = ""  # why the node should get nothing new; empty: there is room, or it is not known


def measure(engine: ContainerEngine, host: Host | None, names: Iterable[str]) -> Disk:
    """What these containers wrote. One that is not there, or that nothing is known of, is in no answer.

    Raises NoAnswer, EngineRefused, CommandFailed.
    """
    wanted = set(names)
    if host is None:
        return Disk({name: mib for name, mib in engine.written_mib().items() if name in wanted})
    places = {name: engine.writes(name) for name in random.sample(sorted(wanted), len(wanted))}
    return parse(host.run(["sh", "-s"], stdin=script(places), timeout_s=ALL_S + EACH_S + 10))


def script(places: dict[str, Writes]) -> str:
    calls = [shlex.join(["measure", name, *found.folders]) for name, found in places.items() if found.folders]
    return _SCRIPT + "".join(f"{call}\n" for call in calls)


def parse(text: str) -> Disk:
    """Reads what the script printed."""
    written: dict[str, int] = {}
    late: set[str] = set()
    problems: list[str] = []
    for line in text.splitlines():
        match line.split():
            case ["kib", name, kib]:
                written[name] = int(kib) // 1024
            case ["late", name]:
                late.add(name)
            case ["disk", place, size, free]:
                problems += room_problem(place, int(size) // 1024, int(free) // 1024)
    return Disk(written, frozenset(late), problems[0] if problems else "")


def room_problem(place: str, size_mib: int, free_mib: int) -> list[str]:
    """A sentence when the file system is nearly full."""
    if free_mib >= max(LEAST_FREE_MIB, LEAST_FREE_PART * size_mib):
        return []
    return [f"Its disk is nearly full: {free_mib} of {size_mib} MiB are free at {place}."]
