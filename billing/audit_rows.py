"""The rows that the books are checked with, some workspaces at a time and in a constant number of queries."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar

from django.conf import settings
from django.db.models import Q, Sum

from billing.models import (
    BillingAccount,
    DailyCost,
    Discount,
    Invoice,
    InvoiceLine,
    LedgerEntry,
    Payment,
    Rate,
    Settlement,
)
from billing.recompute import Span, micros
from reservations.models import Event, Reservation, UsagePeriod, WorkspaceVolume
from reservations.states import State

NOTHING = Decimal("0.00")
OVER = frozenset({"ending", "ended", "failed"})


class Entry(NamedTuple):
    id: int
    workspace: int
    at: datetime
    kind: str
    month: date
    amount: Decimal
    currency: str
    key: str
    corrects: int | None
    reservation: int | None
    volume: int | None
    until: str | None
    zone: str | None

    @property
    def is_usage(self) -> bool:
        return self.kind in {"charge", "correction"}

    @property
    def is_recount(self) -> bool:
        """Made by Berth when less was served than a closed month had been charged for."""
        return self.kind == "correction" and self.key.startswith("reservation:") and self.key.endswith(":recount")


class Booked(NamedTuple):
    id: int
    workspace: int
    state: str
    cores: Decimal
    ram_mib: int
    storage_gb: int
    kept_volume: int | None
    start: datetime
    end: datetime
    terms: dict[str, Any]
    settled_at: datetime | None


class Kept(NamedTuple):
    id: int
    workspace: int
    name: str
    size_gb: int
    since: datetime | None
    deleted_at: datetime | None


class Issued(NamedTuple):
    id: int
    workspace: int
    number: str
    month: date
    zone: str
    issued_at: datetime
    currency: str
    tax_percent: Decimal
    subtotal: Decimal
    tax: Decimal
    total: Decimal


class Line(NamedTuple):
    invoice: int
    entry: int
    amount: Decimal


class Settled(NamedTuple):
    invoice: int
    payment: int | None
    amount: Decimal


class Paid(NamedTuple):
    id: int
    invoice: int
    amount: Decimal
    reference: str
    entry: int


Row = TypeVar("Row")


@dataclass
class Books:
    """Everything that is kept of one workspace's money, and what it was made from."""

    workspace: int
    name: str
    currency: str = ""
    zone: str = ""
    closed_through: date | None = None
    entries: list[Entry] = field(default_factory=list)
    days: dict[int, Decimal] = field(default_factory=dict)
    reservations: list[Booked] = field(default_factory=list)
    served: dict[int, list[tuple[int, int | None]]] = field(default_factory=lambda: defaultdict(list))
    over_since: dict[int, datetime] = field(default_factory=dict)  # of those that are over and not settled
    volumes: list[Kept] = field(default_factory=list)
    rates: list[Rate] = field(default_factory=list)
    discounts: list[Discount] = field(default_factory=list)
    invoices: list[Issued] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    settled: list[Settled] = field(default_factory=list)
    payments: list[Paid] = field(default_factory=list)

    @property
    def zones(self) -> list[str]:
        """Today's zone first, then all others that its months have begun in."""
        others = {invoice.zone for invoice in self.invoices} | {
            str(row.terms.get("zone", "UTC")) for row in self.reservations
        }
        others |= {entry.zone for entry in self.entries if entry.zone}
        return [self.zone, *sorted(others - {self.zone})]


def read(workspaces: Sequence[tuple[int, str]]) -> list[Books]:
    """The books of these workspaces (id and name)."""
    books = {pk: Books(pk, name, settings.BERTH_CURRENCY, settings.BERTH_BILLING_TIME_ZONE) for pk, name in workspaces}
    accounts = BillingAccount.objects.filter(pk__in=books)
    for pk, currency, zone, closed in accounts.values_list("pk", "currency", "time_zone", "closed_through"):
        books[pk].currency, books[pk].closed_through = currency, closed
        books[pk].zone = zone or settings.BERTH_BILLING_TIME_ZONE
    for entry in _rows(
        Entry, LedgerEntry.objects.filter(workspace__in=books), corrects="corrects_id", reservation="reservation_id",
        volume="volume_id", workspace="workspace_id", until="details__until",
        zone="details__zone",
    ):  # fmt: skip
        books[entry.workspace].entries.append(entry)
    days = DailyCost.objects.filter(workspace__in=books).order_by().values_list("entry__workspace", "entry")
    for pk, entry_id, amount in days.annotate(Sum("amount")):
        if pk in books:
            books[pk].days[entry_id] = amount
    _read_usage(books)
    _read_invoices(books)
    return list(books.values())


def _read_usage(books: dict[int, Books]) -> None:
    of = Q(workspace__in=books)
    for row in _rows(Booked, Reservation.objects.filter(of), workspace="workspace_id", kept_volume="kept_volume_id"):
        books[row.workspace].reservations.append(row)
    periods = UsagePeriod.objects.filter(reservation__workspace__in=books).order_by("during")
    for pk, number, during in periods.values_list("reservation__workspace", "reservation", "during"):
        upper = during.upper and micros(during.upper)
        books[pk].served[number].append((micros(during.lower), upper))
    open_ones = Reservation.objects.filter(of, state__in=OVER, settled_at=None)
    endings = Event.objects.filter(reservation__in=open_ones, new_state=State.ENDING).order_by("at")
    for pk, number, at in endings.values_list("reservation__workspace", "reservation", "at"):
        books[pk].over_since[number] = at
    kept = WorkspaceVolume.objects.filter(of)
    for volume in _rows(
        Kept, kept, workspace="workspace_id", size_gb="volume__size_gb", since="volume__formatted_at"
    ):  # fmt: skip
        books[volume.workspace].volumes.append(volume)
    common = list(Rate.objects.filter(workspace=None))
    own, discounts = defaultdict(list), defaultdict(list)
    for rate in Rate.objects.filter(of):
        own[rate.workspace_id].append(rate)
    for discount in Discount.objects.filter(of):
        discounts[discount.workspace_id].append(discount)
    for pk, book in books.items():
        book.rates, book.discounts = [*own[pk], *common], discounts[pk]


def _read_invoices(books: dict[int, Books]) -> None:
    owner = {}
    for invoice in _rows(Issued, Invoice.objects.filter(workspace__in=books), workspace="workspace_id"):
        books[invoice.workspace].invoices.append(invoice)
        owner[invoice.id] = books[invoice.workspace]
    of = Q(invoice__workspace__in=books)
    ids = {"invoice": "invoice_id", "entry": "entry_id", "payment": "payment_id"}
    for line in _rows(Line, InvoiceLine.objects.filter(of), **ids):
        owner[line.invoice].lines.append(line)
    for part in _rows(Settled, Settlement.objects.filter(of), **ids):
        owner[part.invoice].settled.append(part)
    for payment in _rows(Paid, Payment.objects.filter(of), **ids):
        owner[payment.invoice].payments.append(payment)


def _rows(kind: type[Row], rows: Any, **columns: str) -> list[Row]:
    """The rows as values of `kind`; a field's column has its name unless another is given."""
    names = [columns.get(name, name) for name in kind._fields]  # type: ignore[attr-defined]  # all are NamedTuples
    return [kind(*row) for row in rows.order_by("pk").values_list(*names)]


def ran(reservation: int) -> list[tuple[datetime, datetime | None]]:
    """When a reservation became `running` and when it was noted that it was no more, by its history."""
    events = Event.objects.filter(reservation=reservation).exclude(new_state="").order_by("at", "pk")
    found: list[tuple[datetime, datetime | None]] = []
    for at, old, new in events.values_list("at", "old_state", "new_state"):
        if old == State.RUNNING and found:
            found[-1] = (found[-1][0], at)
        if new == State.RUNNING:
            found.append((at, None))
    return found


def spans_until(periods: Sequence[tuple[int, int | None]], until: int) -> list[Span]:
    """Served time as far as it lies before `until`; a period that is still open reaches there."""
    found = []
    for opens, closes in periods:
        stop = until if closes is None else min(closes, until)
        if stop > opens:
            found.append((opens, stop))
    return found
