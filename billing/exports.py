"""Money as CSV: for a spreadsheet, or for the accountant's program.

UTF-8 that begins with a byte order mark, since Excel takes a file without one for another encoding (LibreOffice and
Python's utf-8-sig read both); commas, CRLF, amounts with a point, days as 2026-05-31, times in UTC as 2026-05-31
22:00:00, which both programs read as such. A text that a spreadsheet would compute (it begins with = + - @, a tab or
a line break) gets an apostrophe before it. Rows are streamed: a ledger of any length takes little memory.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import islice

from django.db.models import Prefetch, QuerySet
from django.http import StreamingHttpResponse

from billing import months, pricing, usage
from billing.models import Invoice, InvoiceLine, LedgerEntry, Payment
from billing.models.invoices import InvoiceQuerySet
from billing.models.ledger import LedgerEntryQuerySet
from billing.standing import standing
from reservations.models import Reservation, UsagePeriod

BOM = "\N{BYTE ORDER MARK}"
COMPUTED = frozenset(
    "=+-@\t\r\n\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}"
)
ROWS_AT_ONCE = 500
Value = str | int | Decimal | date | None


@dataclass(frozen=True)
class Table:
    """Named columns, and rows that are fetched while they are written."""

    header: Sequence[str]
    rows: Iterable[Sequence[Value]]


def cell(value: Value) -> str:
    """As it stands in the file. Amounts are ours and stay numbers; text is anybody's and never becomes a formula."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, int | date):
        return str(value)
    computed = value[:1] in COMPUTED or value.lstrip()[:1] in COMPUTED
    return f"'{value}" if value and computed else value


def text_of(table: Table) -> Iterator[str]:
    """The file in parts of some hundred rows."""
    yield BOM + _lines([table.header])
    rows = iter(table.rows)
    while part := list(islice(rows, ROWS_AT_ONCE)):
        yield _lines(part)


def download(name: str, table: Table) -> StreamingHttpResponse:
    response = StreamingHttpResponse(text_of(table), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _lines(rows: Iterable[Sequence[Value]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows([cell(value) for value in row] for row in rows)
    return out.getvalue()


# ---- the tables ---------------------------------------------------------------------------------------------


def invoices(rows: InvoiceQuerySet, today: date) -> Table:
    """Invoices with how they stand."""
    header = (
        "number", "date", "month", "workspace", "recipient", "tax number", "currency", "net", "tax", "tax percent",
        "tax amount", "total", "settled", "open", "due", "state",
    )  # fmt: skip
    found = rows.with_open_amount().select_related("workspace").order_by("year", "position")
    return Table(header, (_invoice(row, today) for row in found.iterator(ROWS_AT_ONCE)))


def _invoice(row: Invoice, today: date) -> Sequence[Value]:
    how = standing(row, today)
    return (
        row.number, row.issued_on, f"{row.month:%Y-%m}", row.workspace.name, row.recipient, row.recipient_tax_number,
        row.currency, row.subtotal, row.tax_label, row.tax_percent, row.tax, row.total, how.settled, how.open,
        row.due_on, how.word,
    )  # fmt: skip


def invoice_lines(rows: "QuerySet[InvoiceLine]") -> Table:
    header = (
        "invoice", "position", "reservation", "text", "quantity", "served from (UTC)", "served until (UTC)",
        "amount", "currency", "ledger entry",
    )  # fmt: skip
    found = rows.select_related("invoice").order_by("invoice__year", "invoice__position", "position")
    return Table(
        header,
        (
            (
                row.invoice.number, row.position, row.reservation_id, row.text, row.quantity, row.served_from,
                row.served_until, row.amount, row.invoice.currency, row.entry_id,
            )
            for row in found.iterator(ROWS_AT_ONCE)
        ),
    )  # fmt: skip


def ledger(rows: LedgerEntryQuerySet) -> Table:
    """Entries, oldest first; positive is owed."""
    header = (
        "entry", "entered (UTC)", "workspace", "kind", "month", "amount", "currency", "text", "reservation", "service",
        "corrects entry", "invoice", "key", "by",
    )  # fmt: skip
    found = rows.select_related("workspace", "service", "line__invoice", "payment__invoice").order_by("at", "pk")
    return Table(header, (_entry(row) for row in found.iterator(ROWS_AT_ONCE)))


def _entry(row: LedgerEntry) -> Sequence[Value]:
    holder = getattr(row, "line", None) or getattr(row, "payment", None)
    return (
        row.pk, row.at, row.workspace.name, row.kind, f"{row.month:%Y-%m}", row.amount, row.currency, row.text,
        row.reservation_id, row.service.name if row.service else None, row.corrects_id,
        holder.invoice.number if holder else None, row.key, row.by,
    )  # fmt: skip


def payments(rows: "QuerySet[Payment]") -> Table:
    header = (
        "received", "invoice", "workspace", "amount", "currency", "method", "reference", "recorded (UTC)",
        "ledger entry", "reversed",
    )  # fmt: skip
    found = rows.select_related("invoice__workspace", "entry").order_by("received_on", "pk")
    found = found.prefetch_related(Prefetch("entry__corrections", LedgerEntry.objects.only("pk", "corrects")))
    return Table(
        header,
        (
            (
                row.received_on, row.invoice.number, row.invoice.workspace.name, row.amount, row.invoice.currency,
                row.method, row.reference, row.recorded_at, row.entry_id,
                "yes" if row.entry.corrections.all() else "no",
            )
            for row in found.iterator(ROWS_AT_ONCE)
        ),
    )  # fmt: skip


def served(rows: "QuerySet[Reservation]", now: datetime, month: date | None = None) -> Table:
    """Each interval that was served with what it cost; of a reservation they add up to its charges before tax.

    A `month` cuts them off at its ends in the account's zone. One that still runs reaches until now.
    """
    header = (
        "workspace", "reservation", "name", "service", "from (UTC)", "until (UTC)", "still serves", "seconds", "cores",
        "RAM MiB", "cost", "currency",
    )  # fmt: skip
    found = usage.with_usage(rows.filter(usage_periods__isnull=False).distinct().order_by("start", "pk"))
    reservations = found.select_related("service", "workspace__billing_account").iterator(ROWS_AT_ONCE)
    return Table(header, (interval for row in reservations for interval in _intervals(row, now, month)))


def _intervals(row: Reservation, now: datetime, month: date | None) -> Iterator[Sequence[Value]]:
    intervals, size, terms = usage.served(row, now), usage.size_of(row), usage.terms_of(row)
    account = getattr(row.workspace, "billing_account", None)
    first, last = months.stretch(month, account.zone) if month and account else (None, None)
    last_period: UsagePeriod = list(row.usage_periods.all())[-1]
    for opens, closes in intervals:
        start, end = max(opens, first or opens), min(closes, last or closes)
        if start >= end:
            continue
        cost = pricing.cost(intervals, size, terms, end) - pricing.cost(intervals, size, terms, start)
        serves = last_period.during.upper is None and last_period.during.lower == opens
        yield (
            row.workspace.name, row.pk, row.title, row.service.name, start, end, "yes" if serves else "no",
            round((end - start).total_seconds()), row.cores, row.ram_mib, cost.amount, terms.currency,
        )  # fmt: skip
