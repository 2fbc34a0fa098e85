"""Hints to the customers' side; every task calls one function."""

from celery import shared_task
from django.core.cache import cache
from django.utils import timezone

from compute.models import Node
from reservations import reconcile as loop
from reservations import watch

SWEPT_AT = "berth:swept-at"  # /readyz and the monitor look at it


@shared_task
def reconcile(reservation_id: int) -> None:
    loop.reconcile(reservation_id)


@shared_task
def sweep() -> None:
    now = timezone.now()
    watch.sweep(now)
    cache.set(SWEPT_AT, now, timeout=None)


@shared_task
def watch_nodes() -> None:
    for node_id in Node.objects.values_list("pk", flat=True):
        watch_node.apply_async((node_id,), expires=10)


@shared_task
def watch_node(node_id: int) -> None:
    node = Node.objects.filter(pk=node_id).first()
    if node:
        watch.watch(node, timezone.now())


@shared_task
def prune() -> None:
    watch.prune(timezone.now())
