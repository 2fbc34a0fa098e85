"""One worker at a time works on a reservation: a claim with a token and an expiry, on the row itself."""

import threading
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

from django.db import Error
from django.db.models import Q

from reservations.models import Reservation
from reservations.transitions import Stale

Clock = Callable[[], datetime]
CLAIM_LASTS = timedelta(seconds=150)  # longer than any single call to a machine may take

_owner = ""
_late: dict[UUID, int] = {}  # token to reservation: the database was away when these claims were to be given back
_late_lock = threading.Lock()


def work_as(name: str) -> int:
    """From now on this process claims as the worker `name`; returns how many claims it freed.

    A worker's name is used by one process at a time. What an earlier one of the name had claimed when it died is
    free at once, so that nobody waits for those claims to expire.
    """
    global _owner
    _owner = name[:120]
    return (
        Reservation.objects.exclude(claim_expires_at=None)
        .filter(claim_owner=_owner)
        .update(claim_token=None, claim_expires_at=None)
    )


def claim(reservation_id: int, now: datetime) -> Reservation | None:
    """The reservation, ours until the claim expires; None when it is final or another worker has it."""
    return_late()
    token = uuid.uuid4()
    free = Q(claim_expires_at=None) | Q(claim_expires_at__lte=now)
    try:
        won = (
            Reservation.objects.live()
            .filter(free, pk=reservation_id)
            .update(claim_token=token, claim_expires_at=now + CLAIM_LASTS, claim_owner=_owner)
        )
        return Reservation.objects.select_related("service", "workspace").get(pk=reservation_id) if won else None
    except Error:  # it may be ours all the same, and only the answer was lost
        _remember(reservation_id, token)
        raise


def renew(reservation: Reservation, now: datetime) -> None:
    """Keep the claim while a long step goes on. Raises Stale when it is lost, or the reservation was moved."""
    rows = Reservation.objects.filter(pk=reservation.pk, claim_token=reservation.claim_token, state=reservation.state)
    if not rows.update(claim_expires_at=now + CLAIM_LASTS):
        raise Stale(f"reservation {reservation.pk} was taken over")


def let_go(reservation_id: int, token: UUID | None) -> None:
    """Give the claim back, if it is still ours. If the database is away, that is made up for by `return_late`."""
    try:
        _free(reservation_id, token)
    except Error:
        if token:
            _remember(reservation_id, token)
        raise


def return_late() -> None:
    """Give back what this process could not while the database was away, so that nobody waits for its expiry."""
    with _late_lock:
        late = dict(_late)
    for token, reservation_id in late.items():
        _free(reservation_id, token)
        with _late_lock:
            _late.pop(token, None)


def _free(reservation_id: int, token: UUID | None) -> None:
    Reservation.objects.filter(pk=reservation_id, claim_token=token).update(claim_token=None, claim_expires_at=None)


def _remember(reservation_id: int, token: UUID) -> None:
    with _late_lock:
        _late[token] = reservation_id
