"""The sweep and the rounds: finds what is due, what drifted and what nobody owns."""

import logging
from datetime import datetime, timedelta

from django.db import models, transaction
from django.db.models import Q

from compute import drivers
from compute.engine import EngineRefused, NoAnswer
from compute.health import brake, welcome_back
from compute.log_context import about_its_node
from compute.models import Forward, Node
from compute.shell import CommandFailed
from compute.spec import Observed, Presence
from reservations import ending, orphans
from reservations.hints import hint
from reservations.models import Container, IdempotencyKey, Reservation
from reservations.states import PLANNED, State

logger = logging.getLogger(__name__)
AT_ONCE = 200
HINTED_FOR = timedelta(seconds=10)  # a hint that is not followed within this was lost: send it again
KEEP_KEYS = timedelta(days=1)


def sweep(now: datetime) -> int:
    """Send a hint for every reservation that is due; how many. Two sweeps at once share the work."""
    _nudge(now)
    with transaction.atomic():
        due = list(
            Reservation.objects.due(now)
            .select_for_update(skip_locked=True, no_key=True)
            .values_list("pk", flat=True)[:AT_ONCE]
        )
        Reservation.objects.filter(pk__in=due).update(look_at=now + HINTED_FOR)
    for reservation_id in due:
        hint(reservation_id)
    return len(due)


def _nudge(now: datetime) -> None:
    """What runs on a lost node, or has a place on one that is being emptied, is due now and not at its end."""
    leaving = Node.objects.present().filter(Q(health=Node.Health.LOST) | Q(state=Node.State.DRAINING))
    nodes = dict(leaving.values_list("pk", "health"))
    if not nodes:
        return
    current = Container.objects.present().current().filter(node__in=nodes)
    lost = current.filter(node__health=Node.Health.LOST, reservation__state=State.RUNNING)
    soon = now + timedelta(seconds=60)  # these look again by themselves more often, and are not to be hurried
    leaving_later = current.filter(node__state=Node.State.DRAINING, reservation__look_at__gt=soon)
    leaving_later = leaving_later.filter(reservation__state__in=[State.RUNNING, *PLANNED])
    found = [*lost.values_list("reservation", flat=True), *leaving_later.values_list("reservation", flat=True)]
    Reservation.objects.live().filter(pk__in=found, look_at__gt=now).update(look_at=now)


def wake(node: Node, now: datetime) -> None:
    """The node answers again: whoever tried in vain and pauses now is looked at at once."""
    there = Container.objects.present().filter(node=node).values("reservation")
    waiting = Reservation.objects.live().filter(pk__in=there, attempts__gt=0, look_at__gt=now)
    waiting.update(look_at=now, attempts=0)


@about_its_node
def watch(node: Node, now: datetime) -> None:
    """Compare what is on the node with the rows: hint what drifted, remove what is nobody's.

    When the node gives no answer nothing is concluded; when most nodes give none, nothing is removed anywhere.
    """
    try:
        engine = drivers.engine(node)
        found = engine.list_ours()
        traces = engine.list_traces()
    except (NoAnswer, EngineRefused) as problem:
        logger.info("node %s: not compared: %s", node.name, problem)
        return
    by_name = {observed.name: observed for observed in found}
    _note_running(node, by_name, now)
    _hint_drifted(node, by_name, now)
    if brake(now):
        return
    clean = _remove_left_behind(node, now)
    orphans.remove(node, traces, by_name, now)
    if clean and node.health == Node.Health.RETURNING:
        welcome_back(node, now)


def _note_running(node: Node, by_name: dict[str, Observed], now: datetime) -> None:
    """What was seen to run has served until now: if it is found ended later, it is paid for until its last sight."""
    seen = [
        container.pk
        for container in Container.objects.present().filter(node=node)
        if container.machine_name in by_name and by_name[container.machine_name].presence == Presence.RUNNING
    ]
    older = Q(observed_at=None) | Q(observed_at__lt=now)  # a look of the reconcile loop may be newer than this list
    Container.objects.filter(older, pk__in=seen).update(presence=Presence.RUNNING, observed_at=now)


def _hint_drifted(node: Node, by_name: dict[str, Observed], now: datetime) -> None:
    running = Container.objects.present().current().filter(node=node, reservation__state=State.RUNNING)
    for container in running.select_related("reservation"):
        seen = by_name.get(container.machine_name)
        if seen is None or seen.presence != Presence.RUNNING:
            logger.warning("%s on %s should run but does not", container, node.name)
            Reservation.objects.filter(pk=container.reservation_id, state=State.RUNNING).update(look_at=now)
            hint(container.reservation_id)


def left_behind(node: Node) -> "models.QuerySet[Container]":
    """Containers of an older generation that the rounds remove."""
    rows = Container.objects.left_behind().filter(node=node)
    rows = rows.select_related("node", "allocation", "volume__server", "reservation")
    if node.health == Node.Health.OK:
        # It is moving away: whoever starts the new one stops the old one by itself, late and with a grace.
        rows = rows.exclude(reservation__state=State.STARTING)
    return rows


def _remove_left_behind(node: Node, now: datetime) -> bool:
    """Containers of an older generation: their node answers again, so they go first. Whether none is left."""
    clean = True
    for container in left_behind(node):
        try:
            ending.remove_container(container, lambda: now)
            logger.info("removed %s, left behind on %s", container, node.name)
        except (NoAnswer, EngineRefused, CommandFailed) as problem:
            logger.warning("%s on %s could not be removed yet: %s", container, node.name, problem)
            clean = False
    return clean


def prune(now: datetime) -> None:
    """Drop what is kept for a time only: idempotency keys, ports and places that nothing refers to."""
    IdempotencyKey.objects.filter(created_at__lt=now - KEEP_KEYS).delete()
    Forward.objects.filter(endpoint=None, released_at__lt=now - timedelta(days=1)).delete()
