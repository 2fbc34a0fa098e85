"""A node that will never come back: somebody who knows says so, and what it held is given up."""

from datetime import datetime

from django.db import transaction
from django.db.models import F

from accounts import audit
from compute.capacity import NoCapacity
from compute.models import Node
from reservations import actions, claims, ending, moving, starting
from reservations.models import Container, Reservation
from reservations.states import PLANNED, State


class Busy(Exception):
    """A worker has one of the reservations in its hands; nothing was done to it."""


def declare_lost(*, node: Node, by: object, now: datetime) -> int:
    """Take everything on the node to be gone; returns how many reservations were ended as failed by it.

    Local volumes are lost. Remote ones are free for the next node: their multi-mount protection still refuses it
    should the lost node be writing after all.
    """
    ended = _place_anew(node, by, now)
    rows = Container.objects.select_related("reservation", "allocation", "volume__server")
    for container in rows.present().filter(node=node):
        with transaction.atomic(durable=True):
            reservation = container.reservation
            current = container.generation == reservation.generation
            if current and reservation.is_live and reservation.state != State.ENDING:
                text = f"Its node {node.name} was lost."
                actions.start_ending(
                    reservation, text=text, by=by, now=now, served_until=container.observed_at, failure=text
                )
                ended += 1
            ending.note_gone(container, now)
    with transaction.atomic(durable=True):
        audit.record(by=by, action="node.lost", target=f"node:{node.pk}", name=node.name, ended=ended)
    return ended


def _place_anew(node: Node, by: object, now: datetime) -> int:
    """What was booked or offered there gets a place on another node; returns how many found none and were ended."""
    ended = 0
    waiting = Reservation.objects.filter(
        state__in=PLANNED, containers__node=node, containers__gone_at=None, generation=F("containers__generation")
    )
    for found in waiting.values_list("pk", flat=True):
        reservation = claims.claim(found, now)
        if reservation is None:
            raise Busy(f"Reservation {found} is being looked at in this moment; try again.")
        try:
            container = starting.container_of(reservation)
            moving.move(reservation, container, f"its node {node.name} was lost", now)
        except NoCapacity as none:
            text = f"Its node {node.name} was lost, and no other has room: {none}"
            with transaction.atomic(durable=True):
                actions.start_ending(reservation, text=text, by=by, now=now, failure=text[:400])
            ended += 1
        finally:
            claims.let_go(reservation.pk, reservation.claim_token)
    return ended
