"""All workspaces' money for the staff: what came in by month, workspace and service, and what is still open.

A constant number of queries, each over one table; lists are cut, and their totals are over all rows.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

from django.db.models import Count, F, Q, QuerySet, Sum
from django.db.models.functions import Coalesce

from accounts.models import Workspace
from billing import charts, months
from billing.charts import ByDay, ByService
from billing.models import Invoice, InvoiceDocument, LedgerEntry, Settlement
from billing.pricing import NOTHING

MONTHS = 12
MOST_ROWS = 25
NO_SERVICE = "No service"
Kind = LedgerEntry.Kind


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
    for month, kind, of, amount in rows.values_list("month", "kind", "corrects__kind").annotate(Sum("amount")):
        row = found[month]
        if kind in LedgerEntry.USAGE:
            row.charged += amount
        elif kind == Kind.TAX:
            row.tax += amount
        elif Kind.PAYMENT in {kind, of}:
            row.paid -= amount
        else:
            row.credited -= amount
    return list(found.values())


def debts(today: date, currency: str) -> Debts:
    rows: Any = (
        Invoice.objects.filter(total__gt=0, currency=currency)
        .annotate(paid=Coalesce(Sum("settlements__amount"), NOTHING))
        .filter(total__gt=F("paid"))
        .annotate(left=F("total") - F("paid"))
    )
    late = Q(due_on__lt=today)
    figures = rows.order_by().aggregate(
        count=Count("pk"), open=Sum("left"), late=Count("pk", filter=late), overdue=Sum("left", filter=late)
    )
    listed = rows.select_related("workspace").defer("seller", "recipient", "note").order_by("due_on", "pk")[:MOST_ROWS]
    return Debts(
        [Unpaid(row, row.left, max((today - row.due_on).days, 0)) for row in listed],
        figures["count"],
        figures["open"] or NOTHING,
        figures["late"],
        figures["overdue"] or NOTHING,
    )


def credit(currency: str) -> Credit:
    """See billing.payments.available_credit, for all workspaces at once."""
    found: dict[int, Decimal] = defaultdict(lambda: NOTHING)
    granted = Q(kind=Kind.CREDIT) | Q(kind=Kind.REVERSAL, corrects__kind=Kind.CREDIT)
    entries = LedgerEntry.objects.filter(granted, currency=currency)
    notes = Invoice.objects.filter(total__lt=0, currency=currency)
    used = Settlement.objects.filter(payment=None, invoice__currency=currency)
    for pk, amount in [
        *entries.order_by().values_list("workspace").annotate(Sum("amount")),
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
