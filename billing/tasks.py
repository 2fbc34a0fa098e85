"""Hints to billing; every task calls one function."""

from celery import shared_task
from django.utils import timezone

from billing import charging, invoices, mailing, nightly, spending
from compute.alone import one_at_a_time


@shared_task
@one_at_a_time
def settle() -> None:
    charging.settle_due(timezone.now())


@shared_task
@one_at_a_time
def note_budgets() -> None:
    spending.note_budgets(timezone.now())


@shared_task
@one_at_a_time
def issue_invoices() -> None:
    invoices.issue_due(timezone.now())


@shared_task
@one_at_a_time
def mail_invoices() -> None:
    mailing.mail_due(timezone.now)


@shared_task
@one_at_a_time
def audit_ledger() -> None:
    nightly.audit_all(timezone.now())


@shared_task
@one_at_a_time
def tell_of_audit() -> None:
    nightly.tell()
