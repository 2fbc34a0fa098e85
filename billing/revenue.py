"""All workspaces' money for the staff: what came in by month, workspace and service, and what is still open.

A constant number of queries, each over one table; lists are cut, and their totals are over all rows.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import QuerySet, Sum

from accounts.models import Workspace
from billing import charts, months
from billing.charts import ByDay, ByService
from billing.models import Invoice, InvoiceDocument, LedgerEntry, Settlement
from billing.pricing import NOTHING

MONTHS = 12
MOST_ROWS = 25
NO_SERVICE = "No service"
Kind = LedgerEntry.Kind
# The longest due, and beside each row the figures of all. Settlements are summed first: the other way round, as a
# GROUP BY of the invoices with all their text, takes ten times as long.
OPEN = """
    SELECT id, owed, count(*) OVER (), sum(owed) OVER (),
           count(*) FILTER (WHERE due_on < %(today)s) OVER (), sum(owed) FILTER (WHERE due_on < %(today)s) OVER ()
    FROM (
        SELECT invoice.id, invoice.due_on, invoice.total - COALESCE(settled.amount, 0) AS owed
        FROM billing_invoice invoice
        LEFT JOIN (
            SELECT invoice_id, sum(amount) AS amount FROM billing_settlement GROUP BY invoice_id
        ) settled ON settled.invoice_id = invoice.id
        WHERE invoice.total > 0 AND invoice.currency = %(currency)s
    ) found
    WHERE owed > 0
    ORDER BY due_on, id
    LIMIT %(most)s
"""


@dataclass(slots=True)
class Month:
    """Before tax: what was charged less what was corrected. `paid` and `credited` are less what was taken back."""

    month: date
    charged: Decimal = NOTHING
    tax: Decimal = NOTHING
    paid: Decimal = NOTHING
    credited: Decimal = NOTHING


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    amount: Decimal
    pk: int | None = None


@dataclass(frozen=True, slots=True)
class Unpaid:
    invoice: Invoice
    open: Decimal
    overdue_days: int


@dataclass(frozen=True, slots=True)
class Debts:
    """The ones that are due the longest first; figures are of all."""

    rows: Sequence[Unpaid]
    count: int
    open: Decimal
    overdue_count: int
    overdue: Decimal


@dataclass(frozen=True, slots=True)
class Credit:
    """What workspaces have paid or were given ahead: the largest first."""

    rows: Sequence[Row]
    count: int
    total: Decimal


@dataclass(frozen=True, slots=True)
class Mail:
    """Invoices that nobody got."""

    rows: Sequence[InvoiceDocument]
    count: int


@dataclass(frozen=True, slots=True)
class Revenue:
    month: date
    months: Sequence[Month]  # the newest first
    workspaces: Sequence[Row]
    workspace_count: int
    services: Sequence[Row]
    total: Decimal
    debts: Debts
    credit: Credit
    mail: Mail
    month_chart: ByDay = field(repr=False)
    service_chart: ByService = field(repr=False)


def revenue(month: date, today: date, currency: str) -> Revenue:
    """As the pages of the staff show it, for the year that ends with `month`."""
    found = by_month(month, currency)
    charged = LedgerEntry.objects.usage().filter(month=month, currency=currency).order_by()
    workspaces = [Row(name, amount, pk) for pk, name, amount in _by_workspace(charged)]
    services = [Row(name or NO_SERVICE, amount) for name, amount in _by_service(charged)]
    in_order = [row.month for row in reversed(found)]
    return Revenue(
        month,
        found,
        workspaces[:MOST_ROWS],
        len(workspaces),
        services,
        sum((row.amount for row in workspaces), NOTHING),
        debts(today, currency),
        credit(currency),
        not_mailed(),
        charts.by_day(in_order, {row.month: row.charged for row in found}, {}),
        charts.by_service({row.name: row.amount for row in services}),
    )


def by_month(last: date, currency: str) -> list[Month]:
    """The twelve months until `last`, the newest first; also those in which nothing happened."""
    wanted = [last]
    while len(wanted) < MONTHS:
        wanted.append(months.previous(wanted[-1]))
    found = {month: Month(month) for month in wanted}
    rows = LedgerEntry.objects.filter(month__range=(wanted[-1], last), currency=currency).order_by()
    for month, kind, amount in rows.values_list("month", "kind").annotate(Sum("amount")):
        row = found[month]
        if kind in LedgerEntry.USAGE:
            row.charged += amount
        elif kind == Kind.TAX:
            row.tax += amount
        elif kind == Kind.PAYMENT:
            row.paid -= amount
        elif kind == Kind.CREDIT:
            row.credited -= amount
    # Reversals are few: only they are looked up together with what they take back.
    taken_back = rows.filter(kind=Kind.REVERSAL).values_list("month", "corrects__kind")
    for month, of, amount in taken_back.annotate(Sum("amount")):
        if of == Kind.PAYMENT:
            found[month].paid -= amount
        else:
            found[month].credited -= amount
    return list(found.values())


def debts(today: date, currency: str) -> Debts:
    with connection.cursor() as cursor:
        cursor.execute(OPEN, {"today": today, "currency": currency, "most": MOST_ROWS})
        found = cursor.fetchall()
    if not found:
        return Debts([], 0, NOTHING, 0, NOTHING)
    rows = Invoice.objects.select_related("workspace").in_bulk([pk for pk, *_ in found])
    _, _, count, opened, late, overdue = found[0]
    listed = [Unpaid(rows[pk], left, max((today - rows[pk].due_on).days, 0)) for pk, left, *_ in found]
    return Debts(listed, count, opened, late, overdue or NOTHING)


def credit(currency: str) -> Credit:
    """See billing.payments.available_credit, for all workspaces at once."""
    found: dict[int, Decimal] = defaultdict(lambda: NOTHING)
    entries = LedgerEntry.objects.filter(currency=currency)
    granted = entries.filter(kind=Kind.CREDIT)
    taken_back = entries.filter(kind=Kind.REVERSAL, corrects__kind=Kind.CREDIT)
    notes = Invoice.objects.filter(total__lt=0, currency=currency)
    used = Settlement.objects.filter(payment=None, invoice__currency=currency)
    for pk, amount in [
        *granted.order_by().values_list("workspace").annotate(Sum("amount")),
        *taken_back.order_by().values_list("workspace").annotate(Sum("amount")),
        *notes.order_by().values_list("workspace").annotate(Sum("total")),
        *used.order_by().values_list("invoice__workspace").annotate(Sum("amount")),
    ]:
        found[pk] -= amount
    left = sorted(((amount, pk) for pk, amount in found.items() if amount > 0), key=lambda one: (-one[0], one[1]))
    largest = left[:MOST_ROWS]
    names = dict(_names([pk for _, pk in largest]))
    return Credit(
        [Row(names[pk], amount, pk) for amount, pk in largest],
        len(left),
        sum((amount for amount, _ in left), NOTHING),
    )


def not_mailed() -> Mail:
    """Those that were tried in vain, or given up; what waits for its first try is not told."""
    rows = InvoiceDocument.objects.filter(mailed_at=None).exclude(problem="")
    listed = rows.defer("pdf").select_related("invoice__workspace").order_by("-invoice__issued_at", "pk")
    return Mail(list(listed[:MOST_ROWS]), rows.count())


def as_rows(first: date, last: date) -> Iterator[tuple[date, int, str, str, str, Decimal]]:
    """For the CSV: month, workspace's number and name, service, currency, charged before tax."""
    rows = LedgerEntry.objects.usage().filter(month__range=(first, last))
    names = ("month", "workspace", "workspace__name", "service__name", "currency")
    grouped = rows.order_by("month", "workspace__name", "workspace", "service__name", "currency")
    for month, pk, name, service, currency, amount in (
        grouped.values_list(*names).annotate(Sum("amount")).iterator(chunk_size=2000)
    ):
        yield month, pk, name, service or NO_SERVICE, currency, amount


def _by_workspace(rows: "QuerySet[LedgerEntry]") -> Any:
    return rows.values_list("workspace", "workspace__name").annotate(all=Sum("amount")).order_by("-all", "workspace")


def _by_service(rows: "QuerySet[LedgerEntry]") -> Any:
    return rows.values_list("service__name").annotate(all=Sum("amount")).order_by("-all", "service__name")


def _names(pks: list[int]) -> Any:
    return Workspace.objects.filter(pk__in=pks).values_list("pk", "name")
