"""Is this process's clock right? It is compared with the database's, which is the one clock that all have in common.

What begins and ends by time must not be done by a process whose clock is off: it would end bookings early, start
them late and take a moment's silence for minutes. Such a process says so and leaves the work to others.
"""

import logging
import os
import socket
import sys
import time
from pathlib import Path

from django.core.cache import cache
from django.db import connection
from redis.exceptions import RedisError

from compute import skew

logger = logging.getLogger(__name__)
ASK_EVERY_S = 10.0
SAY_EVERY_S = 60.0
JUMP_S = 1.0  # a clock that was set since is asked about again at once
OFF = "berth:clocks-off"

process_name = f"{Path(sys.argv[0]).name} (pid {os.getpid()}) on {socket.gethostname()}"  # a worker has a better one

_asked: tuple[float, float, float] | None = None  # when, on the monotonic clock; how far that is behind the day's; skew
_said_at: float | None = None


def skew_s() -> float:
    """How many seconds this clock is ahead of the database's, as far as that is certain; asked every ten seconds.

    Raises django.db.Error when the database gives no answer.
    """
    global _asked
    now, apart = time.monotonic(), time.time() - time.monotonic()
    if _asked is None or now - _asked[0] >= ASK_EVERY_S or abs(apart - _asked[1]) > JUMP_S:
        _asked = (now, apart, _measure())
    return _asked[2]


def _measure() -> float:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")  # opens the connection, which may take a while
        before = time.time()
        cursor.execute("SELECT extract(epoch FROM clock_timestamp())")
        after = time.time()
        database = float(cursor.fetchone()[0])
    return -skew.ahead_s(before, after, database)


def problem() -> str:
    """What is wrong with this process's clock, as a sentence; empty when it is right. Raises as `skew_s`."""
    return skew.sentence("this process's", skew_s(), "the database's")


def is_off() -> bool:
    """Whether nothing may be done by this clock; an error in the log says so once a minute. Raises as `skew_s`."""
    global _said_at
    found = problem()
    now = time.monotonic()
    if found and (_said_at is None or now - _said_at >= SAY_EVERY_S):
        _said_at = now
        logger.error("nothing is done here: %s. See that its time is kept (chrony, ntpd)", found)
        _tell(found)
    return bool(found)


class ClockIsOff(Exception):
    """This process must not do what goes by time; the message says by how much its clock is off."""


def require() -> None:
    """Raises ClockIsOff, or as `skew_s`."""
    if found := problem():
        raise ClockIsOff(f"Nothing was done: {found}. See that its time is kept (chrony, ntpd).")


def others_off() -> dict[str, str]:
    """Processes that lately found their clock off, each with its sentence; empty when Redis is away."""
    try:
        found: dict[str, str] = cache.get(OFF) or {}
    except RedisError as trouble:
        logger.warning("whose clock is off cannot be read: %s", trouble)
        return {}
    return found


def _tell(sentence: str) -> None:
    """For doctor, which is another process."""
    try:
        cache.set(OFF, {**(cache.get(OFF) or {}), process_name: sentence}, timeout=2 * SAY_EVERY_S)
    except RedisError as trouble:
        logger.warning("that this clock is off cannot be told: %s", trouble)
