"""Named points at which a test can end this process, as a crash would. Off unless BERTH_FAIL_DIR is set.

A point is armed by a file of its name in that folder; it is used up by the process that dies there.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path

_handler: Callable[[str], None] | None = None


def hit(name: str) -> None:
    """Die here if the point is armed. Costs nothing when fail points are off."""
    if _handler:
        _handler(name)


def handle(handler: Callable[[str], None] | None) -> None:
    """Call this at every point; None: nothing again."""
    global _handler
    _handler = handler


def arm_from(folder: Path) -> None:
    """Every point whose file is in the folder kills this process with SIGKILL, once."""

    def die(name: str) -> None:
        try:
            (folder / name).unlink()
        except FileNotFoundError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    handle(die)
