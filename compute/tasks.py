"""Hints from the timetable to the machines' side."""

import logging

from celery import shared_task
from django.utils import timezone

from compute import forwarding, health
from compute.models import Gateway, Node
from compute.shell import CommandFailed, NoAnswer

logger = logging.getLogger(__name__)


@shared_task
def probe() -> None:
    """Look at every node, each by a task of its own: a hanging one holds up no other."""
    for node_id in Node.objects.present().values_list("pk", flat=True):
        probe_node.apply_async((node_id,), expires=10)


@shared_task
def probe_node(node_id: int) -> None:
    node = Node.objects.filter(pk=node_id).first()
    if node:
        health.probe(node, timezone.now())


@shared_task
def check_gateways() -> None:
    for gateway in Gateway.objects.all():
        try:
            forwarding.check(gateway, timezone.now())
        except (CommandFailed, NoAnswer) as problem:
            logger.warning("gateway %s could not be checked: %s", gateway.name, problem)
