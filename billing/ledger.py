"""The ledger's one writer, and what follows from its entries."""

from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from django.conf import settings

from billing.models import BillingAccount, LedgerEntry
from billing.models.ledger import LedgerEntryQuerySet


class CurrencyChanged(Exception):
    """The account still owes, or is owed, in the currency that was set before."""

    code = "currency"


def entry(
    *,
    account: BillingAccount,
    kind: LedgerEntry.Kind,
    month: date,
    amount: Decimal,
    key: str,
    text: str,
    by: object,
    now: datetime,
    **what: Any,
) -> LedgerEntry:
    """An entry that is not written yet. The account must be locked by the transaction that writes it.

    Raises CurrencyChanged when the account is still kept in another currency than the settings'.
    """
    keep_currency(account)
    return LedgerEntry(
        workspace_id=account.workspace_id,
        at=now,
        kind=kind,
        month=month,
        amount=amount,
        currency=account.currency,
        key=key,
        text=text[:300],
        by=str(by)[:80],
        **what,
    )


def post(entries: Iterable[LedgerEntry]) -> list[LedgerEntry]:
    """Write them; nothing is written if one of their keys was entered already (IntegrityError)."""
    return LedgerEntry.objects.bulk_create(entries)


def balance(workspace_id: int) -> Decimal:
    """What the workspace owes now: negative when it has credit."""
    return LedgerEntry.objects.filter(workspace=workspace_id).total()


def of_account(account: BillingAccount) -> LedgerEntryQuerySet:
    return LedgerEntry.objects.filter(workspace=account.workspace_id)


def keep_currency(account: BillingAccount) -> None:
    """From now on what is entered is in the settings' currency: raises CurrencyChanged when that cannot be.

    Only an account that is even, and whose charges are all on invoices, may change to another one.
    """
    if account.currency == settings.BERTH_CURRENCY:
        return
    entries = of_account(account)
    if entries.total() or entries.usage().filter(line=None).exists():
        raise CurrencyChanged(
            f"The account of {account.workspace} is kept in {account.currency} and is not even, or not all of it is"
            f" on invoices; settle it before BERTH_CURRENCY becomes {settings.BERTH_CURRENCY}."
        )
    account.currency = settings.BERTH_CURRENCY
    account.save(update_fields=["currency"])
