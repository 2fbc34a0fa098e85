"""Lets a booking end earlier: what it held after its new end is anybody's to book in the same instant.

Only what is still to come is given up: what was served stays paid for, and one step of it is left in any case, so that
whoever looks at it has time to. `actions.end` ends it now.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from accounts import audit
from accounts.models import User
from compute import capacity
from compute.models import Forward
from reservations import actions
from reservations.extending import END_CHANGED, quoted
from reservations.forms import COMMON_MINUTES
from reservations.hints import hint_after_commit
from reservations.models import Container, Reservation
from reservations.states import State
from reservations.transitions import note


class CannotShorten(Exception):
    """It cannot end earlier; the message says why."""

    code = "cannot_shorten"


def shorten(
    *, reservation: Reservation, length: timedelta, by: User, now: datetime, seen_end: datetime | None = None
) -> Reservation:
    """Let it end `length` earlier, at the rates that it was booked with. Returns the row as it is then.

    `seen_end` is the end that somebody chose the length from. Raises InvalidBooking (the length) or CannotShorten (it
    is over, only offered, or has another end by now), and has changed nothing then.
    """
    with transaction.atomic(durable=True):
        row = Reservation.objects.select_for_update(no_key=True).get(pk=reservation.pk)
        _check(row, length, now)
        if seen_end not in {None, row.end}:
            raise CannotShorten(END_CHANGED)
        end = row.end - length
        container = Container.objects.select_related("allocation").get(reservation=row, generation=row.generation)
        capacity.shorten(container.allocation, end)
        capacity.shorten_ports(Forward.objects.filter(endpoint__reservation=row), end + actions.port_rest())
        _write(row, end, by, now)
        hint_after_commit(row.pk)
        return row


@dataclass(frozen=True, slots=True)
class Shortening:
    """One that can be: `price` is that of the whole, `less` what is taken off."""

    length: timedelta
    end: datetime
    price: Decimal
    less: Decimal

    @property
    def minutes(self) -> int:
        return self.length // timedelta(minutes=1)


def choices(reservation: Reservation, now: datetime) -> list[Shortening]:
    """By the common lengths, and to the earliest end that it could have. No query: it keeps its own terms."""
    if refusal(reservation, now):
        return []
    row, step = reservation, timedelta(minutes=settings.BERTH_STEP_MINUTES)
    most = row.end - earliest_end(row, now)
    lengths = {timedelta(minutes=m) for m in COMMON_MINUTES if not timedelta(minutes=m) % step} | {most}
    found = []
    for length in sorted(length for length in lengths if timedelta(0) < length <= most):
        price = quoted(row, row.end - length).price
        found.append(Shortening(length, row.end - length, price, row.price - price))
    return found


def earliest_end(reservation: Reservation, now: datetime) -> datetime:
    """The earliest end that it could have: whole steps before today's, and one step after now or its start."""
    step = timedelta(minutes=settings.BERTH_STEP_MINUTES)
    spare = reservation.end - (max(now, reservation.start) + step)
    return reservation.end - max(spare // step, 0) * step


def refusal(reservation: Reservation, now: datetime) -> str:
    """Why it cannot end earlier, whatever the length; empty when it can."""
    if State(reservation.state).final or reservation.state == State.ENDING or reservation.end <= now:
        return "It is over already."
    if reservation.state == State.OFFERED:
        return "It is only offered yet; take the offer first, or let it lapse."
    return ""


def _check(row: Reservation, length: timedelta, now: datetime) -> None:
    step = timedelta(minutes=settings.BERTH_STEP_MINUTES)
    if problem := refusal(row, now):
        raise CannotShorten(problem)
    if length <= timedelta(0):
        raise actions.InvalidBooking({"hours": "It must end earlier by more than zero."})
    if length % step:
        sentence = f"What is given up must be a multiple of {settings.BERTH_STEP_MINUTES} minutes."
        raise actions.InvalidBooking({"hours": sentence})
    if row.end - length < max(now, row.start) + step:
        since = "now" if row.start <= now else "its start"
        sentence = f"It must go on for {settings.BERTH_STEP_MINUTES} minutes from {since}; delete it to end it sooner."
        raise actions.InvalidBooking({"hours": sentence})


def _write(row: Reservation, end: datetime, by: User, now: datetime) -> None:
    quote, before = quoted(row, end), row.end
    still = Q(end=before) & ~Q(state=State.ENDING)
    # The terms stay: they promise prices, and what they promise for later is nothing that anybody pays.
    # Whoever waits for the old end looks again, and tells the node the new one.
    Reservation.objects.live().filter(still, pk=row.pk).update(end=end, price=quote.price, look_at=now)
    row.refresh_from_db()
    note(row, f"Shortened: it ends {end:%Y-%m-%d %H:%M} UTC.", by=by.username, now=now)
    audit.record(
        by=by,
        action="reservation.shorten",
        target=f"reservation:{row.pk}",
        end=end.isoformat(),
        before=before.isoformat(),
    )
