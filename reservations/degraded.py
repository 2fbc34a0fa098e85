"""Volumes that are not well: seen on their nodes, told to the customer, mounted anew when their storage answers.

A file system that met an error takes no more writes, and stays so when its storage is back: it must be unmounted and
mounted again, and its container with it.
"""

import logging
from datetime import datetime, timedelta

from django.db.models import Q, QuerySet

from compute import drivers, storage, volumes
from compute.log_context import about_its_node
from compute.models import Node, StorageServer, Volume
from compute.shell import CommandFailed, NoAnswer
from compute.volumes import Condition
from reservations.claims import Clock, renew
from reservations.hints import hint
from reservations.models import Container, Event, Reservation
from reservations.states import State
from reservations.transitions import PLATFORM, note, transition

logger = logging.getLogger(__name__)
NOT_TWICE_WITHIN = timedelta(minutes=2)
PROBLEMS = {
    Condition.HUNG: "Its storage gives no answer: what reads or writes there waits.",
    Condition.DEAD: "The connection to its storage was lost: reading and writing there fail.",
    Condition.READ_ONLY: "Writing to its storage failed; it can only be read until it is mounted anew.",
    Condition.GONE: "Its storage is not mounted on its node any more.",
}
WILL_HEAL = "It is started again with its storage as soon as that answers."
WELL_AGAIN = "Its storage is well again."
MOUNTED_ANEW = "Its storage had failed and answers again: it is started again, with the storage mounted anew."


def check_server(server: StorageServer, now: datetime) -> None:
    """Probe the storage server; when it has come back, whoever waits for it is looked at."""
    was_well = not server.problem
    if storage.probe(server, now) and not was_well:
        for container in _running().filter(volume__server=server).exclude(volume__problem=""):
            _wake(container.reservation, now)


@about_its_node
def check(node: Node, now: datetime) -> None:
    """Look how the volumes on the node are, and write it down; nothing is concluded when it gives no answer."""
    host = drivers.host(node)
    containers = list(_running().filter(node=node, volume__formatted_at__isnull=False))
    if host is None or not containers:
        return
    attached = [container.volume.spec for container in containers if container.volume]
    try:
        found = volumes.check(host, attached)
    except (NoAnswer, CommandFailed) as problem:
        logger.info("node %s: volumes not looked at: %s", node.name, problem)
        return
    for container in containers:
        _write(container, found.get(str(container.volume), Condition.BUSY), now)


def forget() -> None:
    """What is not in use is not degraded: it is mounted anew before it is used again."""
    Volume.objects.exclude(problem="").exclude(pk__in=_running().values("volume")).update(problem="")


def heal(reservation: Reservation, container: Container, clock: Clock) -> bool:
    """Start it again with its volume mounted anew, if that is not well and its storage answers; True when it moved.

    For a reservation that runs. Raises Stale, and NoAnswer or EngineRefused when the engine does not stop it.
    """
    volume = container.volume
    host = drivers.host(container.node)
    if host is None or volume is None or not volume.problem or not _may_heal(reservation, volume, clock()):
        return False
    try:
        how = volumes.check(host, [volume.spec]).get(volume.machine_name, Condition.BUSY)
        _write(container, how, clock())
        if how in {Condition.WELL, Condition.BUSY, Condition.HUNG} or not volumes.storage_answers(host, volume.spec):
            return False
    except CommandFailed as problem:
        logger.warning("reservation %d: its volume cannot be looked at: %s", reservation.pk, problem)
        return False
    renew(reservation, clock())
    drivers.engine(container.node).stop(container.machine_name, grace_s=10)
    now = clock()
    transition(reservation, State.STARTING, text=MOUNTED_ANEW, by=PLATFORM, now=now, token=reservation.claim_token)
    Volume.objects.filter(pk=volume.pk).update(problem="")
    return True


def _may_heal(reservation: Reservation, volume: Volume, now: datetime) -> bool:
    """Not while its server is known to be silent, and not again and again."""
    if volume.server and volume.server.problem:
        return False
    last = Event.objects.filter(reservation=reservation, text=MOUNTED_ANEW).order_by("-at").first()
    return last is None or now - last.at >= NOT_TWICE_WITHIN


def _running() -> QuerySet[Container]:
    rows = Container.objects.present().current().filter(volume__isnull=False, reservation__state=State.RUNNING)
    return rows.select_related("reservation", "volume__server", "node")


def _write(container: Container, how: Condition, now: datetime) -> None:
    volume = container.volume
    if volume is None or how == Condition.BUSY:
        return
    problem, before = PROBLEMS.get(how, ""), volume.problem
    if problem != before:
        # Two that look at once: the one that writes it tells it.
        if not Volume.objects.filter(pk=volume.pk, problem=before).update(problem=problem):
            return
        volume.problem = problem
        if not (before and problem):
            note(container.reservation, f"{problem} {WILL_HEAL}" if problem else WELL_AGAIN, by=PLATFORM, now=now)
            logger.warning("%s of reservation %d: %s", volume, container.reservation_id, how)
    if problem and how != Condition.HUNG and not (volume.server and volume.server.problem):
        _wake(container.reservation, now)


def _wake(reservation: Reservation, now: datetime) -> None:
    due = Q(look_at=None) | Q(look_at__gt=now)
    Reservation.objects.filter(due, pk=reservation.pk, state=State.RUNNING).update(look_at=now)
    hint(reservation.pk)
