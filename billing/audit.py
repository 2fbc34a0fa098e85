"""Recomputes every bill from the intervals that were served, and names each difference in a sentence.

It shares no arithmetic with what makes the bills (pricing, months, charging): see recompute. What is read is of one
instant, so that nothing looks wrong because it was written meanwhile.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from django.db import connection, transaction

from accounts.models import Workspace
from billing import audit_rows
from billing.audit_books import book_faults, series_faults
from billing.audit_usage import usage_faults

AT_ONCE = 200  # workspaces whose rows are in memory together


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in the books that is not as it has to be."""

    workspace: int | None  # None: of the whole installation
    name: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.name}: {self.sentence}"


@dataclass(frozen=True, slots=True)
class Audit:
    """What was looked at, and everything that is wrong with it."""

    workspaces: int
    reservations: int
    entries: int
    invoices: int
    findings: list[Finding]


def examine(now: datetime, workspace_id: int | None = None) -> Audit:
    """Check the books of one workspace or of all. Changes nothing."""
    findings: list[Finding] = []
    reservations = entries = invoices = 0
    with _one_instant():
        rows = Workspace.objects.order_by("pk").values_list("pk", "name")
        workspaces = list(rows.filter(pk=workspace_id) if workspace_id else rows)
        if workspace_id is None:
            findings += [Finding(None, "invoices", sentence) for sentence in series_faults()]
        for first in range(0, len(workspaces), AT_ONCE):
            for books in audit_rows.read(workspaces[first : first + AT_ONCE]):
                sentences = [*usage_faults(books, now), *book_faults(books)]
                findings += [Finding(books.workspace, books.name, sentence) for sentence in sentences]
                reservations += len(books.reservations)
                entries += len(books.entries)
                invoices += len(books.invoices)
    return Audit(len(workspaces), reservations, entries, invoices, findings)


@contextmanager
def _one_instant() -> Iterator[None]:
    """Everything within is read as of one instant, and nothing is written; within a test's transaction as it is."""
    if connection.in_atomic_block:
        yield
        return
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield
