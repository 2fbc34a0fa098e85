"""One look or round at a time, at a moment that the test says."""

from datetime import datetime

from django.db import transaction

from monitoring import heartbeats
from monitoring.alerts import conditions, delivering, incidents
from monitoring.alerts.conditions import Condition, Seen, Surroundings
from monitoring.alerts.rules import Key
from monitoring.models import Heartbeat

EVERYTHING_WELL = Surroundings()


def alive(now: datetime, *, worker: bool = True, beat: bool = True) -> None:
    """A worker and a beat have just given a sign of life."""
    for kind, there in ((Heartbeat.Kind.WORKER, worker), (Heartbeat.Kind.BEAT, beat)):
        if there:
            heartbeats.beat(name=f"{kind}@test", kind=kind, started_at=now, now=now)


def wrong(now: datetime, around: Surroundings | None = None, standing: frozenset[Key] = frozenset()) -> dict[Key, str]:
    """What is wrong by the rows at this moment, with its sentence."""
    found = conditions.read(now, standing, around or Surroundings(swept_at=now))
    return {key: condition.sentence for key, condition in found.conditions.items()}


def seen(*found: Condition, blind: frozenset[Key] = frozenset()) -> Seen:
    return Seen({condition.key: condition for condition in found}, blind)


def ill(kind: str = "node_down", number: int = 1, sentence: str = "no route to host") -> Condition:
    return Condition(kind, f"node:{number}", f"node{number}", sentence, "See that it is up.")


def see(now: datetime, *found: Condition, blind: frozenset[Key] = frozenset()) -> incidents.Round:
    """One look that finds this, with what it leads to."""
    with transaction.atomic():
        came = incidents.note(incidents.standing(), seen(*found, blind=blind), now)
        delivering.post(came, now)
    return came
