"""Tells a worker to look at something now. Only a hint: sweep and rounds find what a lost one would have done."""

import logging

from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from reservations.models import WaitingEntry

logger = logging.getLogger(__name__)


def hint(reservation_id: int) -> None:
    """Send the hint now. A queue that is down is logged, and no reason to fail."""
    try:
        # By name: the task calls what calls this.
        current_app.send_task("reservations.tasks.reconcile", (reservation_id,), expires=60, retry=False)
    except (OperationalError, RedisError, OSError) as problem:
        logger.warning("reservation %d: no hint could be sent (%s); the sweep will find it", reservation_id, problem)


def hint_after_commit(reservation_id: int) -> None:
    transaction.on_commit(lambda: hint(reservation_id))


def hint_gateway(gateway_id: int, forward_id: int) -> None:
    """Have the gateway brought to what this forward should be; its round would find it within some seconds."""
    try:
        current_app.send_task("compute.tasks.apply_forward", (gateway_id, forward_id), expires=60, retry=False)
    except (OperationalError, RedisError, OSError) as problem:
        logger.warning("gateway %d: no hint could be sent (%s); its round will find it", gateway_id, problem)


def hint_gateway_after_commit(gateway_id: int, forward_id: int) -> None:
    transaction.on_commit(lambda: hint_gateway(gateway_id, forward_id))


def hint_of_room() -> None:
    """Something ended, or somebody joined the waiting list: whoever is first in line may get an offer now."""
    try:
        if WaitingEntry.objects.in_line().exists():
            current_app.send_task("reservations.tasks.offer_waiting", (), expires=2, retry=False)
    except (OperationalError, RedisError, OSError) as problem:
        logger.warning("no hint for the waiting list could be sent (%s); its round will come", problem)


def hint_of_room_after_commit() -> None:
    transaction.on_commit(hint_of_room, robust=True)
