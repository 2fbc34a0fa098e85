"""Months of invoices begin and end where the account is, over both changes of the clocks."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from billing import months
from billing.invoices import issue, issue_due
from billing.models import BillingAccount
from tests.unit.billing.served import make_account, serve
from tests.unit.billing.test_invoices import FIRST_OF_JUNE, JUNE, MAY, may

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("zone", "due"),
    [
        ("Pacific/Auckland", datetime(2026, 5, 31, 13, tzinfo=UTC)),  # 1 June 01:00 NZST, UTC+12
        ("UTC", datetime(2026, 6, 1, 1, tzinfo=UTC)),
        ("America/Los_Angeles", datetime(2026, 6, 1, 8, tzinfo=UTC)),  # PDT, UTC-7
        ("Asia/Kathmandu", datetime(2026, 5, 31, 19, 15, tzinfo=UTC)),
    ],
)
def test_invoices_are_issued_an_hour_into_the_month_of_the_accounts_zone(zone: str, due: datetime) -> None:
    account = make_account(time_zone=zone)
    serve(account.workspace, (may(3), may(3, 1)))

    assert issue_due(due - timedelta(seconds=1)) == []
    (invoice,) = issue_due(due)

    assert (invoice.month, invoice.issued_on, invoice.zone) == (MAY, JUNE, zone)


@pytest.mark.parametrize(
    ("zone", "month", "hours"),
    [
        ("America/Los_Angeles", date(2026, 3, 1), 31 * 24 - 1),  # clocks forward on the 8th
        ("America/Los_Angeles", date(2026, 11, 1), 30 * 24 + 1),
        ("Pacific/Auckland", date(2026, 4, 1), 30 * 24 + 1),  # clocks back on the 5th
        ("Pacific/Auckland", date(2026, 9, 1), 30 * 24 - 1),
        ("UTC", date(2028, 2, 1), 29 * 24),
    ],
)
def test_a_whole_month_has_its_hours(zone: str, month: date, hours: int) -> None:
    account = make_account(time_zone=zone)
    start, end = months.stretch(month, account.zone)
    day = timedelta(days=1)
    serve(account.workspace, (start - day, end + day))

    issued = issue_due(end + 40 * day)

    (invoice,) = [invoice for invoice in issued if invoice.month == month]
    assert invoice.total == Decimal(hours) / 2
    assert sum(invoice.total for invoice in issued) == Decimal(hours + 48) / 2


def test_an_account_that_moves_its_zone_pays_each_hour_once() -> None:
    account = make_account()
    serve(account.workspace, (may(1), may(31, 48)))
    first = issue(account.pk, MAY, FIRST_OF_JUNE)
    BillingAccount.objects.filter(pk=account.pk).update(time_zone="Pacific/Auckland")

    rest = issue_due(datetime(2026, 8, 1, tzinfo=UTC))

    assert first is not None
    assert first.total + sum(invoice.total for invoice in rest) == Decimal(32 * 24) / 2
