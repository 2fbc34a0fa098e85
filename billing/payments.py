"""What comes in and what is given back: payments, credit and corrections.

Each function that an admin calls is one durable transaction with its audit row; it locks the account first, so two at
once see each other. Afterwards, always: balance = what is open of invoices + what is not on one yet - available credit;
and nothing is open while credit is available.
"""

from datetime import date, datetime
from decimal import Decimal
from uuid import uuid4

from django.db import IntegrityError, transaction
from django.db.models import QuerySet, Sum

from accounts import audit
from accounts.models import User, Workspace
from billing import ledger, months
from billing.accounts import lock
from billing.ledger import CurrencyChanged
from billing.models import BillingAccount, DailyCost, Invoice, LedgerEntry, Payment, Settlement
from billing.payment_checks import (
    Refused,
    check_amount,
    check_currency,
    check_day,
    check_kept,
    checked_reason,
    checked_reference,
)
from billing.pricing import NOTHING

__all__ = [
    "Refused",
    "apply_credit",
    "available_credit",
    "correct",
    "grant_credit",
    "open_amount",
    "receive",
    "record_payment",
    "reverse_payment",
    "take_back_credit",
]
USED_BEFORE = "A payment with this reference was recorded already."


def open_amount(invoice: Invoice) -> Decimal:
    """What is still to be paid of an invoice; nothing of a credit note."""
    left: Decimal = invoice.total - _sum(Settlement.objects.filter(invoice=invoice))
    return max(left, NOTHING)


def available_credit(workspace_id: int) -> Decimal:
    """Credit that no invoice has used: what was granted and not taken back, and credit notes, less what was used."""
    entries = LedgerEntry.objects.filter(workspace=workspace_id)
    granted = entries.filter(kind=LedgerEntry.Kind.CREDIT).total()
    taken_back = entries.filter(kind=LedgerEntry.Kind.REVERSAL, corrects__kind=LedgerEntry.Kind.CREDIT).total()
    notes = Invoice.objects.filter(workspace=workspace_id, total__lt=0).aggregate(all=Sum("total"))["all"] or NOTHING
    used = _sum(Settlement.objects.filter(invoice__workspace=workspace_id, payment=None))
    return -(granted + taken_back + notes) - used


def apply_credit(account: BillingAccount, now: datetime) -> Decimal:
    """Settle the oldest open invoices out of available credit; returns how much. The account must be locked."""
    left = available = available_credit(account.workspace_id)
    if available <= 0:
        return NOTHING
    parts = []
    rows = Invoice.objects.filter(workspace=account.workspace_id, currency=account.currency)
    for invoice in rows.open().order_by("year", "position"):
        part = min(left, open_amount(invoice))
        parts.append(Settlement(invoice=invoice, amount=part, at=now))
        left -= part
        if not left:
            break
    Settlement.objects.bulk_create(parts)
    return available - left


def record_payment(
    *,
    invoice: Invoice,
    amount: Decimal,
    method: str,
    reference: str,
    received_on: date,
    by: object,
    now: datetime,
    currency: str = "",
) -> Payment:
    """Note money that came for an invoice, all of what is open of it or a part.

    `currency` empty: the invoice's. Raises Refused: an amount that is not more than zero or over what is open, a
    reference that was used before (by this method), a date in the future, another currency, a credit note.
    """
    try:
        with transaction.atomic(durable=True):
            account = lock(invoice.workspace_id)
            check_amount(amount)
            reference = checked_reference(method, reference)
            check_currency(account, invoice, currency)
            check_day(account, invoice, received_on, now)
            if _is_known(method, reference):
                raise Refused("reference", USED_BEFORE)
            if invoice.total < 0:
                raise Refused("invoice", f"{invoice} is a credit note: there is nothing to pay.")
            if amount > (left := open_amount(invoice)):
                what = f"Only {left} {invoice.currency} of {invoice} are open." if left else f"{invoice} is paid."
                raise Refused("amount", what)
            return _record(account, invoice, amount, method, reference, received_on, by, now)
    except IntegrityError as problem:  # the same reference for another workspace in the same instant
        if not _is_known(method, " ".join(reference.split())):
            raise
        raise Refused("reference", USED_BEFORE) from problem


def receive(
    *,
    invoice: Invoice,
    amount: Decimal,
    method: str,
    reference: str,
    received_on: date,
    by: object,
    now: datetime,
    currency: str,
) -> bool:
    """Note money that a provider has taken already, so that none of it is lost: what is over the open amount is credit.

    Returns whether it was new: the same reference again changes nothing. Raises Refused for what is no payment.
    """
    try:
        with transaction.atomic(durable=True):
            account = lock(invoice.workspace_id)
            check_amount(amount)
            reference = checked_reference(method, reference)
            if _is_known(method, reference):
                return False
            check_currency(account, invoice, currency)
            part = min(amount, open_amount(invoice))
            if part:
                _record(account, invoice, part, method, reference, received_on, by, now)
            if rest := amount - part:
                key = _payment_key(method, reference) + (":rest" if part else "")
                text = f"Paid by {method} for {invoice} over what was open, {reference}"
                _credit(account, rest, key, text, by, now, invoice=invoice.number, reference=reference)
            return True
    except IntegrityError:  # the same reference for another workspace in the same instant
        if not _is_known(method, reference):
            raise
        return False


def reverse_payment(*, payment: Payment, reason: str, by: object, now: datetime) -> LedgerEntry:
    """The money went back: the invoice is open again, unless there is credit for it. Raises Refused a second time."""
    invoice = payment.invoice
    with transaction.atomic(durable=True):
        account = lock(invoice.workspace_id)
        reason = checked_reason(reason)
        if LedgerEntry.objects.filter(corrects=payment.entry_id).exists():
            raise Refused("", "This payment was reversed already.")
        check_kept(account, payment.entry.currency)
        text = f"Payment {payment.reference} for {invoice} reversed: {reason}"
        key = f"payment:{payment.pk}:reversal"
        entry = _post(account, LedgerEntry.Kind.REVERSAL, payment.amount, key, text, by, now, corrects=payment.entry)
        Settlement.objects.create(invoice=invoice, payment=payment, amount=-payment.amount, at=now)
        apply_credit(account, now)
        audit.record(
            by=by,
            action="payment.reverse",
            target=f"invoice:{invoice}",
            reference=payment.reference,
            amount=str(payment.amount),
            reason=reason,
        )
    return entry


def grant_credit(
    *, workspace: Workspace, amount: Decimal, reason: str, by: object, now: datetime, once: str = ""
) -> LedgerEntry:
    """Give credit: open invoices are settled with it at once, then those to come.

    `once` names this grant, so that a form that is sent twice grants once. Raises Refused.
    """
    with transaction.atomic(durable=True):
        account = lock(workspace.pk)
        check_amount(amount)
        reason = checked_reason(reason)
        key = _new_key(f"credit:{workspace.pk}", once)
        return _credit(account, amount, key, reason, by, now, reason=reason)


def take_back_credit(
    *, entry: LedgerEntry, reason: str, by: object, now: datetime, amount: Decimal | None = None, once: str = ""
) -> LedgerEntry:
    """Take back what is not used of a granted credit, or `amount` of that. Raises Refused."""
    with transaction.atomic(durable=True):
        account = lock(entry.workspace_id)
        reason = checked_reason(reason)
        if entry.kind != LedgerEntry.Kind.CREDIT:
            raise Refused("", f"A {entry.get_kind_display().lower()} is no credit.")
        check_kept(account, entry.currency)
        left = min(_left_of(entry), available_credit(entry.workspace_id))
        if left <= 0:
            raise Refused("", "Nothing is left of this credit: it was used or taken back.")
        amount = left if amount is None else amount
        check_amount(amount)
        if amount > left:
            raise Refused("amount", f"Only {left} {entry.currency} of this credit are left.")
        key = _new_key(f"entry:{entry.pk}:taken-back", once)
        taken = _post(account, LedgerEntry.Kind.REVERSAL, amount, key, f"Credit taken back: {reason}", by, now, entry)
        audit.record(
            by=by, action="credit.take-back", target=f"workspace:{entry.workspace_id}", entry=entry.pk,
            amount=str(amount), reason=reason,
        )  # fmt: skip
    return taken


def correct(
    *, entry: LedgerEntry, amount: Decimal, reason: str, by: object, now: datetime, once: str = ""
) -> LedgerEntry:
    """Take `amount` off a charge by an entry of its own, which goes to the next invoice with its tax.

    A negative amount puts back what an earlier correction took off, and no more. Raises Refused: not a charge, more
    than what is left of it, no reason.
    """
    with transaction.atomic(durable=True):
        account = lock(entry.workspace_id)
        check_amount(abs(amount))
        reason = checked_reason(reason)
        if entry.kind != LedgerEntry.Kind.CHARGE:
            raise Refused("", f"A {entry.get_kind_display().lower()} cannot be corrected, only a charge.")
        check_kept(account, entry.currency)
        left = _left_of(entry)
        if amount > left:
            raise Refused("amount", f"Only {max(left, NOTHING)} {entry.currency} are left of this charge.")
        if entry.reservation_id and amount > max(rest := _left_of_reservation(entry), NOTHING):
            raise Refused("amount", f"Only {max(rest, NOTHING)} {entry.currency} are left of this reservation.")
        if left - amount > entry.amount:
            raise Refused("amount", f"Only {entry.amount - left} {entry.currency} were taken off this charge.")
        key = _new_key(f"entry:{entry.pk}:correction", once)
        made = _post(
            account,
            LedgerEntry.Kind.CORRECTION,
            -amount,
            key,
            f"Correction of {entry.text[:70]}, {entry.month:%B %Y}: {reason}",
            by,
            now,
            entry,
        )
        day = now.astimezone(account.zone).date()
        DailyCost.objects.create(
            entry=made, workspace_id=made.workspace_id, service_id=made.service_id, day=day, amount=made.amount
        )
        audit.record(
            by=by, action="charge.correct", target=f"workspace:{entry.workspace_id}", entry=entry.pk,
            amount=str(amount), reason=reason,
        )  # fmt: skip
    return made


# ---- what they are made of: the account is locked, and the values are checked ------------------------------------


def _record(
    account: BillingAccount,
    invoice: Invoice,
    amount: Decimal,
    method: str,
    reference: str,
    received_on: date,
    by: object,
    now: datetime,
) -> Payment:
    text = f"Payment for {invoice} by {Payment.Method(method).label}, {reference}"
    entry = _post(account, LedgerEntry.Kind.PAYMENT, -amount, _payment_key(method, reference), text, by, now)
    payment = Payment.objects.create(
        invoice=invoice,
        amount=amount,
        method=method,
        reference=reference,
        received_on=received_on,
        recorded_at=now,
        recorded_by=by if isinstance(by, User) else None,
        entry=entry,
    )
    Settlement.objects.create(invoice=invoice, payment=payment, amount=amount, at=now)
    audit.record(
        by=by,
        action="payment.record",
        target=f"invoice:{invoice}",
        amount=str(amount),
        method=method,
        reference=reference,
        received_on=received_on.isoformat(),
    )
    return payment


def _credit(
    account: BillingAccount, amount: Decimal, key: str, text: str, by: object, now: datetime, **details: str
) -> LedgerEntry:
    entry = _post(account, LedgerEntry.Kind.CREDIT, -amount, key, text, by, now)
    apply_credit(account, now)
    target = f"workspace:{account.workspace_id}"
    audit.record(by=by, action="credit.grant", target=target, entry=entry.pk, amount=str(amount), **details)
    return entry


def _post(
    account: BillingAccount,
    kind: LedgerEntry.Kind,
    amount: Decimal,
    key: str,
    text: str,
    by: object,
    now: datetime,
    corrects: LedgerEntry | None = None,
) -> LedgerEntry:
    """Enter it in the current month; what it corrects says what it is about."""
    about = (
        {name: getattr(corrects, name) for name in ("reservation_id", "volume_id", "service_id")} if corrects else {}
    )
    try:
        entry = ledger.entry(
            account=account,
            kind=kind,
            month=months.month_of(now, account.zone),
            amount=amount,
            key=key,
            text=text,
            by=by,
            now=now,
            corrects=corrects,
            **about,
        )
    except CurrencyChanged as problem:
        raise Refused("", str(problem)) from problem
    return ledger.post([entry])[0]


def _left_of(entry: LedgerEntry) -> Decimal:
    """Of a charge or credit, what no correction or reversal has taken off."""
    left: Decimal = entry.amount + LedgerEntry.objects.filter(corrects=entry).total()
    return -left if entry.kind == LedgerEntry.Kind.CREDIT else left


def _left_of_reservation(entry: LedgerEntry) -> Decimal:
    """Recounts and later months may have given back what one of its charges alone does not show."""
    return LedgerEntry.objects.usage().filter(reservation=entry.reservation_id).total()


def _sum(rows: "QuerySet[Settlement]") -> Decimal:
    total: Decimal | None = rows.aggregate(total=Sum("amount"))["total"]
    return total or NOTHING


def _payment_key(method: str, reference: str) -> str:
    """The same for references that differ only in upper and lower case."""
    return f"payment:{method}:{reference.lower()}"[:115]


def _new_key(what: str, once: str) -> str:
    key = f"{what}:{once[:64] or uuid4().hex}"
    if once and LedgerEntry.objects.filter(key=key).exists():
        raise Refused("", "This was entered already.")
    return key


def _is_known(method: str, reference: str) -> bool:
    return LedgerEntry.objects.filter(key=_payment_key(method, reference)).exists()
