"""Tasks go by the clock: a process whose own is off runs none, takes none from the queue, and dates none."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from celery import Task
from celery.beat import PersistentScheduler
from django.db import Error, close_old_connections

from compute import clocks

logger = logging.getLogger(__name__)
LOOK_EVERY_S = 5.0
_never = threading.Event()


class PunctualTask(Task):  # type: ignore[type-arg]  # a class without parameters when it runs
    """Does nothing in a process whose clock is off: the task is a hint, and the sweep of another finds what is due."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return None if clocks.is_off() else super().__call__(*args, **kwargs)


def keep_apart(consumer: Any, queue: str, pause: Callable[[float], bool] = _never.wait) -> None:
    """Look every few seconds for good: what a worker with a wrong clock takes, a right one does not get.

    `consumer` is the one of Celery's worker; it is told in its own thread. `pause` returns True to end.
    """
    taking = True
    while True:
        try:
            off = clocks.is_off()
        except Error as problem:
            logger.info("the clock could not be compared with the database's: %s", problem)
        else:
            if off == taking:
                taking = not off
                logger.warning("this worker %s work", "takes" if taking else "takes no more")
                consumer.call_soon(consumer.add_task_queue if taking else consumer.cancel_task_queue, queue)
        close_old_connections()
        if pause(LOOK_EVERY_S):
            return


def leave_out_expiry(headers: dict[str, Any]) -> None:
    """What a sender dates by a clock that is behind is over before it arrives, as everything beat sends would be."""
    if not headers.get("expires"):
        return
    try:
        if clocks.is_off():
            headers["expires"] = None
    except Error as problem:
        logger.info("the clock could not be compared with the database's: %s", problem)


class Timetable(PersistentScheduler):
    """Beat's own, which goes on when the clock is set back.

    Celery sends an entry at its last time plus its interval. Those last times would lie in the future then, and in a
    schedule file that was written by a clock that was ahead.
    """

    _apart = 0.0  # the day's clock minus the monotonic one, so that the first tick looks too

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        apart = time.time() - time.monotonic()
        if abs(apart - self._apart) > clocks.JUMP_S:
            self._apart, now = apart, self.app.now()
            for entry in self.schedule.values():
                entry.last_run_at = min(entry.last_run_at or now, now)
            self._heap = None  # it is sorted by the old times
        return super().tick(*args, **kwargs)
