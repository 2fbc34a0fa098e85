"""Invoices of many at the same instant, each worker with a connection of its own."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from billing import invoices
from billing.models import Invoice, InvoiceSeries, LedgerEntry
from compute import failpoints
from tests.unit.billing.served import make_account, serve
from tests.unit.reservations.test_races import at_once

pytestmark = pytest.mark.django_db(transaction=True)
NOW = datetime(2026, 6, 1, 1, tzinfo=UTC)
MAY = date(2026, 5, 1)
START = datetime(2026, 5, 3, tzinfo=UTC)


def make_accounts(count: int) -> list[int]:
    accounts = [make_account() for _ in range(count)]
    for account in accounts:
        serve(account.workspace, (START, START + timedelta(hours=1)))
    return [account.pk for account in accounts]


def positions() -> list[int]:
    return sorted(Invoice.objects.values_list("position", flat=True))


def test_numbers_have_no_gap_when_many_are_issued_at_once() -> None:
    accounts = make_accounts(12)

    at_once(12, lambda n: invoices.issue(accounts[n], MAY, NOW))

    assert positions() == list(range(1, 13))
    assert InvoiceSeries.objects.get().last_number == 12


def test_numbers_have_no_gap_after_attempts_that_fail_among_others() -> None:
    """Every third attempt fails at its very end; what is issued afterwards fills no gap because there is none."""
    accounts = make_accounts(12)
    calls = iter(range(1000))

    def crash(point: str) -> None:
        if next(calls) % 3 == 0:
            raise RuntimeError(point)

    failpoints.handle(crash)
    try:
        answers = at_once(12, lambda n: invoices.issue(accounts[n], MAY, NOW))
    finally:
        failpoints.handle(None)
    failed = sum(isinstance(answer, RuntimeError) for answer in answers)

    assert failed == 4
    assert positions() == list(range(1, 9))
    invoices.issue_due(NOW)
    assert positions() == list(range(1, 13))


def test_workers_at_once_issue_nothing_twice() -> None:
    make_accounts(6)

    answers = at_once(4, lambda _: len(invoices.issue_due(NOW)))

    assert sum(int(str(answer)) for answer in answers) == 6
    assert positions() == list(range(1, 7))
    assert LedgerEntry.objects.count() == 6


def test_one_workspace_by_many_is_issued_once() -> None:
    (account,) = make_accounts(1)

    answers = at_once(6, lambda _: invoices.issue(account, MAY, NOW))

    assert sorted(str(answer) for answer in answers) == ["INV-2026-000001"] + ["None"] * 5
    assert Invoice.objects.get().total == Decimal("0.50")
