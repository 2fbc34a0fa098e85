"""One month of a workspace as its page shows it, in a constant number of queries whatever has been charged."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any, overload

from django.db.models import Count, Exists, F, Min, OuterRef, Sum
from django.db.models.lookups import IsNull
from django.utils import timezone

from billing import affording, charts, ledger, months, pricing
from billing.charts import Budget, ByDay, ByService
from billing.models import BillingAccount, DailyCost, Invoice, LedgerEntry, Payment
from billing.pricing import NOTHING
from billing.spending import Accrual, Spending, accruals, spending
from billing.standing import Standing, standing
from reservations.models import Reservation

LATEST = 5
MOST_MONTHS = 240
KEPT_VOLUMES = "Kept volumes"
OTHER = "Other"


@dataclass(frozen=True, slots=True)
class Row:
    """What a reservation costs in the month; `to_come` is what it adds if all of it is served."""

    reservation: Reservation
    served: timedelta
    amount: Decimal
    to_come: Decimal = NOTHING
    so_far: bool = False


@dataclass(frozen=True, slots=True)
class Volume:
    name: str
    amount: Decimal
    to_come: Decimal


@dataclass(frozen=True, slots=True)
class OpenInvoice:
    invoice: Invoice
    standing: Standing


@dataclass(frozen=True, slots=True)
class Overview:
    month: date
    spending: Spending
    held: Decimal
    balance: Decimal  # negative: credit
    budget: Budget | None
    by_day: ByDay
    by_service: ByService
    rows: "Rows"
    volumes: list[Volume]
    invoices: list[OpenInvoice]
    open_total: Decimal
    payments: list[Payment]
    months: list[date]

    @property
    def balance_size(self) -> Decimal:
        """The page says in words whether it is owed or credit."""
        return abs(self.balance)

    @property
    def any_overdue(self) -> bool:
        return any(row.standing.word == "overdue" for row in self.invoices)

    @property
    def is_new(self) -> bool:
        """Whether the workspace has never cost anything and nothing is booked."""
        return not (self.balance or self.held or self.rows or self.invoices or self.payments or len(self.months) > 1)


def overview(account: BillingAccount, month: date, now: datetime) -> Overview:
    """The month until `now`, and what it will come to."""
    found = accruals(account, month, now)
    spent = spending(account, month, now, found)
    kept = [accrual for accrual in found if not isinstance(accrual.of, Reservation)]
    committed = affording.commitments(account, now, kept if month == months.month_of(now, account.zone) else None)
    days, coming, services = _daily(account, month, now, found)
    invoices = _open_invoices(account, now)
    budget = account.monthly_budget
    return Overview(
        month,
        spent,
        committed.held,
        ledger.balance(account.workspace_id),
        charts.budget(spent.spent, spent.forecast, budget) if budget else None,
        charts.by_day(_days(month), days, coming),
        charts.by_service(services),
        Rows(account, month, found),
        _volumes(account, month, found),
        invoices,
        sum((row.standing.open for row in invoices), NOTHING),
        _payments(account),
        _months(account, committed.by_month, month, now),
    )


def _days(month: date) -> list[date]:
    return [month + timedelta(days=n) for n in range((months.following(month) - month).days)]


def _daily(
    account: BillingAccount, month: date, now: datetime, found: Iterable[Accrual]
) -> tuple[dict[date, Decimal], dict[date, Decimal], dict[str, Decimal]]:
    """What was spent by day, what is to come by day, and what was spent by service."""
    days: dict[date, Decimal] = defaultdict(lambda: NOTHING)
    coming: dict[date, Decimal] = defaultdict(lambda: NOTHING)
    services: dict[str, Decimal] = defaultdict(lambda: NOTHING)
    rows = DailyCost.objects.filter(workspace=account.workspace_id, day__gte=month, day__lt=months.following(month))
    kept = IsNull(F("entry__volume"), False)
    for day, service, is_kept, amount in (
        rows.order_by().values_list("day", "service__name", kept).annotate(Sum("amount"))
    ):
        days[day] += amount
        services[KEPT_VOLUMES if is_kept else service or OTHER] += amount
    for accrual in found:
        services[_service(accrual)] += accrual.so_far
        for day, spent, to_come in _accrued(accrual, account, month, now):
            days[day] += spent
            coming[day] += to_come
    return days, coming, {name: amount for name, amount in services.items() if amount}


def _service(accrual: Accrual) -> str:
    return accrual.of.service.name if isinstance(accrual.of, Reservation) else KEPT_VOLUMES


def _accrued(
    accrual: Accrual, account: BillingAccount, month: date, now: datetime
) -> Iterable[tuple[date, Decimal, Decimal]]:
    """What is spent and what is to come of each day of the month; adds up to the accrual."""
    today, before = now.astimezone(account.zone).date(), NOTHING
    for day, part in sorted(pricing.by_day(accrual.booked, accrual.size, accrual.terms, account.zone).items()):
        if not month <= day < months.following(month):
            continue
        if day < today:
            before += part.amount
            yield day, part.amount, NOTHING
        elif day == today:
            spent = accrual.so_far - before
            yield day, spent, part.amount - spent
        else:
            yield day, NOTHING, part.amount


class Rows(Sequence[Row]):
    """The reservations that cost something in a month, newest first: those that are not charged yet, then the others.

    Only what is asked for is fetched.
    """

    def __init__(self, account: BillingAccount, month: date, found: Iterable[Accrual]) -> None:
        self._open = {accrual.of.pk: accrual for accrual in found if isinstance(accrual.of, Reservation)}
        self._usage = ledger.of_account(account).usage().filter(month=month, reservation__isnull=False)
        charged = self._usage.exclude(reservation__in=list(self._open)) if self._open else self._usage
        self._charged = charged.order_by().values("reservation")

    @cached_property
    def _charged_count(self) -> int:
        return int(self._charged.aggregate(n=Count("reservation", distinct=True))["n"])

    def __len__(self) -> int:
        return len(self._open) + self._charged_count

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, int):
            return self[index : index + 1][0]
        first, last, _ = index.indices(len(self))
        keys = sorted(self._open, reverse=True)[first:last]
        if (more := last - max(first, len(self._open))) > 0:
            skipped = max(first - len(self._open), 0)
            rows = self._charged.annotate(sum=Sum("amount")).order_by("-reservation")[skipped : skipped + more]
            keys += [row["reservation"] for row in rows]
        return self._rows(keys)

    def _rows(self, keys: list[int]) -> list[Row]:
        amounts: dict[int, Decimal] = defaultdict(lambda: NOTHING)
        served: dict[int, float] = defaultdict(float)
        entries = self._usage.filter(reservation__in=keys).values_list("reservation", "amount", "details")
        for key, amount, details in entries:
            assert key is not None  # noqa: S101 - the filter above
            amounts[key] += amount
            served[key] += details.get("served_s", 0)
        known = Reservation.objects.select_related("service").in_bulk(keys)
        return [self._row(known[key], amounts[key], served[key]) for key in keys]

    def _row(self, reservation: Reservation, amount: Decimal, served_s: float) -> Row:
        accrual = self._open.get(reservation.pk)
        if accrual is None:
            return Row(reservation, timedelta(seconds=served_s), amount)
        return Row(
            reservation,
            timedelta(seconds=served_s) + accrual.served,
            amount + accrual.so_far,
            max(accrual.at_end - accrual.so_far, NOTHING),
            so_far=True,
        )


def _volumes(account: BillingAccount, month: date, found: Iterable[Accrual]) -> list[Volume]:
    """What kept volumes cost in the month."""
    entries = ledger.of_account(account).usage().filter(month=month, volume__isnull=False)
    charged = [
        Volume(name, amount, NOTHING)
        for name, amount in entries.order_by("volume__name").values_list("volume__name").annotate(Sum("amount"))
        if name is not None
    ]
    accrued = [
        Volume(accrual.of.name, accrual.so_far, accrual.at_end - accrual.so_far)
        for accrual in found
        if not isinstance(accrual.of, Reservation) and accrual.at_end
    ]
    return charged + accrued


def _open_invoices(account: BillingAccount, now: datetime) -> list[OpenInvoice]:
    """Those of which something is to be paid, the oldest first."""
    rows = Invoice.objects.filter(workspace=account.workspace_id).open().order_by("due_on", "pk")
    today = timezone.localdate(now)
    return [OpenInvoice(row, standing(row, today)) for row in rows]


def _payments(account: BillingAccount) -> list[Payment]:
    """The latest, each with whether it came back (`is_reversed`)."""
    reversal: Any = LedgerEntry.objects.filter(corrects=OuterRef("entry"), kind=LedgerEntry.Kind.REVERSAL)
    rows = Payment.objects.filter(invoice__workspace=account.workspace_id).select_related("invoice")
    return list(rows.annotate(is_reversed=Exists(reversal))[:LATEST])


def _months(account: BillingAccount, by_month: Iterable[date], shown: date, now: datetime) -> list[date]:
    """Those to choose from, newest first: from the first that cost anything to the last that is booked, and `shown`."""
    this = months.month_of(now, account.zone)
    return sorted({*months_since_the_first(account, max([this, *by_month])), shown}, reverse=True)


def months_since_the_first(account: BillingAccount, last: date) -> list[date]:
    """The months that the ledger may have entries of, newest first."""
    first = ledger.of_account(account).aggregate(first=Min("month"))["first"] or last
    found = [last]
    while found[-1] > first and len(found) < MOST_MONTHS:
        found.append(months.previous(found[-1]))
    return found
