"""Idle memory of web, worker, beat and live: the proportional share (PSS) of their process trees."""

import os
import time
from pathlib import Path

from tests.bench.ground import BenchError, Ground
from tests.bench.table import Outcome, Row

PROGRAMS = ("web", "worker", "beat", "live")
BOUND_MIB = 400
SETTLE_S = 3


def measure(ground: Ground) -> Outcome:
    time.sleep(SETTLE_S)  # what the benches before this began has ended
    roots = _roots(ground)
    found = {name: sum(_pss_kib(pid) for pid in _tree(root)) / 1024 for name, root in roots.items()}
    parts = " + ".join(f"{name} {found[name]:.0f}" for name in PROGRAMS)
    total = sum(found.values())
    row = Row("idle memory of web + worker + beat + live (PSS)", total, "MiB", BOUND_MIB, f"{total:.0f} MiB ({parts})")
    return Outcome("memory", [row], ["without supervisord, PostgreSQL and Redis"])


def _roots(ground: Ground) -> dict[str, int]:
    """The first process of each program, found among the children of the stack's supervisord."""
    first = ground.stack.status().first_pid
    if first is None:
        raise BenchError("the stack is not running")
    marks = {"web": "gunicorn", "worker": " worker ", "beat": " beat ", "live": "portal.live"}
    found: dict[str, int] = {}
    for supervisord in _children(first):
        for pid in _children(supervisord):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found |= {name: pid for name, mark in marks.items() if mark in command and "ssh:" not in command}
    if missing := set(PROGRAMS) - set(found):
        raise BenchError(f"these do not run: {', '.join(sorted(missing))}")
    return found


def _children(pid: int) -> list[int]:
    children: list[int] = []
    for task in os.listdir(f"/proc/{pid}/task"):
        children += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return children


def _tree(pid: int) -> list[int]:
    return [pid, *(below for child in _children(pid) for below in _tree(child))]


def _pss_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):  # a short-lived child that has ended
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
