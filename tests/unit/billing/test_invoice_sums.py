"""For any history: every charge is on one invoice, lines add up, and the balance is what is open."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import override_settings
from hypothesis import given, settings
from hypothesis import strategies as st

from billing import invoices, ledger, payments
from billing.models import Invoice, LedgerEntry
from billing.pricing import Price, Rounding, Terms, percent_of
from tests.unit.billing.served import make_account, serve

pytestmark = pytest.mark.django_db
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
HOURS = 24 * 150
stays = st.tuples(st.floats(0, HOURS), st.floats(0.01, 900))
rates = st.decimals("0.01", "3", places=4)
percents = st.decimals("0", "25", places=2)
zones = st.sampled_from(["UTC", "Pacific/Auckland", "America/Los_Angeles", "Asia/Kathmandu"])


@given(
    served=st.lists(st.tuples(stays, rates, st.sampled_from(Rounding)), min_size=1, max_size=5),
    rounds=st.lists(st.integers(0, 270), min_size=1, max_size=5),
    percent=percents,
    zone=zones,
    off=st.none() | st.decimals("0.01", "1", places=2),
)
@settings(max_examples=40)
def test_sums_agree(served: list[Any], rounds: list[int], percent: Decimal, zone: str, off: Decimal | None) -> None:
    with override_settings(BERTH_TAX_PERCENT=percent):
        account = make_account(time_zone=zone)
        for (start, length), rate, rounding in served:
            opens = FIRST + timedelta(hours=start)
            terms = Terms((Price(FIRST, rate),), rounding, zone)
            serve(account.workspace, (opens, opens + timedelta(hours=length)), terms=terms)
        for number, day in enumerate(sorted(rounds)):
            invoices.issue_due(FIRST + timedelta(days=day))
            charge = LedgerEntry.objects.filter(workspace=account.pk, kind="charge", amount__gt=1).first()
            if off and charge and number == 0:
                payments.correct(
                    entry=charge, amount=off, reason="x", by="x", now=FIRST + timedelta(days=day, minutes=1)
                )
        invoices.issue_due(FIRST + timedelta(days=400))

    found = list(Invoice.objects.filter(workspace=account.pk))
    for invoice in found:
        assert invoice.subtotal == sum(line.amount for line in invoice.lines.all())
        assert invoice.tax == percent_of(invoice.subtotal, percent)
        assert invoice.total == invoice.subtotal + invoice.tax
    entries = LedgerEntry.objects.filter(workspace=account.pk)
    assert not entries.usage().filter(line=None).exists()
    assert sum(invoice.subtotal for invoice in found) == entries.usage().total()
    assert len({invoice.month for invoice in found}) == len(found)
    open_amounts = sum(payments.open_amount(invoice) for invoice in found)
    assert ledger.balance(account.pk) == open_amounts - payments.available_credit(account.pk)
