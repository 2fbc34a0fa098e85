"""Tasks go by the clock: a process whose own is off runs none, takes none from the queue, and dates none."""

import logging
import threading
from collections.abc import Callable
from typing import Any

from celery import Task
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
