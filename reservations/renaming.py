"""Gives a reservation another name, by which its owners recognise it. Nothing on a machine is called by it."""

from datetime import datetime

from django.core.exceptions import ValidationError
from django.db import transaction

from accounts import audit
from accounts.models import User
from accounts.validators import no_control_characters
from reservations.actions import InvalidBooking
from reservations.models import Reservation
from reservations.transitions import note

LONGEST = 60


def rename(*, reservation: Reservation, name: str, by: User, now: datetime) -> bool:
    """Call it so from now on, or by its service when `name` is empty; False when it is called so already.

    Raises InvalidBooking with the sentence at `name`, and has changed nothing then.
    """
    name = name.strip()
    check(name)
    with transaction.atomic(durable=True):
        rows = Reservation.objects.select_related("service")
        row = rows.select_for_update(of=("self",), no_key=True).get(pk=reservation.pk)
        if row.name == name:
            return False
        before = row.title
        Reservation.objects.filter(pk=row.pk).update(name=name)
        row.name = name
        note(row, f"Renamed from {before} to {row.title}.", by=by.username, now=now)
        audit.record(by=by, action="reservation.rename", target=f"reservation:{row.pk}", before=before, name=name)
    return True


def check(name: str) -> None:
    """Raises InvalidBooking with why nothing can be called so."""
    if len(name) > LONGEST:
        raise InvalidBooking({"name": f"A name has at most {LONGEST} characters; this one has {len(name)}."})
    try:
        no_control_characters(name)
    except ValidationError as problem:
        raise InvalidBooking({"name": problem.messages[0]}) from problem
