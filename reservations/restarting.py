"""Restarts a container that runs, for somebody who says why: its place, its address and its data stay.

The row is the queue: what was asked for is written down, and the reconcile loop does it. While it is down nothing is
charged.
"""

from datetime import datetime

from django.db import transaction

from accounts import audit
from compute.engine import ContainerEngine
from compute.spec import Observed
from reservations import observing
from reservations.claims import Clock
from reservations.hints import hint_after_commit
from reservations.models import Container, Reservation
from reservations.states import State
from reservations.transitions import PLATFORM, note, transition


class CannotRestart(Exception):
    """There is nothing that could be restarted; the sentence says why."""

    code = "cannot_restart"


def restart(*, reservation: Reservation, by: object, reason: str = "", now: datetime) -> None:
    """Ask for a restart; a second time before it began changes nothing. Raises CannotRestart unless it runs.

    Operators give a `reason`, which its customer reads; a customer needs none.
    """
    with transaction.atomic(durable=True):
        row = Reservation.objects.select_for_update(no_key=True).get(pk=reservation.pk)
        if row.state != State.RUNNING or row.wish == Reservation.Wish.STOP:
            raise CannotRestart(f"Reservation {row.pk} does not run: {row.state_sentence}")
        if row.restart_asked_at is not None:
            return
        Reservation.objects.filter(pk=row.pk).update(restart_asked_at=now, look_at=now)
        asked = f"A restart was asked for by the operators: {reason}" if reason else "A restart was asked for."
        note(row, asked, by=by, now=now)
        audit.record(by=by, action="reservation.restart", target=f"reservation:{row.pk}", reason=reason)
        hint_after_commit(row.pk)


def carry_out(
    reservation: Reservation, container: Container, engine: ContainerEngine, seen: Observed, clock: Clock
) -> None:
    """Stop it and let it be started again. Dying in between, it is stopped again at the next look, which is nothing.

    One that is found ended has not failed by itself: an earlier try stopped it (`observing.stop`).
    """
    served_until = observing.stop(container, engine, seen, clock)
    transition(
        reservation,
        State.STARTING,
        text="It is restarted.",
        by=PLATFORM,
        now=clock(),
        token=reservation.claim_token,
        served_until=served_until,
        restarts=0,
    )
