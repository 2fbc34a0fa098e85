"""Moves a reservation to another node: from one that fell silent, was lost, or is being emptied, or as asked.

A move is a new generation. The old one keeps its allocation until it was seen to be gone, and is never billed.
"""

import logging
from collections.abc import Collection
from datetime import datetime

from django.db import transaction

from accounts import audit
from compute import capacity, forwarding
from compute.capacity import NoCapacity, PortRequest
from compute.models import Forward, Gateway, Node
from compute.scheduler import Request
from compute.shell import CommandFailed, NoAnswer
from reservations import actions, telling
from reservations.claims import renew
from reservations.models import Container, Endpoint, Reservation
from reservations.states import PLANNED, State
from reservations.transitions import PLATFORM, note, transition

logger = logging.getLogger(__name__)
# In the history of what was moved; reports count them by these (monitoring/reports.py).
MOVED = "it is started on another node."
LOST_DATA = "What was on its local volume is lost."


def must_stay(container: Container) -> bool:
    """Whether it cannot leave its node without losing something: its data is on the disk of that."""
    return container.volume is not None and container.volume.server_id is None


def move(
    reservation: Reservation,
    old: Container,
    why: str,
    now: datetime,
    *,
    served_until: datetime | None = None,
    exclude: Collection[int] = (),
    by: object = PLATFORM,
) -> Node:
    """A new generation on another node, with the same public address where the node shares the gateway; that node.

    One that runs is `starting` from then on; nothing is served until it answers there. `served_until` is when the old
    one was last known to serve, `exclude` are nodes that it must not come to either. What somebody asked for (`by`)
    has its audit row. Raises NoCapacity or Stale, and has changed nothing then.
    """
    start, remote = max(now, reservation.start), actions.needs_host(reservation.storage)
    request = Request(reservation.ram_mib, reservation.cores, start, reservation.end, remote)
    text = f"{why[0].upper()}{why[1:]}; {MOVED}"
    if must_stay(old):
        text += f" {LOST_DATA}"
    with transaction.atomic(durable=True):
        renew(reservation, now)
        allocation, _ = capacity.place(request, [], rest=actions.port_rest(), exclude={old.node_id, *exclude})
        if reservation.state not in PLANNED and (wait := capacity.take(allocation, now)):
            raise NoCapacity(wait, None)
        if old.allocation.taken_at is None:
            capacity.release(old.allocation, now)
            Container.objects.filter(pk=old.pk).update(gone_at=now)
        reservation.generation += 1
        Container.objects.create(
            reservation=reservation,
            generation=reservation.generation,
            node=allocation.node,
            allocation=allocation,
        )
        left_behind = _move_forwards(reservation, old, allocation.node, now)
        Reservation.objects.filter(pk=reservation.pk, claim_token=reservation.claim_token).update(
            generation=reservation.generation, attempts=0, restarts=0
        )
        if reservation.state == State.RUNNING:
            transition(
                reservation,
                State.STARTING,
                text=text,
                by=by,
                now=now,
                token=reservation.claim_token,
                served_until=served_until,
            )
        else:
            note(reservation, text, by=by, now=now)
        telling.moved(reservation, text, now=now, by=by)
        if by != PLATFORM:
            places = {"from": old.node.name, "to": allocation.node.name}
            audit.record(by=by, action="reservation.move", target=f"reservation:{reservation.pk}", **places)
        reservation.attempts = 0
    if left_behind:
        _cut(old.node.gateway, left_behind)
    return allocation.node


def _cut(gateway: Gateway, forwards: list[Forward]) -> None:
    """The gateway that it leaves leads nowhere with these any more; or does so with its next round."""
    try:
        forwarding.sync(gateway, only_for=[forward.pk for forward in forwards])
    except (NoAnswer, CommandFailed) as problem:
        logger.warning("gateway %s: what moved away is not cut yet: %s", gateway.name, problem)


def _move_forwards(reservation: Reservation, old: Container, node: Node, now: datetime) -> list[Forward]:
    """The same public ports lead to the new node; behind another gateway they become other ones. Those left behind."""
    endpoints = list(Endpoint.objects.select_related("forward__gateway").filter(reservation=reservation))
    if node.gateway_id == old.node.gateway_id:
        capacity.turn_ports(Forward.objects.filter(endpoint__in=endpoints), node)
        return []
    ports = [PortRequest(e.name, e.kind, e.container_port, tuple(e.forward.allowed_sources)) for e in endpoints]
    fresh = capacity.lend_ports(node, ports, max(now, reservation.start), reservation.end + actions.port_rest())
    left_behind = [endpoint.forward for endpoint in endpoints]
    for endpoint, forward in zip(endpoints, fresh, strict=True):
        endpoint.forward = forward
        endpoint.save(update_fields=["forward"])
    capacity.release_ports(left_behind, now, actions.port_rest())
    return left_behind
