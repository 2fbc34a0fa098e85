"""A node that will never come back: somebody who knows says so, and what it held is given up."""

from datetime import datetime

from django.db import transaction

from accounts import audit
from compute import capacity
from compute.models import Node, Volume
from reservations import actions
from reservations.models import Container
from reservations.states import State


def declare_lost(*, node: Node, by: object, now: datetime) -> int:
    """Take everything on the node to be gone; returns how many reservations were ended as failed by it.

    Local volumes are lost. Remote ones are free for the next node: their multi-mount protection still refuses it
    should the lost node be writing after all.
    """
    ended = 0
    for container in Container.objects.filter(node=node, gone_at=None).select_related("reservation", "allocation"):
        with transaction.atomic(durable=True):
            reservation = container.reservation
            current = container.generation == reservation.generation
            if current and reservation.is_live and reservation.state != State.ENDING:
                text = f"Its node {node.name} was lost."
                actions.start_ending(
                    reservation, text=text, by=by, now=now, served_until=container.observed_at, failure=text
                )
                ended += 1
            capacity.release(container.allocation, now)
            Container.objects.filter(pk=container.pk).update(gone_at=now, presence="absent")
            if container.volume_id:
                Volume.objects.filter(pk=container.volume_id, server=None).update(state=Volume.State.REMOVED, node=None)
                Volume.objects.filter(pk=container.volume_id, node=node).update(state=Volume.State.DETACHED, node=None)
    with transaction.atomic(durable=True):
        audit.record(by=by, action="node.lost", target=f"node:{node.pk}", name=node.name, ended=ended)
    return ended
