"""A page of the ledger: each entry with what the account came to with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from django.db import connection

from billing.models import BillingAccount, LedgerEntry
from billing.models.ledger import LedgerEntryQuerySet


@dataclass(frozen=True, slots=True)
class Line:
    entry: LedgerEntry
    balance: Decimal


def with_names(rows: LedgerEntryQuerySet) -> LedgerEntryQuerySet:
    """With everything that a line shows of other rows, in the same query."""
    return rows.select_related("reservation", "corrects", "line__invoice", "payment__invoice")


def lines(account: BillingAccount, entries: Sequence[LedgerEntry]) -> list[Line]:
    """The entries, each with the sum of it and all that were entered before it, of whatever kind: one query."""
    found = _balances(account, entries)
    return [Line(entry, found[entry.pk]) for entry in entries]


def _balances(account: BillingAccount, entries: Sequence[LedgerEntry]) -> dict[int, Decimal]:
    if not entries:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, balance FROM ("
            "  SELECT id, sum(amount) OVER (ORDER BY at, id) AS balance FROM billing_ledgerentry"
            "  WHERE workspace_id = %s AND at <= %s"
            ") line WHERE id = ANY(%s)",
            [account.workspace_id, max(entry.at for entry in entries), [entry.pk for entry in entries]],
        )
        return dict(cursor.fetchall())
