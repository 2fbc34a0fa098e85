"""Invoices: a month's charges of a workspace, numbered, issued once and never changed.

An invoice has every charge and correction up to the end of its month that no other one has; so what was entered too
late for one month is on the next one. Months are invoiced in order, and one that has nothing gets no number.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Min

from billing import charging, ledger, months, payments, pricing
from billing.accounts import lock
from billing.ledger import CurrencyChanged
from billing.models import BillingAccount, Invoice, InvoiceDocument, InvoiceLine, InvoiceSeries, LedgerEntry
from billing.pricing import NOTHING
from compute import failpoints
from reservations.models import UsagePeriod, WorkspaceVolume

logger = logging.getLogger(__name__)
GRACE = timedelta(hours=1)  # after a month's end: what ended with it has been charged by then
ORDER = (LedgerEntry.Kind.CHARGE, LedgerEntry.Kind.CORRECTION)  # of the lines
LONGEST_QUANTITY = 120


class CannotIssue(Exception):
    """No invoice can be issued for that month; the sentence says why."""

    code = "month"


@dataclass(frozen=True, slots=True)
class Draft:
    """What a dry run would have issued."""

    month: date
    lines: int
    total: Decimal
    currency: str


def issue(workspace_id: int, month: date, now: datetime) -> Invoice | None:
    """Close a month and issue its invoice, in one transaction; None when there is nothing to invoice, or it was closed.

    Raises CannotIssue: the month is not over in the account's zone, or one before it is still open.
    """
    with transaction.atomic(durable=True):
        return _issue(lock(workspace_id), month.replace(day=1), now)


def issue_due(now: datetime) -> list[Invoice]:
    """Issue for every workspace the months that have been over for an hour in its zone.

    A workspace for which that fails keeps no other one waiting; the next round tries again.
    """
    over = now - GRACE
    issued: list[Invoice] = []
    for workspace_id in workspaces_due(over):
        try:
            for month in open_months(workspace_id, over):
                if invoice := issue(workspace_id, month, now):
                    issued.append(invoice)
        except Exception:  # logged whole
            logger.exception("workspace %s could not be invoiced", workspace_id)
    return issued


def issue_open(workspace_id: int, now: datetime, through: date | None = None) -> Iterator[Invoice]:
    """Issue every month that is over and not closed, oldest first, each in a transaction of its own."""
    for month in open_months(workspace_id, now, through):
        if invoice := issue(workspace_id, month, now):
            yield invoice


def preview(workspace_id: int, now: datetime, through: date | None = None) -> list[Draft]:
    """What issue_open would issue; everything is rolled back."""
    drafts = []
    with transaction.atomic(durable=True):
        account = lock(workspace_id)
        for month in open_months(workspace_id, now, through):
            if invoice := _issue(account, month, now):
                drafts.append(Draft(month, invoice.lines.count(), invoice.total, invoice.currency))
        transaction.set_rollback(True)
    return drafts


def open_months(workspace_id: int, now: datetime, through: date | None = None) -> list[date]:
    """The months of a workspace that are over and not closed, oldest first."""
    account = BillingAccount.objects.filter(pk=workspace_id).first()
    first = _first_open(account) if account else None
    if account is None or first is None:
        return []
    last = months.previous(months.month_of(now, account.zone))
    return months.through(first, min(last, through) if through else last)


def workspaces_due(now: datetime, through: date | None = None) -> list[int]:
    """The workspaces that have a month which is over and not closed, in a constant number of queries."""
    rows = BillingAccount.objects.order_by("pk").only("time_zone", "closed_through")
    first_used: dict[int, date] | None = None
    found = []
    for account in rows:
        last = months.previous(months.month_of(now, account.zone))
        last = min(last, through) if through else last
        if account.closed_through:
            due = account.closed_through < last
        else:
            first_used = _first_used() if first_used is None else first_used
            due = account.pk in first_used and first_used[account.pk] <= last
        if due:
            found.append(account.pk)
    return found


def _first_open(account: BillingAccount) -> date | None:
    """The month after the last closed one, else that of the first usage; None: nothing was ever used."""
    if account.closed_through:
        return months.following(account.closed_through)
    return _first_used(account.pk).get(account.pk)


def _first_used(workspace_id: int | None = None) -> dict[int, date]:
    """By workspace, the first month in which something was served, kept or entered; of those that closed none yet."""
    open_accounts = BillingAccount.objects.filter(closed_through=None).select_related(None)
    if workspace_id is not None:
        open_accounts = open_accounts.filter(pk=workspace_id)
    accounts = {account.pk: account for account in open_accounts}
    periods = UsagePeriod.objects.filter(reservation__workspace__in=accounts)
    volumes = WorkspaceVolume.objects.filter(workspace__in=accounts, volume__formatted_at__isnull=False)
    entries = LedgerEntry.objects.usage().filter(workspace__in=accounts)
    instants = [
        *_firsts(periods, "reservation__workspace", "during__startswith"),
        *_firsts(volumes, "workspace", "volume__formatted_at"),
    ]
    found = [(pk, months.month_of(instant, accounts[pk].zone)) for pk, instant in instants]
    first: dict[int, date] = {}
    for pk, month in [*found, *_firsts(entries, "workspace", "month")]:
        first[pk] = min(month, first.get(pk, month))
    return first


def _firsts(rows: Any, workspace: str, when: str) -> list[tuple[int, Any]]:
    return list(rows.order_by().values_list(workspace).annotate(first=Min(when)))


# ---- one invoice: the account is locked -----------------------------------------------------------------------------


def _issue(account: BillingAccount, month: date, now: datetime) -> Invoice | None:
    _check_over(account, month, now)
    first = _first_open(account)
    if first is None or month < first:
        return None  # closed already, or before anything was used
    if first < month:
        raise CannotIssue(f"{first:%Y-%m} of {account.workspace} is not closed yet; months are invoiced in order.")
    ledger.keep_currency(account)  # before there are lines: an invoice and its tax are in one currency
    charging.close(account, month, now)
    entries = _entries(account, month)
    if not entries:
        return None
    invoice = _numbered(account, month, entries, now)
    InvoiceLine.objects.bulk_create(_line(invoice, place, entry) for place, entry in enumerate(entries, 1))
    if invoice.tax:
        ledger.post([_tax_entry(account, invoice, now)])
    InvoiceDocument.objects.create(invoice=invoice, try_at=now)
    payments.apply_credit(account, now)
    failpoints.hit("invoice before commit")
    return invoice


def _check_over(account: BillingAccount, month: date, now: datetime) -> None:
    try:
        end = months.stretch(month, account.zone)[1]
    except OverflowError:
        raise CannotIssue(f"{month:%Y-%m} is no month that anything was served in.") from None
    if now < end:
        raise CannotIssue(
            f"{month:%Y-%m} is not over for {account.workspace}: it ends on"
            f" {end.astimezone(account.zone):%Y-%m-%d at %H:%M} in {account.zone.key}."
        )


def _entries(account: BillingAccount, month: date) -> list[LedgerEntry]:
    """What no invoice has, in the order of its lines: charges as they were served, then corrections."""
    rows = ledger.of_account(account).usage().filter(line=None, month__lte=month).select_related("service")
    entries = sorted(rows, key=lambda entry: (ORDER.index(entry.kind), _opens(entry), entry.pk))
    if any(entry.currency != account.currency for entry in entries):
        raise CurrencyChanged(f"Not all charges of {account.workspace} are in {account.currency}.")
    return entries


def _opens(entry: LedgerEntry) -> datetime:
    return _instant(entry, "from") or entry.at


def _instant(entry: LedgerEntry, name: str) -> datetime | None:
    return datetime.fromisoformat(entry.details[name]) if name in entry.details else None


def _numbered(account: BillingAccount, month: date, entries: list[LedgerEntry], now: datetime) -> Invoice:
    """The invoice with the next number of its year. The series stays locked until the transaction ends."""
    subtotal = sum((entry.amount for entry in entries), NOTHING)
    tax = pricing.percent_of(subtotal, settings.BERTH_TAX_PERCENT)
    issued_on = now.astimezone(account.zone).date()
    position = _next_position(issued_on.year)
    return Invoice.objects.create(
        workspace_id=account.workspace_id,
        number=f"{settings.BERTH_INVOICE_PREFIX}{issued_on.year}-{position:06}",
        year=issued_on.year,
        position=position,
        month=month,
        zone=account.zone.key,
        issued_at=now,
        issued_on=issued_on,
        due_on=issued_on + timedelta(days=settings.BERTH_INVOICE_DUE_DAYS),
        currency=account.currency,
        seller=settings.BERTH_SELLER,
        recipient="\n".join(filter(None, (account.recipient or account.workspace.name, account.address.strip()))),
        recipient_tax_number=account.tax_number,
        tax_label=settings.BERTH_TAX_LABEL if settings.BERTH_TAX_PERCENT else "",
        tax_percent=settings.BERTH_TAX_PERCENT,
        note=settings.BERTH_INVOICE_NOTE,
        subtotal=subtotal,
        tax=tax,
        total=subtotal + tax,
    )


def _next_position(year: int) -> int:
    InvoiceSeries.objects.get_or_create(year=year)
    series = InvoiceSeries.objects.select_for_update().get(year=year)
    series.last_number += 1
    series.save(update_fields=["last_number"])
    return series.last_number


def _line(invoice: Invoice, position: int, entry: LedgerEntry) -> InvoiceLine:
    return InvoiceLine(
        invoice=invoice,
        entry=entry,
        position=position,
        reservation_id=entry.reservation_id,
        text=entry.text,
        served_from=_instant(entry, "from"),
        served_until=_instant(entry, "until"),
        quantity=quantity(entry)[:LONGEST_QUANTITY],
        amount=entry.amount,
    )


def quantity(entry: LedgerEntry) -> str:
    """What was served, in words: 3 started hours (2:13:05 served), nginx, 0.5 cores, 512 MiB."""
    details = entry.details
    if "size_gb" in details:
        return f"{details['size_gb']} GB kept"
    if "served_s" not in details:
        return ""
    seconds = round(details["served_s"])
    served = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    if details.get("rounding") == pricing.Rounding.HOUR:
        hours = details["started_hours"]
        served = f"{hours} started hour{'' if hours == 1 else 's'} ({served} served)"
    else:
        served += " h served"
    return ", ".join(filter(None, (served, str(entry.service or ""), details.get("size", ""))))


def _tax_entry(account: BillingAccount, invoice: Invoice, now: datetime) -> LedgerEntry:
    return ledger.entry(
        account=account,
        kind=LedgerEntry.Kind.TAX,
        month=invoice.month,
        amount=invoice.tax,
        key=f"invoice:{invoice.number}:tax",
        text=f"{invoice.tax_label} {invoice.tax_percent.normalize():f} % on {invoice.number}",
        by=charging.BY,
        now=now,
    )
