"""Three months of books: usage over a month's end, a kept volume, invoices, a payment, credit and a correction."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from accounts.models import User
from billing import actions, charging, invoices, payments
from billing.models import Invoice, LedgerEntry
from tests.factories import HOUR, make_node, make_profiles, make_storage, make_user, profile, workspace_of
from tests.unit.billing.lives import Life, lived

APRIL = datetime(2026, 4, 1, 1, 0, tzinfo=UTC)
NOW = datetime(2026, 7, 1, 2, 0, tzinfo=UTC)


def write(settings: Any) -> User:
    """April to June, invoiced; what was served last is in July, charged and on no invoice yet."""
    settings.BERTH_TAX_PERCENT = Decimal(19)
    make_node(cores=Decimal(32), ram_mib=65_536)
    make_storage()
    make_profiles()
    user = make_user("ada")
    prices: dict[str, Any] = {
        "per_core_hour": Decimal("0.50"),
        "per_gib_hour": Decimal("0.03"),
        "per_gb_month": Decimal("0.20"),
    }
    actions.set_rate(workspace=None, start=APRIL, end=None, by="x", now=APRIL, **prices)
    lived(user, APRIL + HOUR, 5.5)
    Life.booked(user, APRIL + 9 * HOUR, HOUR, storage=profile("C3"), storage_gb=10).runs(APRIL + 9 * HOUR).ends(
        APRIL + 10 * HOUR
    )
    over_the_end = datetime(2026, 4, 30, 20, 0, tzinfo=UTC)
    life = Life.booked(user, over_the_end, 10 * HOUR, start=over_the_end).runs(over_the_end)
    _invoice(user, datetime(2026, 5, 1, 1, 0, tzinfo=UTC))
    life.ends(life.row.end)
    _pay_all_but(user, Decimal(1), datetime(2026, 5, 9, 12, 0, tzinfo=UTC))
    may = datetime(2026, 5, 20, 8, 0, tzinfo=UTC)
    payments.grant_credit(workspace=workspace_of(user), amount=Decimal(3), reason="Sorry.", by="x", now=may)
    lived(user, may, 30)
    charging.settle(workspace_of(user).pk, may + 31 * HOUR)
    charge = LedgerEntry.objects.filter(kind="charge", month=date(2026, 5, 1)).order_by("amount").last()
    assert charge
    payments.correct(entry=charge, amount=Decimal(2), reason="It was slow.", by="x", now=may + 40 * HOUR)
    _invoice(user, datetime(2026, 6, 1, 1, 0, tzinfo=UTC))
    lived(user, datetime(2026, 6, 10, 8, 0, tzinfo=UTC), 3)
    _invoice(user, datetime(2026, 7, 1, 1, 0, tzinfo=UTC))
    lived(user, datetime(2026, 7, 1, 1, 0, tzinfo=UTC), 0.5)
    charging.settle(workspace_of(user).pk, NOW)
    return user


def _invoice(user: User, now: datetime) -> None:
    charging.settle(workspace_of(user).pk, now)
    assert list(invoices.issue_open(workspace_of(user).pk, now))


def _pay_all_but(user: User, amount: Decimal, now: datetime) -> None:
    invoice = Invoice.objects.get(workspace=workspace_of(user))
    payments.record_payment(
        invoice=invoice,
        amount=invoice.total - amount,
        method="bank",
        reference="TRX 1",
        received_on=now.date() - timedelta(days=1),
        by="x",
        now=now,
    )
