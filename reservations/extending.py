"""Extends a booking past its end, on its node and at its address, if nobody else has what it needs by then."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q

from accounts import audit
from accounts.models import User, Workspace
from compute import capacity
from compute.models import Forward
from reservations import actions, quota
from reservations.hints import hint_after_commit
from reservations.models import Container, Reservation
from reservations.pricing import Quote, Wanted, prices
from reservations.states import State
from reservations.transitions import note

_TAKEN = {
    "forward_public_port_once": "Its address is promised to somebody else after its end.",
    "forward_node_port_once": "Its address is promised to somebody else after its end.",
    "reservation_volume_once": "Its volume is booked by another reservation after its end.",
}


END_CHANGED = "Its end was changed a moment ago. Look at the new one, and choose again."


class CannotExtend(Exception):
    """It cannot go on after its end; the message says why."""

    code = "cannot_extend"


def extend(
    *, reservation: Reservation, length: timedelta, by: User, now: datetime, seen_end: datetime | None = None
) -> Reservation:
    """Let it end `length` later; what is added has today's rates. Returns the row as it is then.

    `seen_end` is the end that somebody chose the length from: with another one by now nothing is added to it.
    Raises InvalidBooking (the length), OverQuota, CannotAfford, NoCapacity (its node is lent to somebody else by
    then) or CannotExtend (it is over, its address or volume is promised, its end is another), and has changed nothing
    then.
    """
    try:
        with transaction.atomic(durable=True):
            row = prolong(reservation=reservation, length=length, by=by, now=now, seen_end=seen_end)
            hint_after_commit(row.pk)
            return row
    except IntegrityError as problem:
        for constraint, sentence in _TAKEN.items():
            if constraint in str(problem):
                raise CannotExtend(sentence) from problem
        raise


def prolong(
    *, reservation: Reservation, length: timedelta, by: User, now: datetime, seen_end: datetime | None = None
) -> Reservation:
    """What `extend` writes, within a transaction of the caller; nobody is told. Raises as `extend` does."""
    workspace = Workspace.objects.select_for_update(no_key=True).get(pk=reservation.workspace_id)
    row = Reservation.objects.select_for_update(no_key=True).get(pk=reservation.pk)
    _check(row, workspace, length, now)
    if seen_end not in {None, row.end}:
        raise CannotExtend(END_CHANGED)
    quote = quoted(row, row.end + length)
    if problem := prices().refusal(wanted(row, row.end + length), quote, reservation_id=row.pk, now=now):
        raise actions.CannotAfford(problem)
    # As in a booking, before the lock of placing.
    if row.kept_volume_id and Reservation.objects.with_volume(row.kept_volume_id, row.end, row.end + length).exists():
        raise CannotExtend(_TAKEN["reservation_volume_once"])
    _hold(row, workspace, row.end + length)
    _write(row, row.end + length, quote, by, now)
    return row


def refusal(row: Reservation, now: datetime) -> str:
    """Why it cannot go on, whatever the length; empty when it may."""
    if State(row.state).final or row.state == State.ENDING or row.end <= now:
        return "It is over already; book it again."
    if row.state == State.OFFERED:
        return "It is only offered yet; take the offer first."
    return ""


def _check(row: Reservation, workspace: Workspace, length: timedelta, now: datetime) -> None:
    step = timedelta(minutes=settings.BERTH_STEP_MINUTES)
    if problem := refusal(row, now):
        raise CannotExtend(problem)
    if length <= timedelta(0):
        raise actions.InvalidBooking({"hours": "The extension must be longer than zero."})
    if length % step:
        sentence = f"The extension must be a multiple of {settings.BERTH_STEP_MINUTES} minutes."
        raise actions.InvalidBooking({"hours": sentence})
    if row.end + length - max(now, row.start) > timedelta(hours=workspace.max_hours):
        sentence = f"At most {workspace.max_hours} hours can be booked ahead; this would make it end later."
        raise actions.InvalidBooking({"hours": sentence})


def _hold(row: Reservation, workspace: Workspace, end: datetime) -> None:
    """Quota, place, ports, in the order in which a booking takes them."""
    own_gb = 0 if row.kept_volume_id else row.storage_gb
    if problem := quota.shortfall(workspace, quota.Hold(row.end, end, row.ram_mib, row.cores, own_gb)):
        raise actions.OverQuota(problem)
    container = Container.objects.select_related("allocation").get(reservation=row, generation=row.generation)
    capacity.extend(container.allocation, end)
    capacity.extend_ports(Forward.objects.filter(endpoint__reservation=row), end + actions.port_rest())


def quoted(row: Reservation, end: datetime) -> Quote:
    """The price of the whole if it ends then, earlier or later: as it was quoted, what is added at today's rates."""
    return prices().quote(wanted(row, end), terms=row.terms, until=row.end)


def wanted(row: Reservation, end: datetime) -> Wanted:
    """What to ask the price of, if it ends then."""
    storage_gb = 0 if row.kept_volume_id else row.storage_gb
    return Wanted(
        workspace_id=row.workspace_id,
        cores=row.cores,
        ram_mib=row.ram_mib,
        storage_gb=storage_gb,
        start=row.start,
        end=end,
    )


def _write(row: Reservation, end: datetime, quote: Quote, by: User, now: datetime) -> None:
    still = Q(end=row.end) & ~Q(state=State.ENDING)
    # Who waits for the old end looks again: a worker that is ending it in this instant finds the new one.
    Reservation.objects.live().filter(still, pk=row.pk).update(
        end=end, price=quote.price, terms=quote.terms, look_at=now
    )
    row.refresh_from_db()
    note(row, f"Extended until {end:%Y-%m-%d %H:%M} UTC.", by=by.username, now=now)
    audit.record(by=by, action="reservation.extend", target=f"reservation:{row.pk}", end=end.isoformat())
