"""Which of the portal's processes live: each writes its row every few seconds, by a thread that does nothing else."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Max

from monitoring.models import Heartbeat

ALIVE_FOR = timedelta(seconds=20)  # after its last sign; it gives one every five seconds
MISSED_AFTER = timedelta(seconds=30)  # a look that somebody takes every five seconds
KEEP = timedelta(days=1)  # a row of one that did not end cleanly, so that it is missed


@dataclass(frozen=True, slots=True)
class Processes:
    """All that gave a sign of life within a day and did not end cleanly since."""

    alive: list[Heartbeat]
    silent: list[Heartbeat]


def beat(*, name: str, kind: Heartbeat.Kind, started_at: datetime, now: datetime) -> None:
    """This process lives."""
    Heartbeat.objects.update_or_create(name=name[:120], defaults={"kind": kind, "started_at": started_at, "at": now})


def note_look(name: str, now: datetime) -> None:
    """It looks for what is wrong now."""
    Heartbeat.objects.filter(name=name[:120]).update(looked_at=now)


def last_look() -> datetime | None:
    """When any of them looked for what is wrong last."""
    last: datetime | None = Heartbeat.objects.aggregate(last=Max("looked_at"))["last"]
    return last


@dataclass(frozen=True, slots=True)
class Watch:
    """Whether anybody looks for what is wrong, and when that was done last, if a process that did is known."""

    last: datetime | None
    is_kept: bool


def watch(now: datetime) -> Watch:
    """One query."""
    last = last_look()
    return Watch(last, last is not None and last > now - MISSED_AFTER)


def leave(name: str) -> None:
    """It ends now, as it should: nobody misses it."""
    Heartbeat.objects.filter(name=name[:120]).delete()


def alive(now: datetime) -> list[Heartbeat]:
    """The workers and beats that live, by kind and name: one query."""
    return processes(now).alive


def processes(now: datetime) -> Processes:
    """One query."""
    found = Processes([], [])
    for row in Heartbeat.objects.filter(at__gt=now - KEEP):
        (found.alive if row.at > now - ALIVE_FOR else found.silent).append(row)
    return found


def forget(now: datetime) -> None:
    """Drop the rows of those that are gone for a day."""
    Heartbeat.objects.filter(at__lte=now - KEEP).delete()
