"""Incidents: what is wrong becomes a row, pending at first; told when it lasts, and told to be over when it healed.

One incident is one row and one message. Something that comes back before it was away for its clearing time is the same
incident; what heals while it is pending is forgotten. What comes and goes all the time (`rules.FLAPS`) is one incident
until it was away for long.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import cast

from django.db import transaction
from django.db.models import Count
from django.utils import timezone

from accounts import audit
from accounts.models import User
from compute.models import Node
from monitoring.alerts.conditions import Condition, Seen
from monitoring.alerts.rules import FLAPS, FLAPS_WITHIN, RULES, Key, Step, step
from monitoring.models import Incident

KEEP = timedelta(days=400)
REMOVED = "It was taken out of the fleet."
SEEN_ANEW = ["name", "severity", "sentence", "mend", "path"]


@dataclass(slots=True)
class Round:
    """What one look came to: who must be told of what."""

    opened: list[Incident] = field(default_factory=list)
    closed: list[Incident] = field(default_factory=list)


def standing() -> dict[Key, Incident]:
    """All that are pending or open."""
    return {(row.kind, row.subject): row for row in Incident.objects.filter(closed_at=None).order_by("pk")}


def note(rows: dict[Key, Incident], seen: Seen, now: datetime) -> Round:
    """Bring the rows (`standing`) to what was seen, within the caller's transaction; who is to be told of what."""
    came = Round()
    flapping = _flapping(now) if rows else frozenset()
    restarted: list[Incident] = []
    last_seen: list[Incident] = []
    forgotten: list[Incident] = []
    for key, row in rows.items():
        condition = seen.conditions.get(key)
        if condition is None and row.opened_at and seen.cannot_tell(*key):
            last_seen.append(row)  # it is taken to be as it was
            continue
        match _step(row, condition, key in flapping, now):
            case Step.OPEN:
                came.opened.append(row)
            case Step.CLOSE:
                came.closed.append(row)
            case Step.FORGET:
                forgotten.append(row)
            case Step.RESTART:
                restarted.append(row)
        if condition:
            last_seen.append(row)
    _write(rows, seen, last_seen, restarted, now)
    Incident.objects.filter(pk__in=[row.pk for row in forgotten], opened_at=None).delete()
    came.opened += _begin([seen.conditions[key] for key in seen.conditions.keys() - rows.keys()], now)
    _stamp(came, now)
    came.closed = [row for row in came.closed if row.kind in RULES]
    return came


def _step(row: Incident, condition: Condition | None, flapping: bool, now: datetime) -> Step:
    rule = RULES.get(row.kind)
    if rule is None:  # of another version of Berth
        return Step.CLOSE if row.opened_at else Step.FORGET
    return step(
        rule,
        first_seen_at=row.first_seen_at,
        last_seen_at=row.last_seen_at,
        is_open=row.opened_at is not None,
        seen=condition is not None,
        now=now,
        flapping=flapping,
    )


def _flapping(now: datetime) -> frozenset[Key]:
    lately = Incident.objects.filter(opened_at__gt=now - FLAPS_WITHIN).order_by()
    often = lately.values("kind", "subject").annotate(times=Count("pk")).filter(times__gte=FLAPS)
    return frozenset((row["kind"], row["subject"]) for row in often)


def _begin(conditions: Iterable[Condition], now: datetime) -> list[Incident]:
    """New ones, pending; returned are those that are told at once."""
    made = []
    for found in sorted(conditions, key=lambda condition: (condition.kind, condition.name)):
        row = Incident(kind=found.kind, subject=found.subject, first_seen_at=now, last_seen_at=now)
        _describe(row, found)
        made.append(row)
    Incident.objects.bulk_create(made)
    return [row for row in made if not RULES[row.kind].opens_after]


def _describe(row: Incident, found: Condition) -> bool:
    """Write down how it looks now; whether that is another look than before."""
    looks = {
        "name": found.name[:120],
        "severity": RULES[found.kind].severity,
        "sentence": " ".join(found.sentence.split())[:400],
        "mend": found.mend[:400],
        "path": found.path[:200],
    }
    changed = any(getattr(row, name) != value for name, value in looks.items())
    for name, value in looks.items():
        setattr(row, name, value)
    return changed


def _write(
    rows: dict[Key, Incident], seen: Seen, last_seen: list[Incident], restarted: list[Incident], now: datetime
) -> None:
    Incident.objects.filter(pk__in=[row.pk for row in last_seen]).update(last_seen_at=now)
    Incident.objects.filter(pk__in=[row.pk for row in restarted]).update(first_seen_at=now)
    other = [rows[key] for key, found in seen.conditions.items() if key in rows and _describe(rows[key], found)]
    if other:
        Incident.objects.bulk_update(other, SEEN_ANEW)
    for row in last_seen:
        row.last_seen_at = now


def _stamp(came: Round, now: datetime) -> None:
    for row in came.opened:
        row.opened_at = now
    for row in came.closed:
        row.closed_at = now
    Incident.objects.filter(pk__in=[row.pk for row in came.opened]).update(opened_at=now)
    Incident.objects.filter(pk__in=[row.pk for row in came.closed]).update(closed_at=now)
    _note_removed([row for row in came.closed if row.subject.startswith("node:")])


def _note_removed(closed: list[Incident]) -> None:
    """What is over since its node was taken out of the fleet says so: nobody knows whether it is well."""
    if not closed:
        return
    removed = {f"node:{pk}" for pk in Node.objects.filter(state=Node.State.REMOVED).values_list("pk", flat=True)}
    gone = [row for row in closed if row.subject in removed]
    for row in gone:
        row.sentence = f"{REMOVED} {row.sentence}"[:400]
    Incident.objects.bulk_update(gone, ["sentence"])


def forget(now: datetime) -> int:
    """Drop what was over more than a year ago, with its messages; how many."""
    old = Incident.objects.filter(closed_at__lt=now - KEEP)
    count = old.count()
    old.delete()
    return count


# ---- what people read and do ------------------------------------------------------------------------------------


def open_now() -> list[Incident]:
    """Those that were told and are not over, the gravest and newest first: one query."""
    order = list(Incident.Severity.values)
    rows = Incident.objects.open().select_related("acknowledged_by")
    return sorted(rows, key=lambda row: (order.index(row.severity), -cast(datetime, row.opened_at).timestamp()))


def title(row: Incident) -> str:
    """As "node1 is down"."""
    return _in_words(row, RULES[row.kind].title if row.kind in RULES else "{}: " + row.kind)


def over_title(row: Incident) -> str:
    """As "node1 is back"."""
    if row.sentence.startswith(REMOVED):
        return f"{row.name} was removed"
    return _in_words(row, RULES[row.kind].over if row.kind in RULES else "{}: over")


def _in_words(row: Incident, text: str) -> str:
    words = text.format(row.name)
    return words[:1].upper() + words[1:] if not text.startswith("{}") else words


class IsOver(Exception):
    """The incident is closed: there is nothing to acknowledge. The message is for people."""


def acknowledge(*, incident: Incident, by: User, note: str = "", now: datetime | None = None) -> None:
    """Somebody has seen it and looks after it. Nothing else changes: it is told when it is over. Raises IsOver."""
    with transaction.atomic(durable=True):
        rows = Incident.objects.open().filter(pk=incident.pk)
        if not rows.update(acknowledged_at=now or timezone.now(), acknowledged_by=by, note=note[:400]):
            raise IsOver("It is over already.")
        _record(by, "incident.acknowledge", incident, note=note[:400])


def unacknowledge(*, incident: Incident, by: User) -> None:
    """Nobody looks after it any more. Raises IsOver."""
    with transaction.atomic(durable=True):
        rows = Incident.objects.open().filter(pk=incident.pk)
        if not rows.update(acknowledged_at=None, acknowledged_by=None, note=""):
            raise IsOver("It is over already.")
        _record(by, "incident.unacknowledge", incident)


def _record(by: object, action: str, incident: Incident, **data: object) -> None:
    audit.record(by=by, action=action, target=f"incident:{incident.pk}", title=title(incident), **data)
