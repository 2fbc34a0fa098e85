"""Several copies of one booking at once: all of them or none, each a reservation of its own."""

from dataclasses import replace
from datetime import datetime
from uuid import uuid4

from django.db import transaction

from accounts import audit
from accounts.models import User, Workspace
from accounts.permissions import check_user_can_book
from compute.capacity import NoCapacity
from reservations import actions
from reservations.actions import Booking, InvalidBooking
from reservations.hints import hint_after_commit
from reservations.models import IdempotencyKey, Reservation, StorageProfile

MOST_COPIES = 100  # whatever the quota says: nobody else can book while they are placed


def book(
    *,
    booking: Booking,
    copies: int,
    workspace: Workspace,
    by: User,
    now: datetime,
    once: tuple[str, str] | None = None,
) -> list[Reservation]:
    """Book so many of it in one transaction, with one batch id; their names are numbered.

    Raises what `actions.book` raises, InvalidBooking also for `copies`, and has written nothing then. `once` is an
    idempotency key and the body that it came with: the same pair again returns the first reservations.
    """
    if problems := check_copies(copies, booking, workspace):
        raise InvalidBooking(problems)
    if copies == 1:
        return [actions.book(booking=booking, workspace=workspace, by=by, now=now, once=once)[0]]
    try:
        with transaction.atomic(durable=True):
            workspace = Workspace.objects.select_for_update(no_key=True).get(pk=workspace.pk)
            if once and (first := actions.earlier(by, once)):
                return of_batch(first)
            check_user_can_book(by, workspace)
            return _hold(booking, copies, workspace, by, now, once)
    except NoCapacity as none:
        if none.request is None:
            raise
        raise NoCapacity(f"{none} None of the {copies} copies was booked: it is all of them or none.") from None


def _hold(
    booking: Booking, copies: int, workspace: Workspace, by: User, now: datetime, once: tuple[str, str] | None
) -> list[Reservation]:
    batch = uuid4()
    rows = [
        actions.hold(
            booking=replace(booking, name=numbered(booking, number)), workspace=workspace, by=by, now=now, batch=batch
        )
        for number in range(1, copies + 1)
    ]
    if once:
        key, body = once
        IdempotencyKey.objects.create(user=by, key=key, fingerprint=actions.fingerprint(body), reservation=rows[0])
    audit.record(
        by=by, action="reservation.batch", target=f"workspace:{workspace.pk}", batch=str(batch), copies=len(rows)
    )
    for row in rows:
        hint_after_commit(row.pk)
    return rows


def of_batch(first: Reservation) -> list[Reservation]:
    """It with the other copies that were booked together with it."""
    if first.batch is None:
        return [first]
    return list(Reservation.objects.filter(batch=first.batch, workspace=first.workspace_id).order_by("pk"))


def check_copies(copies: int, booking: Booking, workspace: Workspace) -> dict[str, str]:
    """What is wrong with so many copies, at its field; empty when they may be booked at once."""
    most = min(workspace.max_reservations, MOST_COPIES)
    if copies < 1:
        return {"copies": "At least one copy is needed."}
    if copies == 1:
        return {}
    if copies > most:
        return {"copies": f"At most {most} copies can be booked at once in {workspace.name}."}
    if booking.storage.code == StorageProfile.Code.C3:
        return {"copies": "A kept volume serves one reservation at a time: choose C1 or C2 for several copies."}
    if len(numbered(booking, copies)) > 60:
        return {"name": "A name has at most 60 characters, together with its number."}
    return {}


def numbered(booking: Booking, number: int) -> str:
    return f"{booking.name or booking.service.name} {number}"
