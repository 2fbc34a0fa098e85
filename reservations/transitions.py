"""The one place that writes `Reservation.state`: guarded by the old state, with its Event, in one transaction."""

import logging
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange  # type: ignore[import-untyped]
from django.db.models import Q
from django.dispatch import Signal

from compute.failpoints import hit
from reservations import states, telling
from reservations.models import Event, Reservation, UsagePeriod
from reservations.states import RULES, State

logger = logging.getLogger(__name__)
PLATFORM = "Berth"  # `by` of what nobody asked for
moved = Signal()  # reservation=, old=, new=, now=: it is so, and committed


class Stale(Exception):
    """Somebody else moved the reservation first, or took over our claim: what we know of it is old."""


def transition(
    reservation: Reservation,
    new: State,
    *,
    text: str,
    by: object,
    now: datetime,
    token: UUID | None = None,
    served_until: datetime | None = None,
    only: Q | None = None,
    **changes: Any,
) -> None:
    """Move to `new`, write its event, open or close the usage period. `text` is shown to the customer.

    With `token` it only happens while that claim holds, with `only` while that is still true of the row.
    `served_until` is when the container was last known to serve: the usage period ends then if that is earlier than
    `now`. Raises Stale when the row is no longer as it was read, and NotAllowed when the table does not have this
    step; nothing is written then.
    """
    old = State(reservation.state)
    states.check(old, new)
    limit = RULES[new].limit
    changes = {
        "state": new,
        "deadline": now + limit if limit else None,
        "look_at": None if new.final else now,
        "reason": "",
        "attempts": 0,
        "progress": None,
        "restart_asked_at": None,  # whatever it does now, it does anew
        **changes,
    }
    if new.final:
        changes |= {"ended_at": now}
    with transaction.atomic():
        rows = Reservation.objects.filter(pk=reservation.pk, state=old)
        if token:
            rows = rows.filter(claim_token=token)
        if only:
            rows = rows.filter(only)
        if not rows.update(**changes):
            raise Stale(f"reservation {reservation.pk} is no longer {old}")
        Event.objects.create(
            reservation=reservation, at=now, old_state=old, new_state=new, text=text[:400], by=str(by)[:80]
        )
        failure = str(changes.get("failure", ""))
        telling.of_transition(reservation, old, new, text=text, by=by, now=now, failure=failure)
        if old == State.RUNNING:
            close_usage(reservation, min(now, served_until or now))
        if new == State.RUNNING:
            UsagePeriod.objects.create(
                reservation=reservation,
                generation=reservation.generation,
                cores=reservation.cores,
                during=DateTimeTZRange(now, None, "[)"),
            )
    for name, value in changes.items():
        setattr(reservation, name, value)
    logger.info("reservation %d: %s → %s: %s", reservation.pk, old, new, text)
    transaction.on_commit(
        lambda: moved.send(Reservation, reservation=reservation, old=old, new=new, now=now), robust=True
    )
    hit(f"moved-to-{new}")


def close_usage(reservation: Reservation, until: datetime) -> None:
    """End the open usage period, never after the booked end: what runs on because we are late is free.

    The end as it is now: it may have been shortened since `reservation` was read.
    """
    periods = UsagePeriod.objects.select_related("reservation")
    for period in periods.filter(reservation=reservation, during__endswith=None):
        start = period.during.lower
        upper = min(until, period.reservation.end)
        if upper > start:
            period.during = DateTimeTZRange(start, upper, "[)")
            period.save(update_fields=["during"])
        else:
            period.delete()


def note(reservation: Reservation, text: str, *, by: object, now: datetime) -> None:
    """Write something into the history that is no transition."""
    Event.objects.create(reservation=reservation, at=now, text=text[:400], by=str(by)[:80])
