"""One case of the suite: what is broken, when it was healed, how long it took until all promises held again."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from lab import Lab
from tests.faults.proxy import EngineProxy
from tests.live import RunningStack
from tests.oracle import Oracle

HEALS_WITHIN_S = 60.0
PROGRAMS = ("postgres", "redis", "web", "worker", "beat")


@dataclass
class Fault:
    """Held by each test; the table of the suite shows `seconds`."""

    lab: Lab
    stack: RunningStack
    oracle: Oracle
    seconds: float | None = None
    figures: str = ""
    proxies: list[EngineProxy] = field(default_factory=list)

    @contextmanager
    def healing(self) -> Iterator[None]:
        """The clock runs from here: within a minute the body must be done, and every promise must hold."""
        begin = time.monotonic()
        yield
        passed = time.monotonic() - begin
        assert passed < HEALS_WITHIN_S, f"it took {passed:.0f} s"
        self.seconds = passed + self.oracle.settled(HEALS_WITHIN_S - passed)

    def note(self, text: str) -> None:
        """A figure for the table, beside the case."""
        self.figures = text

    def arm(self, point: str) -> None:
        """The next worker that comes to this point of compute/failpoints.py is killed there."""
        self.stack.stack.layout.fail_points.joinpath(point).touch()

    def struck(self, point: str) -> bool:
        """Whether a worker has died there since it was armed."""
        return not self.stack.stack.layout.fail_points.joinpath(point).exists()

    def mend(self) -> None:
        """Everything whole again, whatever became of the test."""
        for proxy in self.proxies:
            proxy.heal()
        for armed in self.stack.stack.layout.fail_points.iterdir():
            armed.unlink(missing_ok=True)
        for machine in self.lab.specs:
            if machine.links:
                self.lab.heal(machine.name)
            for daemon in machine.daemons:
                self.lab.start_daemon(machine.name, daemon)
        self.stack.start(*PROGRAMS)
        self.stack.wait_ready()


class TookTooLong(AssertionError):
    """The case did not end within its time limit."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises TookTooLong in the body after so many seconds; in the main thread only."""

    def strike(signal_: int, frame: FrameType | None) -> None:
        raise TookTooLong(f"the case did not end within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
