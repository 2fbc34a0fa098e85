"""Looks for what is wrong, and tells it: two threads in every worker's main process and in every beat.

A thread of its own, so that a pool full of hanging tasks holds up nothing; in the workers and in the beats, so that
each is missed by the others. All of them look in turn: a look is one short transaction under an advisory lock, and one
that finds that somebody has just looked does nothing. So no process has to be the one that does it, and none that
stands still keeps the others from it. Telling is the other thread's: a mail server that hangs delays no look.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import Error, close_old_connections, connection, connections, transaction
from django.utils import timezone

from compute import clocks
from monitoring import heartbeats
from monitoring.alerts import conditions, delivering, incidents
from monitoring.models import Heartbeat, Incident

logger = logging.getLogger(__name__)
EVERY_S = 5.0
JUST_NOW = timedelta(seconds=4)
MOST_LINES = 20  # in the log, of one look
LOCK = 0x616C_7402  # "al": one looks at a time


def look(name: str, now: datetime) -> incidents.Round | None:
    """See what is wrong, write it down, and queue whom to tell. None where another process does it, or has just."""
    around = conditions.surroundings()  # the only thing that is not the database
    with transaction.atomic(durable=True):
        if not _try_lock():
            return None
        last = heartbeats.last_look()
        if last is not None and timedelta(0) <= now - last < JUST_NOW:
            return None
        rows = incidents.standing()
        came = incidents.note(rows, conditions.read(now, rows, around), now)
        delivering.post(came, now)
        heartbeats.note_look(name, now)
        heartbeats.forget(now)
    _log(came)
    return came


def _try_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK])
        return bool(cursor.fetchone()[0])


def _log(came: incidents.Round) -> None:
    for row in came.opened[:MOST_LINES]:
        level = logging.ERROR if row.severity == Incident.Severity.CRITICAL else logging.WARNING
        logger.log(level, "incident %d: %s. %s", row.pk, incidents.title(row), row.sentence)
    for row in came.closed[:MOST_LINES]:
        logger.info("incident %d is over: %s", row.pk, incidents.over_title(row))
    if (more := max(len(came.opened), len(came.closed)) - MOST_LINES) > 0:
        logger.warning("and %d more incidents: see manage.py alerts", more)


@dataclass
class Watchdog:
    """The two threads of one process. `pause` returns True to end."""

    name: str
    kind: Heartbeat.Kind
    clock: Callable[[], datetime] = timezone.now
    ended: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _started_at: datetime | None = None

    def start(self) -> None:
        self._started_at = self.clock()
        for round_, name in ((self.watch, "watchdog"), (self.tell, "alerts")):
            thread = threading.Thread(target=self._keep, args=(round_,), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def end(self) -> None:
        """This process ends as it should, and is not missed."""
        self.ended.set()
        for thread in self._threads:
            thread.join(timeout=1)
        try:
            heartbeats.leave(self.name)
        except Error as problem:
            logger.warning("that this process ends cannot be written down: %s", problem)
        finally:
            connections.close_all()

    def watch(self) -> None:
        """One round: a sign of life, and a look."""
        now = self.clock()
        heartbeats.beat(name=self.name, kind=self.kind, started_at=self._started_at or now, now=now)
        look(self.name[:120], now)

    def tell(self) -> None:
        """One round: what is queued goes out."""
        delivering.deliver_due(self.clock)

    def _keep(self, round_: Callable[[], None]) -> None:
        """For good, whatever happens: who watches must not be what fails."""
        while True:
            try:
                if not clocks.is_off():  # what goes by time would go wrong; the others do it
                    round_()
            except Error as problem:
                logger.warning("nothing can be watched or told while the database gives no answer: %s", problem)
            except Exception:
                logger.exception("the watchdog met something unexpected, and goes on")
            finally:
                close_old_connections()
            if self.ended.wait(EVERY_S):
                connections.close_all()
                return
