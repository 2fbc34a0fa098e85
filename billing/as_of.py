"""How a workspace stood at an instant: what the month had cost by then, the balance, what was open. Changes nothing.

Usage is taken as it is known today: of what was served until then, whatever was found out about it later.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from django.db.models import Q, Sum

from billing import charging, ledger, months, pricing, tariffs, usage
from billing.models import BillingAccount, Invoice, LedgerEntry, Settlement
from billing.models.ledger import LedgerEntryQuerySet
from billing.pricing import NOTHING, Size
from reservations.models import Reservation, WorkspaceVolume


@dataclass(frozen=True, slots=True)
class Bill:
    """Amounts in `currency`. `spent` and `not_entered` are without tax; `balance` negative is credit."""

    workspace: int
    name: str
    at: datetime
    month: date
    currency: str
    spent: Decimal  # of the month, until then
    not_entered: Decimal  # served or kept until then, and not in the ledger then
    balance: Decimal
    open_invoices: int
    open_amount: Decimal
    overdue_amount: Decimal


def bill(account: BillingAccount, at: datetime) -> Bill:
    """The workspace's bill as of `at`, which is not in the future."""
    month = months.month_of(at, account.zone)
    entries = ledger.of_account(account).filter(at__lte=at)
    spent = not_entered = NOTHING
    for by_month, entered in [*_reservations(account, entries, at), *_volumes(account, entries, at)]:
        spent += by_month.get(month, NOTHING)
        not_entered += sum(by_month.values(), NOTHING) - entered
    corrections = entries.filter(kind=LedgerEntry.Kind.CORRECTION).exclude(_recounts())
    spent += corrections.filter(month=month).total()
    count, open_amount, overdue = _invoices(account, at)
    return Bill(
        account.workspace_id,
        account.workspace.name,
        at,
        month,
        account.currency,
        spent,
        not_entered,
        entries.total(),
        count,
        open_amount,
        overdue,
    )


def day_end(day: date, zone: ZoneInfo) -> datetime:
    """The last instant of a day there, since that is what "as of" a day means in books."""
    return months.begin(day + timedelta(days=1), zone) - timedelta(microseconds=1)


Part = tuple[dict[date, Decimal], Decimal]  # what it cost in each month until then, and what of it was entered


def _recounts() -> Q:
    """Berth's own corrections: they are part of what a reservation is charged in all."""
    return Q(by=charging.BY, key__startswith="reservation:")


def _reservations(account: BillingAccount, entries: LedgerEntryQuerySet, at: datetime) -> Iterator[Part]:
    ours = entries.filter(Q(kind=LedgerEntry.Kind.CHARGE) | _recounts(), reservation__isnull=False)
    entered = dict(ours.order_by().values_list("reservation").annotate(Sum("amount")))
    rows = Reservation.objects.filter(workspace=account.workspace_id, start__lt=at, usage_periods__isnull=False)
    for row in usage.with_usage(rows.distinct()):
        served = [(opens, min(closes, at)) for opens, closes in usage.served(row, at) if opens < at]
        parts = pricing.by_month(served, usage.size_of(row), usage.terms_of(row), account.zone)
        costs = {month: part.amount for month, part in parts.items()}
        settled = row.settled_at is not None and row.settled_at <= at  # nothing more is entered, corrected or not
        yield costs, sum(costs.values(), NOTHING) if settled else entered.get(row.pk, NOTHING)


def _volumes(account: BillingAccount, entries: LedgerEntryQuerySet, at: datetime) -> Iterator[Part]:
    charges = entries.filter(volume__isnull=False, kind=LedgerEntry.Kind.CHARGE)
    entered: dict[int, dict[date, Decimal]] = defaultdict(dict)
    for volume_id, month, amount in charges.values_list("volume", "month", "amount"):
        entered[volume_id or 0][month] = amount
    volumes = WorkspaceVolume.objects.filter(workspace=account.workspace_id, volume__formatted_at__lt=at)
    for volume in volumes.select_related("volume"):
        there = entered[volume.pk]
        parts = {month: _kept(account, volume, month, at) for month in _months_of(account, volume, at)} | there
        yield parts, sum(there.values(), NOTHING)


def _months_of(account: BillingAccount, volume: WorkspaceVolume, at: datetime) -> Iterator[date]:
    opens = volume.volume.formatted_at
    if opens:
        yield from months.months(opens, min(volume.deleted_at or at, at), account.zone)


def _kept(account: BillingAccount, volume: WorkspaceVolume, month: date, at: datetime) -> Decimal:
    start, end = months.stretch(month, account.zone)
    end = min(end, at)
    if not (kept := usage.kept_during(volume, start, end)):
        return NOTHING
    terms = tariffs.terms_for(account.workspace_id, start, end)
    return pricing.cost(kept, Size(Decimal(0), 0, volume.volume.size_gb), terms).amount


def _invoices(account: BillingAccount, at: datetime) -> tuple[int, Decimal, Decimal]:
    """How many were open then, over how much, and how much of that was overdue."""
    parts = Settlement.objects.filter(invoice__workspace=account.workspace_id, at__lte=at)
    settled = dict(parts.order_by().values_list("invoice").annotate(Sum("amount")))
    count, total, overdue = 0, NOTHING, NOTHING
    today = at.astimezone(account.zone).date()
    for invoice in Invoice.objects.filter(workspace=account.workspace_id, issued_at__lte=at):
        left = invoice.total - settled.get(invoice.pk, NOTHING)
        if left > 0:
            count, total = count + 1, total + left
            overdue += left if invoice.due_on < today else NOTHING
    return count, total, overdue
