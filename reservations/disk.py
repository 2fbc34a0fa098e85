"""The round that stops a reservation whose container has written more than its service allows.

How fast a disk can be filled between two rounds is not limited; see docs/room.md.
"""

import logging
from datetime import datetime

from django.db import transaction

from compute import disk, drivers
from compute.engine import EngineRefused, NoAnswer
from compute.log_context import about_its_node
from compute.models import Node
from compute.shell import CommandFailed
from reservations import actions
from reservations.hints import hint_after_commit
from reservations.models import Container, Reservation
from reservations.states import State
from reservations.transitions import PLATFORM, Stale

logger = logging.getLogger(__name__)
TOO_MANY = "so many files that they cannot be counted, on a disk without room"


@about_its_node
def check(node: Node, now: datetime) -> None:
    """Measure what each container of the node wrote, end those with too much, and note whether its disk has room.

    When the node gives no answer nothing is concluded.
    """
    states = [State.STARTING, State.RUNNING]
    rows = Container.objects.present().current().filter(node=node, reservation__state__in=states)
    containers = {container.machine_name: container for container in rows.select_related("reservation__service")}
    try:
        found = disk.measure(drivers.engine(node), drivers.host(node), containers)
    except (NoAnswer, EngineRefused, CommandFailed) as problem:
        logger.info("node %s: its disk was not looked at: %s", node.name, problem)
        return
    if found.problem != node.disk_problem:
        logger.warning("node %s: %s", node.name, found.problem or "its disk has room again")
        Node.objects.filter(pk=node.pk).update(disk_problem=found.problem[:300])
    for name, mib in found.written_mib.items():
        if mib > containers[name].reservation.service.writes_mib:
            limit = containers[name].reservation.service.writes_mib
            _stop(containers[name].reservation, f"{mib} MiB, and {limit} MiB are allowed", now)
    for name in found.late:
        logger.warning("node %s: the files of %s are too many to be counted in time", node.name, name)
        if found.problem:
            _stop(containers[name].reservation, TOO_MANY, now)


def _stop(reservation: Reservation, what: str, now: datetime) -> None:
    """On the one way that everything is taken down; the customer reads why."""
    text = f"The container wrote more on its own disk than it may: {what}. Data belongs on the volume."
    try:
        with transaction.atomic(durable=True):
            actions.start_ending(reservation, text=text, by=PLATFORM, now=now, failure=text)
            hint_after_commit(reservation.pk)
        logger.warning("reservation %d is ended: %s", reservation.pk, what)
    except Stale:
        logger.info("reservation %d: it moved while its disk was looked at; the next round sees", reservation.pk)
