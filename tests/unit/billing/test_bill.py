"""What a workspace had spent and owed at an instant of the past, whatever happened since."""

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.management import CommandError, call_command

from accounts.models import User
from billing import accounts, actions, as_of, charging, ledger, spending
from billing.as_of import Bill
from billing.models import Invoice, LedgerEntry
from tests.factories import HOUR, make_node, make_user, workspace_of
from tests.unit.billing import books
from tests.unit.billing.lives import Life

pytestmark = pytest.mark.django_db


def bill(user: User, month: int, day: int, hour: int = 0, minute: int = 0) -> Bill:
    """In 2026."""
    at = datetime(2026, month, day, hour, minute, tzinfo=UTC)
    return as_of.bill(accounts.account_of(workspace_of(user).pk), at)


@pytest.fixture
def user(settings: Any) -> User:
    return books.write(settings)


def test_at_the_last_entry_it_is_what_the_ledger_says(user: User) -> None:
    account = accounts.account_of(workspace_of(user).pk)

    found = as_of.bill(account, books.NOW)

    assert found.balance == ledger.balance(user.personal_workspace.pk)
    assert found.spent == spending.spending(account, date(2026, 7, 1), books.NOW).spent
    assert found.not_entered == Decimal("0.01")  # two hours of 10 GB at 0.20 a month


def test_a_month_that_is_over_is_what_its_invoice_says(user: User) -> None:
    april = Invoice.objects.get(month=date(2026, 4, 1))

    found = bill(user, 4, 30, 23, 59)

    assert (found.month, found.spent) == (date(2026, 4, 1), april.subtotal)
    assert found.balance + found.not_entered == april.subtotal  # what ran over the month's end was entered after it
    assert (found.open_invoices, found.open_amount) == (0, Decimal(0))


def test_what_was_paid_later_was_open_then(user: User) -> None:
    april = Invoice.objects.get(month=date(2026, 4, 1))

    before, after = bill(user, 5, 9, 11), bill(user, 5, 9, 13)

    assert (before.open_invoices, before.open_amount) == (1, april.total)
    assert (after.open_invoices, after.open_amount) == (1, Decimal(1))
    assert bill(user, 5, 19).overdue_amount == Decimal(1)
    assert bill(user, 5, 21).open_invoices == 0  # settled out of credit


def test_corrections_count_in_their_month(user: User) -> None:
    correction = LedgerEntry.objects.get(kind="correction")

    before, after = (as_of.bill(accounts.account_of(workspace_of(user).pk), at) for at in _around(correction.at))

    assert after.spent - before.spent == Decimal(-2)
    assert after.balance - before.balance == Decimal(-2)


def test_what_runs_counts_until_then(settings: Any) -> None:
    settings.BERTH_PRICE_PER_CORE_HOUR = Decimal(2)  # half a core for an hour: 1.00
    make_node()
    user, then = make_user("bob"), datetime(2026, 5, 31, 22, 0, tzinfo=UTC)
    life = Life.booked(user, then, 9 * HOUR).runs(then, timedelta(0))
    life.ends(then + 9 * HOUR)
    charging.settle(workspace_of(user).pk, then + 10 * HOUR)

    assert (bill(user, 5, 31, 23).spent, bill(user, 6, 1, 2).spent) == (Decimal(1), Decimal(2))
    assert (bill(user, 6, 1, 2).not_entered, bill(user, 6, 2).not_entered) == (Decimal(4), Decimal(0))
    assert bill(user, 6, 1, 2).balance == 0
    assert bill(user, 5, 31, 21).spent == 0


def test_a_day_means_its_end_where_the_account_is(user: User) -> None:
    actions.set_recipient(workspace=workspace_of(user), by="x", time_zone="America/New_York")

    (row,) = _run(as_of="2026-05-31", as_json=True)

    assert (row["at"], row["month"]) == ("2026-06-01 03:59:59.999999+00:00", "2026-05-01")
    assert as_of.day_end(date(2026, 3, 29), ZoneInfo("Europe/Berlin")).isoformat() == "2026-03-29T21:59:59.999999+00:00"


def test_the_table_has_a_line_for_each_account(user: User) -> None:
    out = StringIO()
    call_command("bill", as_of="2026-05-31T12:00", workspace="ada", stdout=out)

    heading, line = out.getvalue().splitlines()
    assert heading.split()[:3] == ["WORKSPACE", "AS", "OF"]
    assert line.split()[:5] == ["ada", "2026-05-31", "12:00", "UTC", "2026-05"]


@pytest.mark.parametrize(
    ("text", "sentence"), [("May", "is no day or time"), ("2099-01-01", "future"), ("2026-13-01", "is no day")]
)
def test_nonsense_is_refused(user: User, text: str, sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence):
        call_command("bill", as_of=text)


def test_a_workspace_that_is_not_there_is_named() -> None:
    with pytest.raises(CommandError, match="There is no workspace 'nobody'"):
        call_command("bill", workspace="nobody")


def _around(instant: datetime) -> tuple[datetime, datetime]:
    return instant - timedelta(microseconds=1), instant


def _run(**options: Any) -> list[dict[str, Any]]:
    out = StringIO()
    call_command("bill", stdout=out, **options)
    found: list[dict[str, Any]] = json.loads(out.getvalue())
    return found
