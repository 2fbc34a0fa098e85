"""Payments: what is open gets less, nothing is entered twice, and what cannot be is told and not written."""

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from accounts.models import AuditEntry, Workspace
from billing import ledger, payments
from billing.models import Invoice, LedgerEntry, Payment, Settlement
from billing.payments import Refused
from tests.factories import HOUR, NOW, make_user, workspace_of
from tests.unit.billing.bills import adds_up, make_charge, make_invoice

pytestmark = pytest.mark.django_db
TODAY = NOW.date()


@pytest.fixture
def workspace() -> Workspace:
    return workspace_of(make_user())


@pytest.fixture
def invoice(workspace: Workspace) -> Invoice:
    return make_invoice(workspace, "10.00", tax="1.90")


def pay(invoice: Invoice, amount: str = "11.90", **values: Any) -> Payment:
    usual = {"method": "bank", "reference": "SEPA 1", "received_on": TODAY, "by": "test", "now": NOW}
    return payments.record_payment(invoice=invoice, amount=Decimal(amount), **{**usual, **values})


def grant(workspace: Workspace, amount: str = "5.00", **values: Any) -> LedgerEntry:
    usual = {"reason": "For the trouble", "by": "test", "now": NOW}
    return payments.grant_credit(workspace=workspace, amount=Decimal(amount), **{**usual, **values})


def written() -> tuple[int, ...]:
    return tuple(model.objects.count() for model in (LedgerEntry, Payment, Settlement, AuditEntry))


# ---- payments -------------------------------------------------------------------------------------------------------


def test_a_payment_settles_its_invoice(workspace: Workspace, invoice: Invoice) -> None:
    by = make_user()

    payment = pay(invoice, by=by)

    assert payments.open_amount(invoice) == 0
    assert not Invoice.objects.open().exists()
    assert ledger.balance(workspace.pk) == 0
    assert (payment.entry.kind, payment.entry.amount, payment.recorded_by) == ("payment", Decimal("-11.90"), by)
    row = AuditEntry.objects.get(action="payment.record")
    assert (row.target, row.data["amount"], row.data["reference"]) == (f"invoice:{invoice}", "11.90", "SEPA 1")


def test_parts_add_up(workspace: Workspace, invoice: Invoice) -> None:
    pay(invoice, "4.00")
    assert payments.open_amount(invoice) == Decimal("7.90")

    pay(invoice, "7.90", reference="SEPA 2")

    assert payments.open_amount(invoice) == 0
    assert adds_up(workspace)


@pytest.mark.parametrize(
    ("values", "field", "sentence"),
    [
        ({"amount": "0"}, "amount", "more than zero"),
        ({"amount": "-1"}, "amount", "more than zero"),
        ({"amount": "NaN"}, "amount", "more than zero"),
        ({"amount": "Infinity"}, "amount", "more than zero"),
        ({"amount": "1.005"}, "amount", "two decimal places"),
        ({"amount": "1e12"}, "amount", "at most 99,999,999.99"),
        ({"amount": "11.91"}, "amount", "Only 11.90 USD of INV-2026-0001 are open."),
        ({"reference": " "}, "reference", "Say the reference"),
        ({"reference": "x" * 101}, "reference", "at most 100"),
        ({"reference": "a\x00b"}, "reference", "Control characters"),
        ({"method": "shells"}, "method", "'shells' is not one of bank"),
        ({"received_on": TODAY + timedelta(days=1)}, "received_on", "in the future"),
        ({"received_on": date(206, 5, 4)}, "received_on", "is the year right?"),
        ({"currency": "EUR"}, "amount", "is in USD, not in EUR"),
    ],
)
def test_a_payment_that_cannot_be_is_refused(
    invoice: Invoice, values: dict[str, Any], field: str, sentence: str
) -> None:
    before = written()

    with pytest.raises(Refused, match=sentence) as refused:
        pay(invoice, **values)

    assert list(refused.value.problems) == [field]
    assert written() == before


@pytest.mark.parametrize("reference", ["SEPA 1", "sepa 1", "  SEPA   1 "])
def test_a_second_payment_with_the_same_reference_is_refused(invoice: Invoice, reference: str) -> None:
    pay(invoice)
    another = make_invoice(workspace_of(make_user()))
    before = written()

    for row in (invoice, another):
        with pytest.raises(Refused, match="with this reference was recorded already"):
            pay(row, "1.00", reference=reference)

    assert written() == before


def test_a_reference_may_come_again_by_another_method(invoice: Invoice) -> None:
    pay(invoice, "1.00")

    assert pay(invoice, "1.00", method="cash").reference == "SEPA 1"


def test_a_credit_note_is_not_paid(workspace: Workspace) -> None:
    charge = make_charge(workspace)
    make_invoice(workspace, None)
    payments.correct(entry=charge, amount=Decimal(4), reason="Slow", by="test", now=NOW)
    note = make_invoice(workspace, None)

    with pytest.raises(Refused, match="is a credit note"):
        pay(note, "4.00")


def test_an_invoice_in_another_currency_than_the_account_s_is_refused(workspace: Workspace, invoice: Invoice) -> None:
    workspace.billing_account.currency = "EUR"
    workspace.billing_account.save()

    with pytest.raises(Refused, match="is in USD, and the account in EUR"):
        pay(invoice)


def test_after_a_change_of_currency_nothing_is_paid_in_the_old_one(invoice: Invoice, settings: Any) -> None:
    settings.BERTH_CURRENCY = "EUR"
    before = written()

    with pytest.raises(Refused, match="is kept in USD and is not even"):
        pay(invoice)

    assert written() == before


# ---- reversals ------------------------------------------------------------------------------------------------------


def test_a_reversed_payment_opens_its_invoice_again(workspace: Workspace, invoice: Invoice) -> None:
    payment = pay(invoice)

    entry = payments.reverse_payment(payment=payment, reason="No funds", by="test", now=NOW + HOUR)

    assert (entry.kind, entry.amount, entry.corrects) == ("reversal", Decimal("11.90"), payment.entry)
    assert payments.open_amount(invoice) == Decimal("11.90")
    assert adds_up(workspace)
    assert AuditEntry.objects.get(action="payment.reverse").data["reason"] == "No funds"


def test_a_payment_is_reversed_once(workspace: Workspace, invoice: Invoice) -> None:
    payment = pay(invoice)
    payments.reverse_payment(payment=payment, reason="No funds", by="test", now=NOW)
    before = written()

    with pytest.raises(Refused, match="reversed already"):
        payments.reverse_payment(payment=payment, reason="No funds", by="test", now=NOW)

    assert written() == before
    assert pay(invoice, reference="SEPA 2").amount == Decimal("11.90")


def test_the_reference_of_a_reversed_payment_stays_used(invoice: Invoice) -> None:
    payments.reverse_payment(payment=pay(invoice), reason="No funds", by="test", now=NOW)

    with pytest.raises(Refused, match="recorded already"):
        pay(invoice)


# ---- what a provider has taken --------------------------------------------------------------------------------------


def receive(invoice: Invoice, amount: str, reference: str = "pi_1", **values: Any) -> bool:
    usual = {"method": "stripe", "received_on": TODAY, "by": "Stripe", "now": NOW, "currency": "usd"}
    return payments.receive(invoice=invoice, amount=Decimal(amount), reference=reference, **{**usual, **values})


def test_what_was_taken_is_a_payment(invoice: Invoice) -> None:
    assert receive(invoice, "11.90")

    assert Payment.objects.get().method == "stripe"
    assert payments.open_amount(invoice) == 0


@pytest.mark.parametrize(("paid_before", "credit"), [("4.00", "4.00"), ("11.90", "11.90"), ("0.01", "0.01")])
def test_what_was_taken_over_the_open_amount_is_credit(
    workspace: Workspace, invoice: Invoice, paid_before: str, credit: str
) -> None:
    pay(invoice, paid_before)

    assert receive(invoice, "11.90")

    assert payments.available_credit(workspace.pk) == Decimal(credit)
    assert ledger.balance(workspace.pk) == -Decimal(credit)
    assert adds_up(workspace)


@pytest.mark.parametrize("paid_before", ["", "4.00", "11.90"])
def test_what_was_taken_is_entered_once(workspace: Workspace, invoice: Invoice, paid_before: str) -> None:
    if paid_before:
        pay(invoice, paid_before)
    receive(invoice, "11.90")
    before = written()

    assert not receive(invoice, "11.90")

    assert written() == before


def test_the_rest_of_a_payment_settles_the_next_invoice(workspace: Workspace, invoice: Invoice) -> None:
    pay(invoice)
    other = make_invoice(workspace, "20.00")

    receive(invoice, "11.90")

    assert payments.open_amount(other) == Decimal("8.10")


def test_money_in_another_currency_is_not_entered(invoice: Invoice) -> None:
    before = written()

    with pytest.raises(Refused, match="is in USD, not in EUR"):
        receive(invoice, "11.90", currency="eur")

    assert written() == before
