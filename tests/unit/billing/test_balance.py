"""Whatever is charged, invoiced, paid, reversed, granted and corrected: the balance is what it is made of."""

import os
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from accounts.models import Workspace
from billing import invoices, ledger, months, payments
from billing.models import Invoice, LedgerEntry, Payment
from billing.payments import Refused
from tests.factories import NOW, make_user, workspace_of
from tests.unit.billing.bills import adds_up, make_charge

pytestmark = pytest.mark.django_db
UTC = ZoneInfo("UTC")
amounts = st.integers(1, 5_000).map(lambda cents: Decimal(cents) / 100)
parts = st.sampled_from([Decimal("0.2"), Decimal("0.5"), Decimal(1), Decimal("1.5")])


class Money(RuleBasedStateMachine):
    """One workspace; refused actions are part of it, and must change nothing."""

    workspace: Workspace
    now: datetime
    number = 0

    @initialize()
    def begin(self) -> None:
        self.workspace = workspace_of(make_user())
        self.now = NOW

    @rule(amount=amounts)
    def charge(self, amount: Decimal) -> None:
        make_charge(self.workspace, str(amount), self.now)

    @rule()
    def end_the_month(self) -> None:
        month = months.month_of(self.now, UTC)
        self.now = months.stretch(month, UTC)[1]
        invoices.issue(self.workspace.pk, month, self.now)

    @precondition(lambda self: self.invoices())
    @rule(data=st.data(), part=parts)
    def pay(self, data: Any, part: Decimal) -> None:
        invoice = data.draw(st.sampled_from(self.invoices()))
        self.number += 1
        amount = max((payments.open_amount(invoice) * part).quantize(Decimal("0.01")), Decimal("0.01"))
        self.attempt(
            payments.record_payment,
            invoice=invoice,
            amount=amount,
            method="bank",
            reference=f"{self.workspace.pk}-{self.number % 7}",
            received_on=self.now.date(),
        )

    @precondition(lambda self: self.invoices())
    @rule(data=st.data(), amount=amounts, number=st.integers(1, 5))
    def receive(self, data: Any, amount: Decimal, number: int) -> None:
        payments.receive(
            invoice=data.draw(st.sampled_from(self.invoices())),
            amount=amount,
            method="stripe",
            reference=f"pi_{self.workspace.pk}_{number}",
            received_on=self.now.date(),
            by="Stripe",
            now=self.now,
            currency="USD",
        )

    @precondition(lambda self: self.paid())
    @rule(data=st.data())
    def reverse(self, data: Any) -> None:
        self.attempt(payments.reverse_payment, payment=data.draw(st.sampled_from(self.paid())), reason="No funds")

    @rule(amount=amounts)
    def grant(self, amount: Decimal) -> None:
        payments.grant_credit(workspace=self.workspace, amount=amount, reason="Sorry", by="test", now=self.now)

    @precondition(lambda self: self.entries("credit"))
    @rule(data=st.data(), amount=st.none() | amounts)
    def take_back(self, data: Any, amount: Decimal | None) -> None:
        entry = data.draw(st.sampled_from(self.entries("credit")))
        self.attempt(payments.take_back_credit, entry=entry, amount=amount, reason="A mistake")

    @precondition(lambda self: self.entries("charge"))
    @rule(data=st.data(), part=st.sampled_from([Decimal("-0.5"), Decimal("0.3"), Decimal(1), Decimal("1.2")]))
    def correct(self, data: Any, part: Decimal) -> None:
        entry = data.draw(st.sampled_from(self.entries("charge")))
        amount = (entry.amount * part).quantize(Decimal("0.01"))
        self.attempt(payments.correct, entry=entry, amount=amount, reason="Slow")

    @precondition(lambda self: self.entries("charge"))
    @rule(data=st.data())
    def come_to_a_credit_note(self, data: Any) -> None:
        self.end_the_month()
        entry = data.draw(st.sampled_from(self.entries("charge")))
        self.attempt(payments.correct, entry=entry, amount=entry.amount, reason="Never served")
        self.end_the_month()

    @invariant()
    def the_balance_is_what_it_is_made_of(self) -> None:
        if hasattr(self, "workspace"):
            assert adds_up(self.workspace)

    @invariant()
    def no_charge_is_corrected_below_nothing(self) -> None:
        for entry in self.entries("charge") if hasattr(self, "workspace") else []:
            left = entry.amount + LedgerEntry.objects.filter(corrects=entry).total()
            assert 0 <= left <= entry.amount

    def attempt(self, action: Any, **values: Any) -> None:
        before = ledger.balance(self.workspace.pk), LedgerEntry.objects.count()
        try:
            action(by="test", now=self.now, **values)
        except Refused:
            assert (ledger.balance(self.workspace.pk), LedgerEntry.objects.count()) == before

    def invoices(self) -> list[Invoice]:
        return list(Invoice.objects.filter(workspace=self.workspace).order_by("pk"))

    def paid(self) -> list[Payment]:
        return list(Payment.objects.filter(invoice__workspace=self.workspace).order_by("pk"))

    def entries(self, kind: str) -> list[LedgerEntry]:
        return list(LedgerEntry.objects.filter(workspace=self.workspace, kind=kind).order_by("pk"))


def test_the_balance_is_always_what_it_is_made_of(settings: Any) -> None:
    settings.BERTH_TAX_PERCENT = Decimal(19)
    run_state_machine_as_test(Money, settings=SETTINGS)


SETTINGS = settings(
    max_examples=int(os.environ.get("BERTH_MONEY", "12")),  # each with its own workspace
    stateful_step_count=20,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
