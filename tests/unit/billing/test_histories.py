"""Whatever happens to reservations, and whenever months are closed: every bill equals the second computation.

A history is a list of steps with pauses between them, begun near a month's end, a leap day or a change of the clocks.
Everything goes through the real actions and transitions, each with the time that it happens at.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import transaction
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from accounts.models import User
from billing import accounts, actions, audit, charging, invoices, months, payments, pricing, recompute, usage
from billing.models import DailyCost, Invoice, LedgerEntry
from billing.pricing import Interval, Price, Rounding
from compute.capacity import NoCapacity
from reservations import actions as booking_actions
from reservations import extending, shortening
from reservations.models import Reservation, UsagePeriod, WorkspaceVolume
from reservations.states import State
from tests.factories import make_node, make_profiles, make_service, make_size, make_storage, make_user, profile
from tests.factories import workspace_of as workspace
from tests.unit.billing.lives import SOON, Life

pytestmark = pytest.mark.django_db
EXAMPLES = int(os.environ.get("BERTH_HISTORIES", "15"))
SETTINGS = settings(
    max_examples=EXAMPLES,
    derandomize="BERTH_RANDOM" not in os.environ,
    # A history that fails is read as it is: to look for a shorter one takes minutes.
    phases=[Phase.explicit, Phase.generate, *([Phase.shrink] if "BERTH_SHRINK" in os.environ else [])],
)
BEGINS = [
    datetime.fromisoformat(text)
    for text in (
        "2026-04-30T20:17:03.5Z",  # a month's end
        "2028-02-28T22:00:00Z",  # a leap day
        "2026-03-28T21:30:00Z",  # Berlin skips an hour
        "2026-10-24T21:59:59Z",  # and has one twice
        "2026-10-31T22:00:00Z",  # a month's end before New York has one twice
        "2026-12-31T12:00:00Z",
    )
]
ZONES = ["UTC", "Europe/Berlin", "America/New_York"]
MINUTES = [0, 1, 20, 59, 60, 61, 180, 600, 1440, 4000, 20_000]
WHICH = st.integers(0, 2)
MONEY = st.sampled_from(["0", "0.0001", "0.3333", "0.50", "7.7777"])
STEP = st.one_of(
    st.tuples(st.just("book"), st.sampled_from(["small", "odd"]), st.sampled_from([1, 5, 30, 400]), st.booleans()),
    *(st.tuples(st.just(name), WHICH) for name in ("run", "run", "run", "stop", "end", "move")),
    st.tuples(st.just("outage"), WHICH, st.sampled_from([0, 1, 50, 300])),
    st.tuples(st.just("extend"), WHICH, st.sampled_from([1, 24, 200])),
    st.tuples(st.just("shorten"), WHICH, st.sampled_from([0.25, 1, 24, 200])),
    st.tuples(st.sampled_from(["rate", "own rate"]), MONEY, MONEY, st.sampled_from(["hour", "second"])),
    st.tuples(st.just("discount"), st.sampled_from(["0.01", "33.33", "100"])),
    st.just(("settle",)),
    st.just(("settle",)),
    st.just(("close",)),
    st.just(("invoice",)),
    st.tuples(st.just("zone"), st.sampled_from(ZONES)),
    st.just(("delete volume",)),
    st.just(("correct",)),
)
HISTORY = st.lists(st.tuples(st.sampled_from(MINUTES), STEP), min_size=4, max_size=22)
done: Counter[str] = Counter()


@dataclass
class History:
    """One customer's, at a clock that only goes forward."""

    user: User
    now: datetime
    closes: bool = True
    lives: list[Life] = field(default_factory=list)

    def do(self, minutes: int, step: tuple[Any, ...]) -> None:
        self.pass_time(timedelta(minutes=minutes) + SOON)
        name, *values = step
        done[name] += 1
        getattr(self, name.replace(" ", "_"))(*values)

    def pass_time(self, by: timedelta) -> None:
        """What comes to its end meanwhile is ended then, as the sweep does it."""
        until = self.now + by
        for life in self.lives:
            if not life.state.final and life.row.end <= until:
                life.ends(max(life.row.end + SOON, self.now))
        self.now = until

    def chosen(self, which: int, *states: State) -> Life | None:
        fitting = [life for life in self.lives if life.state in states]
        return fitting[which % len(fitting)] if fitting else None

    # ---- steps --------------------------------------------------------------------------------------------

    def book(self, size: str, hours: int, kept: bool) -> None:
        values = {"storage": profile("C3"), "storage_gb": 7} if kept else {"storage": profile("C1"), "storage_gb": 3}
        refusals = (NoCapacity, booking_actions.OverQuota, booking_actions.InvalidBooking)
        with suppress(*refusals):
            made = Life.booked(self.user, self.now, timedelta(hours=hours), size=make_size(size), **values)
            self.lives.append(made)

    def run(self, which: int) -> None:
        if life := self.chosen(which, State.BOOKED, State.STARTING, State.STOPPED):
            life.runs(self.now, timedelta(0))

    def stop(self, which: int) -> None:
        if life := self.chosen(which, State.RUNNING):
            life.stops(self.now)

    def end(self, which: int) -> None:
        if life := self.chosen(which, State.BOOKED, State.STARTING, State.RUNNING, State.STOPPED):
            life.ends(self.now)

    def move(self, which: int) -> None:
        if life := self.chosen(which, State.RUNNING):
            life.move_to(State.STARTING, self.now).runs(self.now + SOON, timedelta(0))
            self.now += 2 * SOON

    def outage(self, which: int, silent: int) -> None:
        """Found out some minutes after it was last seen."""
        if life := self.chosen(which, State.RUNNING):
            life.fails(self.now, self.now - timedelta(minutes=silent))

    def extend(self, which: int, hours: int) -> None:
        if life := self.chosen(which, State.BOOKED, State.STARTING, State.RUNNING, State.STOPPED):
            refusals = (NoCapacity, booking_actions.OverQuota, booking_actions.InvalidBooking, extending.CannotExtend)
            with suppress(*refusals):
                life.extended(self.now, timedelta(hours=hours), self.user)

    def shorten(self, which: int, hours: float) -> None:
        if life := self.chosen(which, State.BOOKED, State.STARTING, State.RUNNING, State.STOPPED):
            with suppress(booking_actions.InvalidBooking, shortening.CannotShorten):
                life.shortened(self.now, timedelta(hours=hours), self.user)
                done["shortened"] += 1

    def rate(self, core: str, gb: str, rounding: str, own: bool = False) -> None:
        """For some days, from today or from a while on."""
        values: dict[str, Any] = {
            "per_core_hour": Decimal(core),
            "per_gib_hour": Decimal(gb),
            "per_gb_month": Decimal(gb),
        }
        owner = workspace(self.user) if own else None
        end = self.now + timedelta(days=9, minutes=7)
        with suppress(actions.InvalidPrice):
            actions.set_rate(
                workspace=owner, start=self.now, end=end, by="x", now=self.now, rounding=rounding, **values
            )

    def own_rate(self, core: str, gb: str, rounding: str) -> None:
        self.rate(core, gb, rounding, own=True)

    def discount(self, percent: str) -> None:
        start, end = self.now + timedelta(hours=5), self.now + timedelta(days=3)
        with suppress(actions.InvalidPrice):
            actions.set_discount(
                workspace=workspace(self.user),
                percent=Decimal(percent),
                reason="x",
                start=start,
                end=end,
                by="x",
                now=self.now,
            )

    def settle(self) -> None:
        charging.settle(workspace(self.user).pk, self.now)

    def close(self) -> None:
        """The last month that is over, again if it is closed already."""
        if not self.closes:
            return
        with transaction.atomic():
            account = accounts.lock(workspace(self.user).pk)
            month = months.previous(months.month_of(self.now, account.zone))
            charging.close(account, month, self.now)

    def invoice(self) -> None:
        if self.closes:
            list(invoices.issue_open(workspace(self.user).pk, self.now))

    def zone(self, name: str) -> None:
        if self.closes:
            actions.set_recipient(workspace=workspace(self.user), by="x", time_zone=name)

    def delete_volume(self) -> None:
        volume = WorkspaceVolume.objects.present().first()
        if volume:
            with suppress(booking_actions.VolumeInUse):
                booking_actions.delete_volume(volume=volume, by=self.user, now=self.now)

    def correct(self) -> None:
        charge = LedgerEntry.objects.filter(kind="charge", amount__gt=Decimal("0.02")).order_by("pk").last()
        if charge:
            with suppress(payments.Refused):
                payments.correct(entry=charge, amount=Decimal("0.01"), reason="So.", by="x", now=self.now)

    # ---- what must be so ----------------------------------------------------------------------------------

    def finish(self) -> None:
        """Everything ends, and two months later all are invoiced; then nothing is left to enter."""
        self.pass_time(timedelta(days=62))
        self.settle()
        list(invoices.issue_open(workspace(self.user).pk, self.now))
        entries = LedgerEntry.objects.count()
        self.settle()
        with transaction.atomic():
            account = accounts.lock(workspace(self.user).pk)
            charging.close(account, months.previous(months.month_of(self.now, account.zone)), self.now)
        assert LedgerEntry.objects.count() == entries

    def check_books(self) -> None:
        assert [str(finding) for finding in audit.examine(self.now).findings] == []

    def check_sums(self) -> None:
        for life in self.lives:
            assert self.charged(life) == self.due(life), f"{life.row} of {life.row.terms}"
        for invoice in Invoice.objects.all():
            assert sum(line.amount for line in invoice.lines.all()) == invoice.subtotal
        usage = LedgerEntry.objects.usage()
        assert sum(DailyCost.objects.values_list("amount", flat=True)) == usage.total()

    def charged(self, life: Life) -> Decimal:
        """All that Berth itself has entered for it."""
        return LedgerEntry.objects.filter(reservation=life.row, by=charging.BY).total()

    def due(self, life: Life) -> Decimal:
        periods = UsagePeriod.objects.filter(reservation=life.row).values_list("during", flat=True)
        spans = [(recompute.micros(during.lower), recompute.micros(during.upper)) for during in periods]
        own_gb = 0 if life.row.kept_volume_id else life.row.storage_gb
        thing = recompute.Thing(recompute.whole(life.row.cores, 100), life.row.ram_mib, own_gb)
        months_due = recompute.due_through(spans, thing, recompute.deal(life.row.terms), "UTC")
        return max(months_due.values(), default=Decimal(0))


@pytest.fixture
def customer() -> User:
    make_node(cores=Decimal(64), ram_mib=262_144)
    make_storage()
    make_profiles()
    make_service()
    make_size("odd", cores=Decimal("0.33"), ram_mib=777)
    return make_user()


@contextmanager
def undone() -> Iterator[None]:
    """One example is one transaction that is rolled back."""
    block = transaction.atomic()
    block._from_testcase = True  # type: ignore[attr-defined]  # as Django's TestCase: durable blocks may begin in it
    with block:
        yield
        transaction.set_rollback(True)


@given(st.sampled_from(BEGINS), st.sampled_from(ZONES), HISTORY)
@SETTINGS
def test_every_bill_of_every_history_equals_the_second_computation(
    customer: User, begin: datetime, zone: str, steps: list[tuple[int, tuple[Any, ...]]]
) -> None:
    with undone():
        actions.set_recipient(workspace=workspace(customer), by="x", time_zone=zone)
        history = History(customer, begin)
        history.do(0, ("book", "small", 400, True))
        history.do(0, ("run", 0))
        for minutes, step in steps:
            history.do(minutes, step)
        history.settle()
        history.check_books()
        history.finish()
        history.check_books()
        history.check_sums()


@given(st.sampled_from(BEGINS), HISTORY)
@settings(SETTINGS, max_examples=EXAMPLES // 2)
def test_when_months_are_closed_never_changes_what_a_reservation_costs(
    customer: User, begin: datetime, steps: list[tuple[int, tuple[Any, ...]]]
) -> None:
    sums = []
    for closes in (True, False):
        with undone():
            history = History(customer, begin, closes)
            history.do(0, ("book", "odd", 400, False))
            history.do(0, ("run", 0))
            for minutes, step in steps:
                history.do(minutes, step)
            history.finish()
            sums.append([history.charged(life) for life in history.lives])

    assert sums[0] == sums[1]


@pytest.mark.parametrize("begin", BEGINS, ids=lambda begin: f"{begin:%Y-%m-%d}")
@pytest.mark.parametrize("zone", ZONES)
def test_a_week_by_the_hour_over_an_edge_costs_its_hours(
    customer: User, begin: datetime, zone: str, settings: Any
) -> None:
    settings.BERTH_PRICE_PER_CORE_HOUR = Decimal(2)
    actions.set_recipient(workspace=workspace(customer), by="x", time_zone=zone)
    history = History(customer, begin)
    history.book("small", 168, kept=False)
    history.run(0)
    history.finish()
    history.check_books()
    history.check_sums()

    assert history.charged(history.lives[0]) == Decimal(168)
    days = DailyCost.objects.order_by("day").values_list("day", flat=True)
    assert len(days) == len(set(months.days(begin, begin + timedelta(hours=168), ZoneInfo(zone))))
    assert {day.replace(day=1) for day in days} == set(LedgerEntry.objects.values_list("month", flat=True))


def test_a_leap_day_is_a_day_of_its_month(customer: User) -> None:
    history = History(customer, datetime.fromisoformat("2028-02-29T00:00:00Z"))
    history.book("small", 24, kept=False)
    history.run(0)
    history.finish()

    assert DailyCost.objects.get().day == date(2028, 2, 29)


def _cut_off(exact: Fraction) -> Decimal:
    return Decimal(int(exact * 100)) / 100


def _each_by_itself(intervals: Sequence[Interval], before: datetime, rounding: Rounding) -> Fraction:
    parts = (min(closes, before) - opens for opens, closes in intervals if opens < before)
    return Fraction(sum(pricing.started_hours(part) for part in parts))


def _in_utc(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _without_gaps(reservation: Reservation, now: datetime) -> list[Interval]:
    found = SERVED(reservation, now)
    return [(found[0][0], found[-1][1])] if found else []


SERVED = usage.served
FAULTS: dict[str, tuple[Any, str, Any]] = {
    "cents are cut off": (pricing, "to_cents", _cut_off),
    "an hour counts when it is over": (pricing, "started_hours", lambda served: served // pricing.HOUR),
    "each interval is rounded by itself": (pricing, "_counted", _each_by_itself),
    "months begin in Greenwich": (months, "begin", _in_utc),
    "what was first served is forgotten": (usage, "served", lambda row, now: SERVED(row, now)[1:]),
    "outages are paid": (usage, "served", _without_gaps),
    "a discount is forgotten": (Price, "factor", Fraction(1)),
    "days are not written": (charging, "_days", lambda *args: []),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_what_makes_the_bills_is_found(fault: str, customer: User, monkeypatch: pytest.MonkeyPatch) -> None:
    place, name, instead = FAULTS[fault]
    begin = datetime.fromisoformat("2026-04-30T14:17:03Z")
    actions.set_recipient(workspace=workspace(customer), by="x", time_zone="Europe/Berlin")
    history = History(customer, begin)
    history.discount("12.34")
    history.now = begin + timedelta(hours=6)
    history.book("odd", 30, kept=False)
    monkeypatch.setattr(place, name, instead)

    for minutes, step in [
        (0, ("run", 0)),
        (180, ("outage", 0, 50)),
        (70, ("run", 0)),
        (200, ("stop", 0)),
        (190, ("run", 0)),
        (61, ("end", 0)),
    ]:
        history.do(minutes, step)
    history.settle()

    with pytest.raises(AssertionError):
        history.check_books()
