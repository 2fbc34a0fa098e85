"""Hints to billing; every task calls one function."""

from celery import shared_task
from django.utils import timezone

from billing import charging, spending
from compute.alone import one_at_a_time


@shared_task
@one_at_a_time
def settle() -> None:
    charging.settle_due(timezone.now())


@shared_task
@one_at_a_time
def note_budgets() -> None:
    spending.note_budgets(timezone.now())
