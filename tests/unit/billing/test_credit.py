"""Credit settles invoices before anybody pays; a correction is an entry of its own, and never more than its charge."""

from decimal import Decimal
from typing import Any

import pytest

from accounts.models import AuditEntry, Workspace
from billing import ledger, payments
from billing.models import DailyCost, LedgerEntry
from billing.payments import Refused
from tests.factories import HOUR, NOW, make_user, workspace_of
from tests.unit.billing.bills import adds_up, make_charge, make_invoice
from tests.unit.billing.test_payments import grant, pay, written

pytestmark = pytest.mark.django_db


@pytest.fixture
def workspace() -> Workspace:
    return workspace_of(make_user())


def correct(entry: LedgerEntry, amount: str, **values: Any) -> LedgerEntry:
    usual = {"reason": "Slow", "by": "test", "now": NOW}
    return payments.correct(entry=entry, amount=Decimal(amount), **{**usual, **values})


def take_back(entry: LedgerEntry, amount: str | None = None, **values: Any) -> LedgerEntry:
    usual = {"reason": "A mistake", "by": "test", "now": NOW}
    some = None if amount is None else Decimal(amount)
    return payments.take_back_credit(entry=entry, amount=some, **{**usual, **values})


# ---- credit ---------------------------------------------------------------------------------------------------------


def test_credit_settles_open_invoices_at_once_the_oldest_first(workspace: Workspace) -> None:
    first, second = make_invoice(workspace, "10.00"), make_invoice(workspace, "10.00")

    entry = grant(workspace, "12.00")

    assert [payments.open_amount(row) for row in (first, second)] == [Decimal(0), Decimal(8)]
    assert payments.available_credit(workspace.pk) == 0
    assert (entry.kind, entry.amount, entry.text) == ("credit", Decimal("-12.00"), "For the trouble")
    assert AuditEntry.objects.get(action="credit.grant").data["reason"] == "For the trouble"
    assert adds_up(workspace)


def test_credit_that_is_left_settles_the_next_invoice(workspace: Workspace) -> None:
    grant(workspace, "12.00")
    invoice = make_invoice(workspace, "10.00")

    assert payments.open_amount(invoice) == 0
    assert payments.available_credit(workspace.pk) == Decimal("2.00")
    assert adds_up(workspace)


def test_credit_of_another_workspace_is_not_used(workspace: Workspace) -> None:
    invoice = make_invoice(workspace)

    grant(workspace_of(make_user()), "100.00")

    assert payments.open_amount(invoice) == Decimal("10.00")


def test_credit_of_a_reversed_payment_s_invoice_settles_it_again(workspace: Workspace) -> None:
    invoice = make_invoice(workspace)
    payment = pay(invoice, "10.00")
    grant(workspace, "4.00")

    payments.reverse_payment(payment=payment, reason="No funds", by="test", now=NOW)

    assert payments.open_amount(invoice) == Decimal("6.00")
    assert adds_up(workspace)


@pytest.mark.parametrize("reason", ["", "  ", "\n"])
def test_credit_without_a_reason_is_refused(workspace: Workspace, reason: str) -> None:
    before = written()

    with pytest.raises(Refused, match="Say why") as refused:
        grant(workspace, reason=reason)

    assert list(refused.value.problems) == ["reason"]
    assert written() == before


@pytest.mark.parametrize("amount", ["0", "-5", "NaN", "0.001", "100000000"])
def test_an_absurd_credit_is_refused(workspace: Workspace, amount: str) -> None:
    before = written()

    with pytest.raises(Refused) as refused:
        grant(workspace, amount)

    assert list(refused.value.problems) == ["amount"]
    assert written() == before


def test_a_form_that_is_sent_twice_grants_once(workspace: Workspace) -> None:
    grant(workspace, once="a")
    before = written()

    with pytest.raises(Refused, match="entered already"):
        grant(workspace, once="a")

    assert written() == before
    assert grant(workspace, once="b").pk


def test_what_is_not_used_of_a_credit_can_be_taken_back(workspace: Workspace) -> None:
    make_invoice(workspace, "3.00")
    entry = grant(workspace, "5.00")

    taken = take_back(entry)

    assert (taken.kind, taken.amount, taken.corrects) == ("reversal", Decimal("2.00"), entry)
    assert payments.available_credit(workspace.pk) == 0
    assert ledger.balance(workspace.pk) == 0
    assert adds_up(workspace)
    assert AuditEntry.objects.get(action="credit.take-back").data["amount"] == "2.00"


def test_no_more_of_a_credit_is_taken_back_than_is_left(workspace: Workspace) -> None:
    make_invoice(workspace, "3.00")
    entry = grant(workspace, "5.00")

    with pytest.raises(Refused, match=r"Only 2\.00 USD of this credit are left"):
        take_back(entry, "2.01")
    take_back(entry, "2.00")
    before = written()
    with pytest.raises(Refused, match="Nothing is left"):
        take_back(entry)

    assert written() == before


def test_a_credit_is_not_taken_back_out_of_another_one(workspace: Workspace) -> None:
    entry = grant(workspace, "5.00")
    grant(workspace, "50.00")

    assert take_back(entry).amount == Decimal("5.00")
    with pytest.raises(Refused, match="Nothing is left"):
        take_back(entry)


def test_credit_is_taken_back_with_a_reason_and_from_a_credit_only(workspace: Workspace) -> None:
    entry = grant(workspace)

    with pytest.raises(Refused, match="Say why"):
        payments.take_back_credit(entry=entry, reason=" ", by="test", now=NOW)
    with pytest.raises(Refused, match="A charge is no credit"):
        take_back(make_charge(workspace))


# ---- corrections ----------------------------------------------------------------------------------------------------


def test_a_correction_names_the_charge_and_goes_to_the_next_invoice(workspace: Workspace) -> None:
    charge = make_charge(workspace, "10.00")
    make_invoice(workspace, None)
    later = NOW + 40 * 24 * HOUR

    entry = correct(charge, "4.00", now=later)

    assert (entry.kind, entry.amount, entry.corrects) == ("correction", Decimal("-4.00"), charge)
    assert f"{entry.month:%Y-%m}" == "2026-06"
    assert DailyCost.objects.get(entry=entry).amount == Decimal("-4.00")
    assert AuditEntry.objects.get(action="charge.correct").data == {
        "entry": charge.pk,
        "amount": "4.00",
        "reason": "Slow",
    }
    assert adds_up(workspace)
    assert make_invoice(workspace, "5.00", later).total == Decimal("1.00")


def test_a_credit_note_is_credit_for_the_next_invoice(workspace: Workspace) -> None:
    charge = make_charge(workspace, "10.00")
    pay(make_invoice(workspace, None), "10.00")
    correct(charge, "4.00")

    note = make_invoice(workspace, None)

    assert note.total == Decimal("-4.00")
    assert payments.available_credit(workspace.pk) == Decimal("4.00")
    assert payments.open_amount(make_invoice(workspace, "5.00")) == Decimal("1.00")
    assert adds_up(workspace)


def test_no_more_is_corrected_than_is_left_of_a_charge(workspace: Workspace) -> None:
    charge = make_charge(workspace, "10.00")
    correct(charge, "6.00")
    before = written()

    with pytest.raises(Refused, match=r"Only 4\.00 USD are left of this charge"):
        correct(charge, "4.01")

    assert written() == before
    assert correct(charge, "4.00").amount == Decimal("-4.00")


def test_a_correction_can_be_put_back_and_no_more(workspace: Workspace) -> None:
    charge = make_charge(workspace, "10.00")
    correct(charge, "6.00")

    with pytest.raises(Refused, match=r"Only 6\.00 USD were taken off"):
        correct(charge, "-6.01")

    assert correct(charge, "-6.00").amount == Decimal("6.00")
    assert ledger.balance(workspace.pk) == Decimal("10.00")


@pytest.mark.parametrize("amount", ["0", "NaN", "0.001"])
def test_an_absurd_correction_is_refused(workspace: Workspace, amount: str) -> None:
    charge = make_charge(workspace)
    before = written()

    with pytest.raises(Refused):
        correct(charge, amount)

    assert written() == before


def test_a_correction_without_a_reason_is_refused(workspace: Workspace) -> None:
    with pytest.raises(Refused, match="Say why"):
        correct(make_charge(workspace), "1.00", reason=" ")


def test_only_charges_are_corrected(workspace: Workspace) -> None:
    charge = make_charge(workspace)
    correction = correct(charge, "1.00")

    with pytest.raises(Refused, match="A correction of a charge cannot be corrected"):
        correct(correction, "1.00")
    with pytest.raises(Refused, match="A credit cannot be corrected"):
        correct(grant(workspace), "1.00")
