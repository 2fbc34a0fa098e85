"""What stays of the books when an account is deleted: a `Part` of accounts.closing. Nothing of them ends.

Months are closed and invoiced as ever, so to whom the bills go must outlive the name and the address of the account.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from accounts.closing import Fate, counted
from accounts.models import User, Workspace
from billing import ledger, months, spending
from billing.accounts import account_of
from billing.models import BillingAccount, BudgetNotice, Invoice
from billing.pricing import NOTHING
from reservations.amounts import money
from reservations.models import Reservation, WorkspaceVolume


def fates(*, closing: Sequence[Workspace], user: User, now: datetime) -> list[Fate]:
    found = []
    for account in _accounts(closing):
        invoices = _open_invoices(account)
        if due := _due(invoices):
            how = counted(len(invoices), "invoice", "invoices")
            text = f"Of {how} of {account.workspace}. It stays due, and is paid as the invoice says."
            found.append(Fate(f"{money(due, account.currency)} to be paid", text, stays=True))
        if unbilled := _unbilled(account, now):
            text = f"Served for {account.workspace} until now, before tax: invoiced as usual when the month is over."
            found.append(Fate(f"{money(unbilled, account.currency)} not invoiced yet", text, stays=True))
        if (due or unbilled) and (to := account.email or user.email):
            text = f"Kept as the address for bills of {account.workspace}, and used for nothing else."
            found.append(Fate(to, text, stays=True))
    return found


def _open_invoices(account: BillingAccount) -> list[Invoice]:
    return list(Invoice.objects.filter(workspace=account.workspace_id).open())


def _due(invoices: list[Invoice]) -> Decimal:
    return sum((invoice.total - invoice.settled for invoice in invoices), NOTHING)


def _accounts(closing: Sequence[Workspace]) -> list[BillingAccount]:
    """Of those that have used anything, or have an account."""
    used = set(BillingAccount.objects.filter(workspace__in=closing).values_list("workspace", flat=True))
    for model in (Reservation, WorkspaceVolume):
        used |= set(model.objects.filter(workspace__in=closing).values_list("workspace", flat=True))
    return [account_of(pk) for pk in sorted(used)]


def _unbilled(account: BillingAccount, now: datetime) -> Decimal:
    """What is charged and on no invoice, and what was served since, of this month and of one that is not closed."""
    this = months.month_of(now, account.zone)
    total = ledger.of_account(account).usage().filter(line=None).total()
    for month in (months.previous(this), this):
        if account.closed_through is None or account.closed_through < month:
            total += sum((accrual.so_far for accrual in spending.accruals(account, month, now)), NOTHING)
    return total


def end(*, closing: Sequence[Workspace], leaving: Sequence[Workspace], user: User, by: object, now: datetime) -> None:
    """Whoever the bills went to they go to still: by the name and the address that the account had."""
    for account in _accounts(closing):
        account.recipient = account.recipient or account.workspace.name
        if _due(_open_invoices(account)) or _unbilled(account, now):
            account.email = account.email or user.email  # a bill must reach whoever owes it
        account.monthly_budget = None  # nobody is told of it any more
        account.save(update_fields=["recipient", "email", "monthly_budget"])
        BudgetNotice.objects.filter(account=account, sent_at=None).delete()
