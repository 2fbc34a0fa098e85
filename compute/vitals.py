"""What a machine tells of itself by one small script over SSH: memory, load, cores, disks, kills for lack of memory."""

import logging
import re

from compute.readings import Vitals
from compute.shell import CommandFailed, Host, NoAnswer

logger = logging.getLogger(__name__)
VOLUMES, IMAGES = "/var/lib/berth", "/var/lib/docker"
TIMEOUT_S = 5.0
TICKS_PER_S = 100  # USER_HZ of Linux: what /proc/stat counts in (man 5 proc)

# oom_kill is in memory.oom_control of cgroup v1 and in memory.events of v2, at most two levels down (by cgroupfs or by
# systemd). Only what is not 0 is sent.
SCRIPT = f"""
grep -E '^Mem(Total|Available):' /proc/meminfo
read -r line < /proc/loadavg && echo "loadavg $line"
read -r line < /proc/uptime && echo "uptime $line"
echo "cores $(grep -c '^cpu[0-9]' /proc/stat)"
read -r line < /proc/stat && echo "$line"
disk() {{
  [ -d "$2" ] || return
  timeout -k 1 3 df -kP "$2" | while read -r _ size _ free _; do echo "disk $1 $size $free"; done
}}
disk volumes {VOLUMES}
disk images {IMAGES}
grep -sH '^oom_kill [1-9]' /sys/fs/cgroup/memory/*/*/memory.oom_control /sys/fs/cgroup/*/*/memory.events
true
"""
_KILLED = re.compile(r"/(?:docker-)?([0-9a-f]{64})(?:\.scope)?/memory\.[a-z_]+:oom_kill ([0-9]{1,9})\Z")


def read(host: Host, timeout_s: float = TIMEOUT_S) -> Vitals:
    """What the machine says; nothing when it gives no answer."""
    try:
        return parse(host.run(["sh", "-s"], stdin=SCRIPT, timeout_s=timeout_s))
    except (NoAnswer, CommandFailed) as problem:
        logger.info("%s told nothing of itself: %s", host.target or "this machine", problem)
        return Vitals()


def parse(text: str) -> Vitals:
    """Reads what the script printed (man 5 proc). A line that makes no sense tells nothing, the others do."""
    found: dict[str, float] = {}
    kills: dict[str, int] = {}
    for line in text.splitlines():
        try:
            found |= _line(line)
        except (ValueError, IndexError):
            continue
        if killed := _KILLED.search(line):
            kills[killed.group(1)] = int(killed.group(2))

    def whole(name: str) -> int | None:
        return int(found[name]) if name in found else None

    return Vitals(
        memory_total_mib=whole("MemTotal"),
        memory_free_mib=whole("MemAvailable"),
        load_1=found.get("load_1"),
        load_5=found.get("load_5"),
        load_15=found.get("load_15"),
        cores=whole("cores") or None,
        cpu_s=found.get("cpu_s"),
        uptime_s=whole("uptime"),
        volumes_size_mib=whole("volumes size"),
        volumes_free_mib=whole("volumes free"),
        images_size_mib=whole("images size"),
        images_free_mib=whole("images free"),
        oom_kills=kills,
    )


def _line(line: str) -> dict[str, float]:
    words = line.split()
    match words:
        case [("MemTotal:" | "MemAvailable:") as name, kib, *_]:
            return {name[:-1]: _memory_mib(kib)}
        case ["loadavg", one, five, fifteen, *_]:
            return {"load_1": _number(one), "load_5": _number(five), "load_15": _number(fifteen)}
        case ["uptime", seconds, *_]:
            return {"uptime": int(_number(seconds))}
        case ["cores", number]:
            return {"cores": _count(number[:6])}
        case ["cpu", *ticks]:
            user, nice, system, _idle, _wait, irq, softirq = (_count(tick) for tick in ticks[:7])
            return {"cpu_s": (user + nice + system + irq + softirq) / TICKS_PER_S}
        case ["disk", place, size, free]:
            return {f"{place} size": _count(size) // 1024, f"{place} free": _count(free) // 1024}
    return {}


def _memory_mib(kib: str) -> int:
    mib = _count(kib) // 1024
    if mib >= 2**31:
        raise ValueError(kib)
    return mib


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 15:
        raise ValueError(text)
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1e9:
        raise ValueError(text)
    return value
