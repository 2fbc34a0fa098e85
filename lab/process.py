"""Start other programs with a time limit, and recognise a process again without being fooled by a reused pid."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


class LabError(Exception):
    """Something the lab could not do; the text is a sentence for the person who asked."""


class CommandFailed(LabError):
    """A program ended with a non-zero code or ran out of time."""

    def __init__(self, argv: Sequence[str], returncode: int | None, output: str) -> None:
        how = "ran out of time" if returncode is None else f"ended with {returncode}"
        super().__init__(f"{' '.join(argv)}: {how}: {output.strip() or 'no output'}")
        self.argv = list(argv)
        self.returncode = returncode
        self.output = output


def run(
    argv: Sequence[str],
    *,
    input: str | None = None,  # noqa: A002 - named as in the subprocess module
    timeout: float = 30,
    check: bool = True,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run to the end and return what it printed. After `timeout` seconds its whole process group is killed.

    Raises CommandFailed on a time-out, and on a non-zero code unless `check` is false.
    """
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        start_new_session=True,
    )
    try:
        stdout, stderr = process.communicate(input, timeout=timeout)
    except BaseException as error:
        # nsenter and unshare fork: killing only the parent would leave the child running.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        # One that waits for a dead device does not even die; it is no reason to wait for ever too.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        if isinstance(error, subprocess.TimeoutExpired):
            raise CommandFailed(argv, None, "") from error
        raise
    if check and process.returncode != 0:
        raise CommandFailed(argv, process.returncode, stderr or stdout)
    return subprocess.CompletedProcess(list(argv), process.returncode, stdout, stderr)


def wait_until(condition: Callable[[], bool], *, seconds: float, interval: float = 0.02) -> bool:
    """Whether the condition became true within the time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(interval)
    return True


@dataclass(frozen=True)
class ProcessId:
    """A process that stays recognisable: a pid is reused, a pid with its start time (in clock ticks) is not."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """The live process with this pid, or None."""
        started = start_time(pid)
        return None if started is None else cls(pid, started)

    def alive(self) -> bool:
        return start_time(self.pid) == self.started

    def wait(self, *, seconds: float) -> bool:
        """Whether it ended within the time."""
        return wait_until(lambda: not self.alive(), seconds=seconds)

    def kill(self) -> None:
        """Send SIGKILL; nothing happens when it is already gone. A pidfd keeps us from hitting its successor."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if self.alive():
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        except ProcessLookupError:
            return
        finally:
            os.close(descriptor)


def start_time(pid: int, proc: Path = Path("/proc")) -> int | None:
    """When the process started, in clock ticks since boot; None if there is none or only its zombie is left."""
    try:
        stat = (proc / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError, NotADirectoryError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])
