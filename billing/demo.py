"""Demo customers with some months behind them, so that charts, invoices and receipts look as they will.

Everything is made by the real actions with past times passed in. What comes of a seed is always the same, and what is
there already is not made again.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from django.db import transaction
from django.db.models import Q

from accounts import audit
from accounts.models import AuditEntry, User, Workspace
from billing import actions, demo_life, demo_today, invoices, months, payments
from billing.accounts import lock
from billing.demo_life import Plan
from billing.demo_today import BY, PREFIX
from billing.models import Discount, Invoice, LedgerEntry, Rate
from compute.capacity import NoCapacity
from compute.models import StorageServer
from reservations.actions import Booking, OverQuota
from reservations.models import Reservation, Service, Size, StorageProfile

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
TOO_NEW = 6 * HOUR  # what is over for longer than this has no part in what happens now


class CannotMake(Exception):
    """Why there can be no demo data, as a sentence."""


@dataclass(frozen=True, slots=True)
class Customer:
    """Who it is, and what is special about the account."""

    name: str
    recipient: str
    zone: str
    rounding: str
    discount: Decimal | None
    budget: Decimal | None
    pays: str  # "all", "late" (not the last invoice), "partly"


CUSTOMERS = [
    Customer(
        "chemistry", "Department of Chemistry\n12 Faraday Road", "Europe/Berlin", "hour", None, Decimal(90), "all"
    ),
    Customer("robotics", "Robotics Course\nBuilding 7", "UTC", "second", Decimal(15), None, "late"),
    Customer("acme", "Acme Analytics Inc.\n500 Main Street", "America/New_York", "hour", None, Decimal(60), "partly"),
]


@dataclass(frozen=True, slots=True)
class Made:
    """How much was new."""

    workspaces: int
    reservations: int
    invoices: int
    skipped: int  # bookings that found no place
    today: list[str]  # what else the first of them has now, each as a few words


@dataclass
class _Tenant:
    customer: Customer
    user: User
    workspace: Workspace

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.customer.zone)


def real_customers() -> str:
    """Who uses this installation, in a sentence; empty when nobody but demo customers does."""
    demo = demo_today.workspaces()
    theirs = Reservation.objects.exclude(workspace__in=demo)
    entries = LedgerEntry.objects.exclude(workspace__in=demo)
    if row := theirs.first():
        return f"{row.workspace} has booked here already ({row})."
    return f"{entry.workspace} has a ledger already." if (entry := entries.first()) else ""


def make(*, past: int, workspaces: int, seed: int, now: datetime, say: Callable[[str], None]) -> Made:
    """The demo customers with `past` whole months and this one until now, and what they have today.

    Raises CannotMake.
    """
    first = months.month_of(now, ZoneInfo("UTC"))
    for _ in range(past):
        first = months.previous(first)
    _only_once(past=past, workspaces=workspaces, seed=seed, first=first.isoformat())
    known = _customers()
    tenants = [_tenant(number, first) for number in range(workspaces)]
    lived = issued = skipped = 0
    month = first
    while month <= now.date():
        for tenant in tenants:
            made, none = _month(tenant, month, first, seed, now)
            lived, skipped = lived + made, skipped + none
        for tenant in tenants:
            issued += _money(tenant, month, first, now)
        say(f"{month:%Y-%m}: {lived} reservations, {issued} invoices so far")
        month = months.following(month)
    today = demo_today.furnish(tenants[0].user, now)
    return Made(_customers() - known, lived, issued, skipped, today)


def _customers() -> int:
    """How many there are, without the other people of their teams."""
    rates = Rate.objects.filter(workspace__personal_of__username__startswith=PREFIX)
    return rates.order_by().values("workspace").distinct().count()


def _only_once(**values: Any) -> None:
    """The same again goes on where it ended; with other values it would be mixed with what is there."""
    with transaction.atomic(durable=True):
        earlier = AuditEntry.objects.filter(action="demo.begin").order_by("pk").first()
        if earlier is None:
            audit.record(by=BY, action="demo.begin", target="installation", **values)
        elif earlier.data != values:
            there = ", ".join(f"{name} {value}" for name, value in earlier.data.items())
            raise CannotMake(f"There is demo data already, made with other values ({there}); nothing was added.")


# ---- who --------------------------------------------------------------------------------------------------------


def _tenant(number: int, first: date) -> _Tenant:
    customer = CUSTOMERS[number % len(CUSTOMERS)]
    name = f"{PREFIX}{customer.name}" + (str(number // len(CUSTOMERS) + 1) if number >= len(CUSTOMERS) else "")
    user = demo_today.person(name)
    workspace = Workspace.objects.get(personal_of=user)
    tenant = _Tenant(customer, user, workspace)
    if not Rate.objects.filter(workspace=workspace).exists():
        _set_up(tenant, months.begin(first, tenant.zone) - HOUR)
    return tenant


def _set_up(tenant: _Tenant, then: datetime) -> None:
    """Recipient, budget and prices, as they were before the first month began. They go up once."""
    customer, workspace = tenant.customer, tenant.workspace
    recipient, address = customer.recipient.split("\n")
    actions.set_recipient(
        workspace=workspace, by=BY, recipient=recipient, address=address, time_zone=customer.zone, email=""
    )
    if customer.budget:
        actions.set_spending(workspace=workspace, monthly_budget=customer.budget, hard_stop=False, by=BY)
    if customer.discount and not Discount.objects.filter(workspace=workspace).exists():
        actions.set_discount(
            workspace=workspace, percent=customer.discount, reason="Teaching", start=then, end=None, by=BY, now=then
        )
    dearer = then + timedelta(days=45)
    for start, end, core in ((then, dearer, "0.5000"), (dearer, None, "0.5500")):
        prices: dict[str, Any] = {
            "per_core_hour": Decimal(core),
            "per_gib_hour": Decimal("0.0200"),
            "per_gb_month": Decimal("0.1500"),
            "rounding": customer.rounding,
        }
        actions.set_rate(workspace=workspace, start=start, end=end, by=BY, now=then, **prices)


# ---- what they booked -------------------------------------------------------------------------------------------


def _month(tenant: _Tenant, month: date, first: date, seed: int, now: datetime) -> tuple[int, int]:
    """All that began in the month and is over; how many were new, and how many found no place."""
    _nothing_to_invoice_yet(tenant, now)
    made = none = 0
    for plan in _plans(tenant, month, first, seed, now):
        if plan.over_at > now - TOO_NEW:
            continue
        try:
            made += demo_life.live(plan, tenant.workspace, tenant.user) is not None
        except (NoCapacity, OverQuota):
            none += 1
    return made, none


def _plans(tenant: _Tenant, month: date, first: date, seed: int, now: datetime) -> Iterator[Plan]:
    """The same for the same seed, in order of their starts."""
    chance = random.Random(f"{seed} {tenant.user.username} {month}")
    services = [service for service in Service.objects.order_by("slug") if not service.unavailable_reason]
    sizes = list(Size.objects.filter(active=True, cores__lte=1).order_by("ram_mib", "cores"))
    if not services or not sizes:
        raise CannotMake("Nothing can be booked here: mirror an image first (manage.py mirror_images).")
    begin, end = months.stretch(month, tenant.zone)
    days = (end - begin) // timedelta(days=1)
    starts = sorted(
        begin + timedelta(days=chance.randrange(days), hours=chance.randrange(7, 20), minutes=15 * chance.randrange(4))
        for _ in range(chance.randrange(11, 17))
    )
    if month == first and StorageServer.objects.filter(active=True, problem="").exists():
        yield _keeping(chance, services[0], sizes, starts[0] - 2 * HOUR, months.previous(now.date().replace(day=1)))
    for start in starts:
        yield _plan(chance, chance.choice(services), sizes, start)
    # Over the month's end, so that it is charged in both.
    yield _plan(chance, services[0], sizes, end - 5 * HOUR, hours=14)


def _plan(
    chance: random.Random, service: Service, sizes: list[Size], start: datetime, hours: int | None = None
) -> Plan:
    fitting = [size for size in sizes if size.ram_mib >= service.min_ram_mib] or sizes[-1:]
    hours = hours or chance.choice([1, 2, 2, 3, 4, 6, 8, 12, 24, 48])
    booking = Booking(
        service=service,
        size=chance.choice(fitting),
        length=hours * HOUR,
        start=start,
        storage=StorageProfile.objects.get(code=StorageProfile.Code.C1),
        name=chance.choice(["", "", "practice", "nightly run", "teaching", "test of the new version"]),
    )
    ready = timedelta(seconds=chance.randrange(2, 40), milliseconds=chance.randrange(1000))
    plan: dict[str, Any] = {
        "booking": booking,
        "booked_at": start - timedelta(minutes=chance.randrange(20, 600), seconds=chance.randrange(60)),
        "ready_after": ready,
    }
    what = chance.choices(["plain", "early", "stopped", "outage", "extended", "never"], [10, 5, 3, 3, 3, 1])[0]
    early, late = booking.length * chance.uniform(0.2, 0.4), booking.length * chance.uniform(0.6, 0.8)
    if what == "early":
        plan["deleted_after"] = late
    elif what == "stopped":
        plan["stopped"] = (early, late)
    elif what == "outage":
        plan["outage"] = (early, early + timedelta(minutes=chance.randrange(2, 9), seconds=chance.randrange(60)))
    elif what == "extended":
        plan["extended"] = (late, chance.randrange(1, 4) * HOUR)
    elif what == "never":
        plan |= {"ready_after": booking.length, "deleted_after": 10 * MINUTE}
    return Plan(**plan)


def _keeping(chance: random.Random, service: Service, sizes: list[Size], start: datetime, until: date) -> Plan:
    """One with a kept volume, which stays until its owner deletes it in the last whole month."""
    plan = _plan(chance, service, sizes, start, hours=3)
    booking = Booking(
        service=service,
        size=plan.booking.size,
        length=3 * HOUR,
        start=start,
        storage=StorageProfile.objects.get(code=StorageProfile.Code.C3),
        storage_gb=10,
        name="with data to keep",
    )
    deleted = max(datetime(until.year, until.month, 20, 15, tzinfo=start.tzinfo), start + timedelta(days=2))
    return Plan(booking, plan.booked_at, plan.ready_after, volume_deleted_at=deleted)


# ---- what they paid ---------------------------------------------------------------------------------------------


def _nothing_to_invoice_yet(tenant: _Tenant, now: datetime) -> None:
    """While a month is being made nobody else issues it: all of them count as closed."""
    _set_closed(tenant, months.previous(months.month_of(now, tenant.zone)))


def _set_closed(tenant: _Tenant, month: date) -> None:
    with transaction.atomic(durable=True):
        account = lock(tenant.workspace.pk)
        account.closed_through = month
        account.save(update_fields=["closed_through"])


def _money(tenant: _Tenant, month: date, first: date, now: datetime) -> int:
    """The month's invoice an hour after its end, its payment, and what is special about some months."""
    at = months.stretch(month, tenant.zone)[1] + HOUR
    if at > now:
        return 0
    issued = 0
    if not Invoice.objects.filter(Q(month__gte=month), workspace=tenant.workspace).exists():
        _set_closed(tenant, months.previous(month))
        issued = sum(1 for _ in invoices.issue_open(tenant.workspace.pk, at, month))
        _nothing_to_invoice_yet(tenant, now)
    last = months.following(month) == months.month_of(now, tenant.zone)
    _pay(tenant, month, at + timedelta(days=6, hours=9), last, now)
    if month == first:
        _special(tenant, month, at + timedelta(days=2), now)
    return issued


def _pay(tenant: _Tenant, month: date, at: datetime, last: bool, now: datetime) -> None:
    invoice = Invoice.objects.filter(workspace=tenant.workspace, month=month).first()
    if invoice is None or at > now or invoice.payments.exists() or (tenant.customer.pays == "late" and last):
        return
    amount = payments.open_amount(invoice)
    if tenant.customer.pays == "partly" and last:
        amount = (amount / 2).quantize(Decimal("0.01"))
    if amount > 0:
        payments.record_payment(
            invoice=invoice,
            amount=amount,
            method="bank",
            reference=f"DEMO {invoice.number}",
            received_on=at.astimezone(tenant.zone).date(),
            by=BY,
            now=at,
        )


def _special(tenant: _Tenant, month: date, at: datetime, now: datetime) -> None:
    """Credit for one of them, and a correction of its dearest charge."""
    if tenant.customer.pays != "all" or at > now:
        return
    charges = LedgerEntry.objects.filter(workspace=tenant.workspace, kind="charge", month=month)
    if not charges.exists() or LedgerEntry.objects.filter(workspace=tenant.workspace, kind="credit").exists():
        return
    payments.grant_credit(
        workspace=tenant.workspace, amount=Decimal(15), reason="Welcome to Berth", by=BY, now=at, once="demo"
    )
    dearest = charges.order_by("-amount", "pk")[0]
    amount = min(Decimal(2), dearest.amount)
    payments.correct(entry=dearest, amount=amount, reason="Slow disk on that day", by=BY, now=at + HOUR, once="demo")
