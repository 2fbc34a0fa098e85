"""The currency cannot change under what is open: migrating refuses, and says what is."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection
from django.test import override_settings

from accounts.models import User
from billing import accounts, charging, invoices, ledger, payments
from billing.ledger import CurrencyChanged
from billing.models import BillingAccount, Invoice, LedgerEntry
from tests.factories import HOUR, NOW, make_node, make_reservation, make_user, workspace_of
from tests.unit.billing.lives import lived

pytestmark = pytest.mark.django_db
NEXT_MONTH = NOW + timedelta(days=32)


@pytest.fixture
def user(settings: Any, tmp_path: Path) -> User:
    settings.STATIC_ROOT = tmp_path  # another check asks that it is none of the sources
    make_node()
    return make_user("ada")


def refusal() -> str:
    with pytest.raises(SystemCheckError) as caught:
        call_command("migrate", verbosity=0, skip_checks=False)
    return str(caught.value)


def test_without_anything_open_it_may_change(user: User, settings: Any) -> None:
    accounts.account_of(workspace_of(user).pk)
    settings.BERTH_CURRENCY = "EUR"

    call_command("migrate", verbosity=0, skip_checks=False)


def test_a_booking_that_is_not_charged_is_named(user: User, settings: Any) -> None:
    row = make_reservation(user)
    settings.BERTH_CURRENCY = "EUR"

    assert (
        f"BERTH_CURRENCY is EUR, but reservation #{row.pk} nginx was booked in USD and is not charged yet" in refusal()
    )


def test_it_is_asked_before_columns_of_newer_versions_are_there(user: User, settings: Any) -> None:
    row = make_reservation(user)
    settings.BERTH_CURRENCY = "EUR"
    with connection.cursor() as cursor:  # as in a database of the version before; the test's end takes it back
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE reservations_reservation DROP COLUMN restart_asked_at")

    assert f"reservation #{row.pk} nginx was booked in USD" in refusal()


def test_an_account_that_is_not_even_is_named(user: User, settings: Any) -> None:
    lived(user, NOW, 2)
    charging.settle(workspace_of(user).pk, NOW + 3 * HOUR)
    settings.BERTH_CURRENCY = "EUR"

    assert "but the account of ada is not even (" in refusal()


def test_charges_on_no_invoice_are_named_though_the_account_is_even(user: User, settings: Any) -> None:
    workspace = workspace_of(user)
    lived(user, NOW, 2)
    charging.settle(workspace.pk, NOW + 3 * HOUR)
    owed = ledger.balance(workspace.pk)
    payments.grant_credit(workspace=workspace, amount=owed, reason="x", by="x", now=NOW + 4 * HOUR)
    settings.BERTH_CURRENCY = "EUR"

    assert f"but {owed} USD of ada are on no invoice yet" in refusal()
    with pytest.raises(payments.Refused, match="not all of it is on invoices"):
        payments.grant_credit(workspace=workspace, amount=owed, reason="x", by="x", now=NOW + 5 * HOUR)
    assert BillingAccount.objects.get().currency == "USD"


def test_an_invoice_that_is_not_paid_is_named_and_once_it_is_the_account_goes_over(user: User, settings: Any) -> None:
    lived(user, NOW, 2)
    charging.settle(workspace_of(user).pk, NOW + 3 * HOUR)
    list(invoices.issue_open(workspace_of(user).pk, NEXT_MONTH))
    invoice = Invoice.objects.get()
    settings.BERTH_CURRENCY = "EUR"
    assert f"but invoice {invoice.number} over 0.50 USD is not paid" in refusal()

    settings.BERTH_CURRENCY = "USD"
    payments.record_payment(
        invoice=invoice, amount=invoice.total, method="bank", reference="1", received_on=NOW.date(), by="x",
        now=NEXT_MONTH,
    )  # fmt: skip
    settings.BERTH_CURRENCY = "EUR"
    call_command("migrate", verbosity=0, skip_checks=False)
    lived(user, NEXT_MONTH, 1)
    charging.settle(workspace_of(user).pk, NEXT_MONTH + 2 * HOUR)

    assert list(LedgerEntry.objects.order_by("pk").values_list("currency", flat=True)) == ["USD", "USD", "EUR"]
    assert BillingAccount.objects.get(pk=workspace_of(user).pk).currency == "EUR"


def test_nothing_is_entered_in_two_currencies(user: User, settings: Any) -> None:
    lived(user, NOW, 2)
    charging.settle(workspace_of(user).pk, NOW + 3 * HOUR)
    settings.BERTH_CURRENCY = "EUR"
    account = accounts.lock(workspace_of(user).pk)

    with pytest.raises(CurrencyChanged, match=r"kept in USD and is not even"):
        ledger.entry(
            account=account,
            kind=LedgerEntry.Kind.CREDIT,
            month=NOW.date().replace(day=1),
            amount=Decimal(-1),
            key="x",
            text="x",
            by="x",
            now=NOW,
        )


def test_what_was_entered_before_the_change_is_not_taken_back_in_another_currency(user: User, settings: Any) -> None:
    workspace = workspace_of(user)
    lived(user, NOW, 2)
    charging.settle(workspace.pk, NOW + 3 * HOUR)
    (invoice,) = invoices.issue_open(workspace.pk, NEXT_MONTH)
    payment = payments.record_payment(
        invoice=invoice, amount=invoice.total, method="bank", reference="1", received_on=NOW.date(), by="x",
        now=NEXT_MONTH,
    )  # fmt: skip
    credit = payments.grant_credit(workspace=workspace, amount=Decimal(1), reason="x", by="x", now=NEXT_MONTH)
    charge = LedgerEntry.objects.get(kind="charge")
    deeds: list[Callable[[], LedgerEntry]] = [
        lambda: payments.reverse_payment(payment=payment, reason="x", by="x", now=NEXT_MONTH),
        lambda: payments.take_back_credit(entry=credit, reason="x", by="x", now=NEXT_MONTH),
        lambda: payments.correct(entry=charge, amount=Decimal("0.10"), reason="x", by="x", now=NEXT_MONTH),
    ]
    before = LedgerEntry.objects.count()
    for deed in deeds:
        with override_settings(BERTH_CURRENCY="EUR"), pytest.raises(payments.Refused, match="BERTH_CURRENCY is EUR"):
            deed()
    settings.BERTH_CURRENCY = "EUR"
    BillingAccount.objects.update(currency="EUR")

    for deed in deeds:
        with pytest.raises(payments.Refused, match="entered in USD, and the account is kept in EUR now"):
            deed()
    assert LedgerEntry.objects.count() == before


def test_an_invoice_and_its_tax_are_in_one_currency(user: User, settings: Any) -> None:
    """Even by its credit, and once its lines are there nothing is on no invoice: so it looked free to change."""
    settings.BERTH_TAX_PERCENT = Decimal(19)
    workspace = workspace_of(user)
    lived(user, NOW, 2)
    charging.settle(workspace.pk, NOW + 3 * HOUR)
    owed = ledger.balance(workspace.pk)
    payments.grant_credit(workspace=workspace, amount=owed, reason="x", by="x", now=NOW + 4 * HOUR)
    settings.BERTH_CURRENCY = "EUR"

    with pytest.raises(CurrencyChanged, match=r"kept in USD .* not all of it is on invoices"):
        list(invoices.issue_open(workspace.pk, NEXT_MONTH))

    assert set(LedgerEntry.objects.values_list("currency", flat=True)) == {"USD"}
