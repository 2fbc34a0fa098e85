"""Hints to the customers' side; every task calls one function."""

import logging
from datetime import datetime

from celery import shared_task
from django.core.cache import cache
from django.utils import timezone
from redis.exceptions import RedisError

from accounts import farewell, mailing, news
from compute import clocks
from compute.alone import one_at_a_time
from compute.models import Node, StorageServer
from reservations import claims, degraded, disk, leftovers, offering, warnings, watch
from reservations import reconcile as loop

logger = logging.getLogger(__name__)
SWEPT_AT = "berth:swept-at"  # /readyz and the monitor look at it


def last_sweep() -> datetime | None:
    """When a worker swept last; None when that is not known, Redis being down included."""
    try:
        found: datetime | None = cache.get(SWEPT_AT)
    except RedisError as problem:
        logger.warning("the time of the last sweep cannot be read: %s", problem)
        return None
    return found


@shared_task
def reconcile(reservation_id: int) -> None:
    loop.reconcile(reservation_id)


@shared_task
def sweep() -> None:
    claims.return_late()
    now = timezone.now()
    watch.sweep(now)
    try:
        cache.set(SWEPT_AT, now, timeout=None)
    except RedisError as problem:
        logger.warning("the time of the sweep cannot be kept: %s", problem)


@shared_task
def offer_waiting() -> None:
    if not clocks.is_off():
        _offer_waiting()


@one_at_a_time
def _offer_waiting() -> None:
    offering.look_after(timezone.now())


@shared_task
def offer_later() -> None:
    if not clocks.is_off():
        _offer_later()


@one_at_a_time
def _offer_later() -> None:
    offering.offer_later(timezone.now())


@shared_task
def watch_nodes() -> None:
    for node_id in Node.objects.answering().values_list("pk", flat=True):
        watch_node.apply_async((node_id,), expires=10)


@shared_task
@one_at_a_time
def watch_node(node_id: int) -> None:
    node = Node.objects.filter(pk=node_id).first()
    if node:
        watch.watch(node, timezone.now())


@shared_task
def sweep_volumes() -> None:
    for node_id in Node.objects.well().with_ssh().values_list("pk", flat=True):
        sweep_volumes_of.apply_async((node_id,), expires=60)
    _sweep_servers()


@one_at_a_time
def _sweep_servers() -> None:
    leftovers.remove_deleted()
    leftovers.sweep_servers()


@shared_task
@one_at_a_time
def sweep_volumes_of(node_id: int) -> None:
    node = Node.objects.filter(pk=node_id).first()
    if node:
        leftovers.sweep(node, timezone.now())


@shared_task
def check_disks() -> None:
    for node_id in Node.objects.well().values_list("pk", flat=True):
        check_disk.apply_async((node_id,), expires=20)


@shared_task
@one_at_a_time
def check_disk(node_id: int) -> None:
    node = Node.objects.filter(pk=node_id).first()
    if node:
        disk.check(node, timezone.now())


@shared_task
def check_storage() -> None:
    """Look at every storage server and every node's volumes, each by a task of its own."""
    for server_id in StorageServer.objects.filter(active=True).values_list("pk", flat=True):
        check_server.apply_async((server_id,), expires=15)
    for node_id in Node.objects.well().with_ssh().values_list("pk", flat=True):
        check_volumes_of.apply_async((node_id,), expires=15)
    degraded.forget()


@shared_task
@one_at_a_time
def check_server(server_id: int) -> None:
    server = StorageServer.objects.filter(pk=server_id).first()
    if server:
        degraded.check_server(server, timezone.now())


@shared_task
@one_at_a_time
def check_volumes_of(node_id: int) -> None:
    node = Node.objects.filter(pk=node_id).first()
    if node:
        degraded.check(node, timezone.now())


@shared_task
@one_at_a_time
def warn_of_ends() -> None:
    warnings.warn_of_ends(timezone.now())


@shared_task
@one_at_a_time
def mail_news() -> None:
    """Here and not with the accounts, which know nothing of `compute.alone`."""
    mailing.mail_due(timezone.now)
    farewell.mail_due(timezone.now)


@shared_task
def prune() -> None:
    watch.prune(timezone.now())
    news.prune(timezone.now())
