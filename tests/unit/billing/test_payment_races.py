"""Two of the same at the same instant, each with a connection of its own."""

from decimal import Decimal

import pytest

from accounts.models import Workspace
from billing import payments
from billing.models import LedgerEntry, Payment
from billing.payments import Refused
from tests.factories import NOW, make_user, workspace_of
from tests.unit.billing.bills import adds_up, make_charge, make_invoice
from tests.unit.billing.test_credit import correct, take_back
from tests.unit.billing.test_payments import grant, pay, receive
from tests.unit.reservations.test_races import at_once

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def workspace() -> Workspace:
    return workspace_of(make_user())


def refused(answers: list[object]) -> list[str]:
    """Their sentences; anything else that was raised is a failure."""
    problems = [answer for answer in answers if isinstance(answer, Exception)]
    assert all(isinstance(problem, Refused) for problem in problems), problems
    return [str(problem) for problem in problems]


def test_two_payments_with_the_same_reference_at_once(workspace: Workspace) -> None:
    invoice = make_invoice(workspace, "10.00")

    answers = at_once(4, lambda _: pay(invoice, "2.00"))

    assert refused(answers) == ["A payment with this reference was recorded already."] * 3
    assert payments.open_amount(invoice) == Decimal("8.00")


def test_the_same_reference_for_two_workspaces_at_once(workspace: Workspace) -> None:
    invoices = [make_invoice(workspace_of(make_user())) for _ in range(4)]

    answers = at_once(4, lambda number: pay(invoices[number], "2.00"))

    assert refused(answers) == ["A payment with this reference was recorded already."] * 3
    assert Payment.objects.count() == LedgerEntry.objects.filter(kind="payment").count() == 1


def test_two_halves_that_together_are_too_much(workspace: Workspace) -> None:
    invoice = make_invoice(workspace, "10.00")

    answers = at_once(4, lambda number: pay(invoice, "6.00", reference=f"SEPA {number}"))

    assert refused(answers) == ["Only 4.00 USD of INV-2026-0001 are open."] * 3
    assert adds_up(workspace)


def test_an_event_that_comes_many_times_at_once(workspace: Workspace) -> None:
    invoice = make_invoice(workspace, "10.00")

    answers = at_once(6, lambda _: receive(invoice, "15.00"))

    assert sorted(map(str, answers)) == ["False"] * 5 + ["True"]
    assert payments.available_credit(workspace.pk) == Decimal("5.00")


def test_one_reference_for_two_workspaces_from_a_provider_at_once() -> None:
    invoices = [make_invoice(workspace_of(make_user())) for _ in range(4)]

    answers = at_once(4, lambda number: receive(invoices[number], "10.00"))

    assert sorted(map(str, answers)) == ["False"] * 3 + ["True"]


def test_a_payment_is_reversed_once_by_many(workspace: Workspace) -> None:
    payment = pay(make_invoice(workspace), "10.00")

    answers = at_once(4, lambda _: payments.reverse_payment(payment=payment, reason="x", by="test", now=NOW))

    assert refused(answers) == ["This payment was reversed already."] * 3
    assert adds_up(workspace)


def test_a_credit_is_taken_back_once_by_many(workspace: Workspace) -> None:
    entry = grant(workspace, "5.00")

    answers = at_once(4, lambda _: take_back(entry))

    assert len(refused(answers)) == 3
    assert adds_up(workspace)


def test_a_charge_is_corrected_by_many_and_not_below_nothing(workspace: Workspace) -> None:
    charge = make_charge(workspace, "10.00")

    answers = at_once(4, lambda _: correct(charge, "4.00"))

    assert refused(answers) == ["Only 2.00 USD are left of this charge."] * 2
