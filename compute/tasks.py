"""Hints from the timetable to the machines' side."""

import logging
from datetime import datetime

from celery import shared_task
from django.utils import timezone

from compute import forwarding, guarding, health, readings, rollups, sampling
from compute.alone import one_at_a_time
from compute.models import Gateway, Node
from compute.shell import CommandFailed, NoAnswer

logger = logging.getLogger(__name__)


@shared_task
def probe() -> None:
    """Look at every node, each by a task of its own: a hanging one holds up no other."""
    # In another order each time: where there are more than can be probed, nobody is always the last.
    for node_id in Node.objects.present().order_by("?").values_list("pk", flat=True):
        probe_node.apply_async((node_id,), expires=5)


@shared_task
def probe_node(node_id: int) -> None:
    node = health.claim_probe(node_id, timezone.now())
    if node:
        try:
            health.probe(node, timezone.now())
        finally:
            health.let_go(node)


@shared_task
def begin_sampling() -> None:
    """Begin the round of readings that is due, if nobody did: each part of the nodes by a task of its own."""
    at, parts = sampling.begin_round(timezone.now())
    for node_ids in parts:
        sample.apply_async((node_ids, at.isoformat()), expires=readings.EVERY_S)


@shared_task
def sample(node_ids: list[int], at: str) -> None:
    sampling.sample(node_ids, datetime.fromisoformat(at), timezone.now())


@shared_task
@one_at_a_time
def roll_up_samples() -> None:
    rollups.roll_up(timezone.now())


@shared_task
@one_at_a_time
def prune_samples() -> None:
    sampling.prune(timezone.now())


@shared_task
def check_gateways() -> None:
    for gateway in Gateway.objects.all():
        try:
            forwarding.check(gateway, timezone.now())
        except (CommandFailed, NoAnswer) as problem:
            logger.warning("gateway %s could not be checked: %s", gateway.name, problem)


@shared_task
def apply_forward(gateway_id: int, forward_id: int) -> None:
    """Somebody changed what this forward should be; many at once are one apply."""
    try:
        forwarding.sync(Gateway.objects.get(pk=gateway_id), only_for=[forward_id])
    except (CommandFailed, NoAnswer) as problem:
        logger.warning("gateway %d: its round will try again: %s", gateway_id, problem)


@shared_task
def check_guards() -> None:
    """Look at every answering node's own timer and firewall, each by a task of its own."""
    for node_id in Node.objects.answering().order_by("?").values_list("pk", flat=True):
        check_guard.apply_async((node_id,), expires=50)


@shared_task
@one_at_a_time
def check_guard(node_id: int) -> None:
    node = Node.objects.present().select_related("gateway").filter(pk=node_id).first()
    if node:
        guarding.watch(node, timezone.now())
