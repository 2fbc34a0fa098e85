"""What the processes of the portal count themselves: web servers, workers, timetable and commands on one machine.

Each process counts into files of its own in BERTH_RUN_DIR (prometheus_client's multiprocess mode), and whichever web
process is scraped adds all up. The files of processes that ended are folded into one, so that their counts stay, as
counters must, and the folder does not grow. That a process lives is told by a lock that it holds, not by its pid:
web and worker may be in containers of their own, where pids repeat.
"""

import fcntl
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, values
from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

logger = logging.getLogger(__name__)
GONE = "gone"  # the process whose files hold what ended ones had counted
KINDS = ("counter", "histogram")  # no gauges: the database is asked for what is so now
_me: tuple[int, str, int] | None = None  # pid, name, the lock's file descriptor


def _folder() -> Path | None:
    from django.conf import settings  # the environment is read by now

    if settings.TESTING:
        return None
    return Path(settings.BERTH_RUN_DIR) / f"metrics-{os.getuid()}"


def _named_and_alive() -> str:
    """This process's name among the files; a fork gets one of its own. The lock goes when the process does."""
    global _me
    pid = os.getpid()
    if _me is None or _me[0] != pid:
        if _me is not None:
            os.close(_me[2])  # the parent's; it keeps its own copy, and with it the lock
        name = f"{pid}-{secrets.token_hex(4)}"
        handle = os.open(_lock_file(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]), name), os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX)
        _me = (pid, name, handle)
    return _me[1]


def _lock_file(folder: Path, name: str) -> Path:
    return folder / f"{name}.alive"


def _share(folder: Path) -> bool:
    """Count into files from now on; before the first metric is made. False: this process counts for itself."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
        values.ValueClass = values.MultiProcessValue(_named_and_alive)  # type: ignore[no-untyped-call]
    except OSError as problem:
        os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
        logger.warning("the figures of this process are its own, since %s cannot be written: %s", folder, problem)
        return False
    return True


FOLDER = _folder()
SHARED = FOLDER is not None and _share(FOLDER)

REQUEST_SECONDS = Histogram(
    "berth_http_request_duration_seconds",
    "How long requests took, by the name of the address, the method and the class of the status.",
    ["route", "method", "status"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
TASK_SECONDS = Histogram(
    "berth_task_duration_seconds",
    "How long tasks took in the workers, by name.",
    ["task", "result"],
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60),
)
START_SECONDS = Histogram(
    "berth_start_duration_seconds",
    "Seconds from when a reservation was due to start, or was asked to start again, until it answered or was given up.",
    ["result"],
    buckets=(0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600),
)
START_FAILURES = Counter(
    "berth_start_failures_total",
    "Tries to start that failed, by whose fault it was.",
    ["reason"],
)


class _Shared(Collector):
    """What all processes of this machine counted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def collect(self) -> Iterator[Metric]:
        with _one_at_a_time(self.folder):
            fold(self.folder)
            yield from MultiProcessCollector(None, str(self.folder)).collect()  # type: ignore[no-untyped-call]


def registry() -> CollectorRegistry:
    """What this process, or where they share a folder every process of this machine, counted."""
    if FOLDER is None or not SHARED:
        return REGISTRY
    made = CollectorRegistry()
    made.register(_Shared(FOLDER))
    return made


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Nobody reads while somebody folds: a count would be missing, or there twice."""
    with open(folder / "reading.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def fold(folder: Path) -> int:
    """Add the counts of ended processes to those of GONE and remove their files; of how many processes."""
    ended = 0
    for alive in folder.glob("*.alive"):
        with open(alive) as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            for kind in KINDS:
                _add_to_gone(folder, kind, folder / f"{kind}_{alive.stem}.db")
            alive.unlink()
            ended += 1
    return ended


def _add_to_gone(folder: Path, kind: str, file: Path) -> None:
    if not file.exists():
        return
    gone = MmapedDict(str(folder / f"{kind}_{GONE}.db"))  # type: ignore[no-untyped-call]
    try:
        for key, value, at, _ in MmapedDict.read_all_values_from_file(str(file)):  # type: ignore[no-untyped-call]
            before, _ = gone.read_value(key)  # type: ignore[no-untyped-call]
            gone.write_value(key, before + value, at)  # type: ignore[no-untyped-call]
    finally:
        gone.close()  # type: ignore[no-untyped-call]
    file.unlink()
