"""Charges and invoices as a test needs them, without anything being served."""

from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import count

from django.db import transaction

from accounts.models import Workspace
from billing import ledger, months, payments
from billing.accounts import account_of, lock
from billing.models import Invoice, InvoiceLine, LedgerEntry
from tests.factories import NOW

_numbers = count(1)


def make_charge(workspace: Workspace, amount: str = "10.00", now: datetime = NOW) -> LedgerEntry:
    """A charge of the current month."""
    with transaction.atomic():
        account = lock(workspace.pk)
        entry = ledger.entry(
            account=account,
            kind=LedgerEntry.Kind.CHARGE,
            month=months.month_of(now, account.zone),
            amount=Decimal(amount),
            key=f"test:{next(_numbers)}",
            text="nginx (#1)",
            by="test",
            now=now,
        )
        return ledger.post([entry])[0]


def make_invoice(workspace: Workspace, amount: str | None = "10.00", now: datetime = NOW, tax: str = "0") -> Invoice:
    """An invoice over everything that is on none yet, and a charge over `amount` before; credit is applied to it.

    Each is for a month of its own, later than the one before.
    """
    if amount is not None:
        make_charge(workspace, amount, now)
    with transaction.atomic():
        account = lock(workspace.pk)
        entries = list(ledger.of_account(account).usage().filter(line=None).order_by("pk"))
        subtotal = sum((entry.amount for entry in entries), Decimal(0))
        position = Invoice.objects.filter(year=now.year).count() + 1
        invoice = Invoice.objects.create(
            workspace=workspace,
            number=f"INV-{now.year}-{position:04}",
            year=now.year,
            position=position,
            month=_month_after(workspace, now),
            zone="UTC",
            issued_at=now,
            issued_on=now.date(),
            due_on=now.date() + timedelta(days=14),
            currency=account.currency,
            seller="Berth",
            recipient=str(workspace),
            subtotal=subtotal,
            tax=Decimal(tax),
            total=subtotal + Decimal(tax),
        )
        InvoiceLine.objects.bulk_create(
            InvoiceLine(invoice=invoice, entry=entry, position=position, text=entry.text, amount=entry.amount)
            for position, entry in enumerate(entries, 1)
        )
        if invoice.tax:
            taxed = ledger.entry(
                account=account,
                kind=LedgerEntry.Kind.TAX,
                month=invoice.month,
                amount=invoice.tax,
                key=f"invoice:{invoice.number}:tax",
                text="Tax",
                by="test",
                now=now,
            )
            ledger.post([taxed])
        payments.apply_credit(account, now)
    return invoice


def adds_up(workspace: Workspace) -> bool:
    """What always holds: the balance is what is open and what is on no invoice yet, less the credit that is left."""
    unbilled = ledger.of_account(account_of(workspace.pk)).usage().filter(line=None).total()
    opened = sum((payments.open_amount(row) for row in Invoice.objects.filter(workspace=workspace)), Decimal(0))
    credit = payments.available_credit(workspace.pk)
    return ledger.balance(workspace.pk) == opened + unbilled - credit and not (opened and credit) and credit >= 0


def _month_after(workspace: Workspace, now: datetime) -> date:
    last = Invoice.objects.filter(workspace=workspace).order_by("-month").first()
    return months.following(last.month) if last else now.date().replace(day=1)
