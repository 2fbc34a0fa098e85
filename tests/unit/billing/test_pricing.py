"""Started hours × cores × rate, RAM and storage; and that parts always add up to the whole."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing import months, pricing
from billing.pricing import Cost, Interval, Price, Rounding, Size, Terms

HOUR = timedelta(hours=1)
BEGIN = datetime(2026, 1, 30, 22, 0, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def terms(*prices: Price, rounding: Rounding = Rounding.HOUR, zone: str = "UTC") -> Terms:
    return Terms(prices or (Price(BEGIN, Decimal("0.50")),), rounding, zone)


def served(*hours: tuple[float, float]) -> list[Interval]:
    return [(BEGIN + opens * HOUR, BEGIN + closes * HOUR) for opens, closes in hours]


def size(cores: str = "1", ram_mib: int = 0, storage_gb: int = 0) -> Size:
    return Size(Decimal(cores), ram_mib, storage_gb)


@pytest.mark.parametrize(
    ("time", "hours"),
    [
        (timedelta(0), 0),
        (timedelta(microseconds=1), 1),
        (HOUR, 1),
        (HOUR + timedelta(microseconds=1), 2),
        (24 * HOUR, 24),
        (-HOUR, 0),
    ],
)
def test_an_hour_counts_in_full_once_it_has_begun(time: timedelta, hours: int) -> None:
    assert pricing.started_hours(time) == hours


def test_all_intervals_of_a_reservation_are_counted_together() -> None:
    cost = pricing.cost(served((0, 1 / 3), (2, 2 + 1 / 3), (5, 5.25)), size("2"), terms())

    assert (cost.started_hours, cost.amount) == (1, Decimal("1.00"))


def test_half_a_cent_is_rounded_up() -> None:
    assert pricing.cost(served((0, 1)), size("0.01"), terms()).amount == Decimal("0.01")


def test_nothing_served_costs_nothing() -> None:
    assert pricing.cost([], size("4"), terms()) == Cost()


def test_by_the_second_only_what_was_served_is_paid() -> None:
    by_second = terms(rounding=Rounding.SECOND)

    assert pricing.cost(served((0, 0.25)), size(), by_second).amount == Decimal("0.13")  # 0.125


def test_ram_is_paid_by_the_gib_and_hour() -> None:
    price = Price(BEGIN, Decimal(0), per_gib_hour=Decimal("0.10"))

    assert pricing.cost(served((0, 1.5)), size(ram_mib=1536), terms(price)).ram == Decimal("0.30")


def test_a_discount_is_taken_off_all_of_it() -> None:
    price = Price(BEGIN, Decimal(1), Decimal(1), Decimal(31), discount_percent=Decimal(25))

    cost = pricing.cost(served((2, 26)), size("1", 1024, 1), terms(price))  # all of January 31

    assert (cost.cores, cost.ram, cost.storage) == (Decimal(18), Decimal(18), Decimal("0.75"))


def test_an_hour_has_the_price_of_the_instant_it_begins_at() -> None:
    dearer = Price(BEGIN + 2.5 * HOUR, Decimal(1))

    cost = pricing.cost(served((0, 4)), size(), terms(Price(BEGIN, Decimal("0.50")), dearer))

    assert cost.amount == Decimal("2.50")  # three hours began before the change


@pytest.mark.parametrize(("late", "amount"), [(0, "1.50"), (0.5, "1.50"), (1.5, "1.50"), (2.5, "1.00")])
def test_what_is_served_late_costs_no_more_than_was_promised(late: float, amount: str) -> None:
    """Booked for three hours, the last of which is dearer: our start-up puts another one beyond the change."""
    changing = terms(Price(BEGIN, Decimal("0.25")), Price(BEGIN + 1.25 * HOUR, Decimal(1)))
    promised = replace(changing, booked=(BEGIN, BEGIN + 3 * HOUR))

    cost = pricing.cost(served((late, 3)), size(), promised)

    assert cost.amount == Decimal(amount)
    assert cost.amount <= pricing.cost([(BEGIN, BEGIN + 3 * HOUR)], size(), changing).amount


@pytest.mark.parametrize(
    ("month", "zone"),
    [
        (date(2026, 2, 1), "UTC"),
        (date(2028, 2, 1), "UTC"),  # a leap year
        (date(2026, 3, 1), "Europe/Berlin"),  # an hour is skipped
        (date(2026, 10, 1), "Europe/Berlin"),  # an hour comes twice
        (date(2026, 12, 1), "Pacific/Auckland"),
    ],
)
def test_a_whole_month_of_storage_costs_its_price_whatever_its_length(month: date, zone: str) -> None:
    start, end = months.stretch(month, ZoneInfo(zone))
    price = Price(start, Decimal(0), per_gb_month=Decimal("0.10"))

    assert pricing.cost([(start, end)], size(storage_gb=5), terms(price, zone=zone)).storage == Decimal("0.50")


def test_terms_are_kept_and_read_again() -> None:
    kept = terms(Price(BEGIN, Decimal("0.1234"), Decimal("0.01"), Decimal("0.2"), Decimal(5)), zone="Europe/Berlin")

    assert Terms.from_json(kept.as_json()) == kept


def test_the_terms_of_an_older_version_are_read() -> None:
    kept = {"prices": [{"since": BEGIN.isoformat(), "per_core_hour": "0.5000"}]}

    assert Terms.from_json(kept) == Terms((Price(BEGIN, Decimal("0.5000")),))


spans = st.lists(st.floats(0.001, 90).map(lambda hours: round(hours, 3)), min_size=2, max_size=12, unique=True)
sizes = st.builds(Size, st.decimals("0.1", "64", places=2), st.integers(0, 65_536), st.integers(0, 100))
rates = st.decimals("0", "5", places=4)
prices = st.lists(
    st.tuples(rates, rates, rates, st.decimals("0", "100", places=2), st.floats(0, 2000)), min_size=1, max_size=4
)


def _terms(found: list[tuple[Decimal, Decimal, Decimal, Decimal, float]], rounding: Rounding) -> Terms:
    ordered = sorted(found, key=lambda price: price[-1])
    return Terms(
        tuple(Price(BEGIN + timedelta(hours=since), *values) for *values, since in ordered), rounding, "Europe/Berlin"
    )


def _intervals(edges: list[float]) -> list[Interval]:
    ordered = sorted(edges)
    return served(*zip(ordered[::2], ordered[1::2], strict=False))


@given(spans, sizes, prices, st.sampled_from(Rounding))
@settings(max_examples=100)
def test_months_and_days_add_up_to_the_whole(
    edges: list[float], size: Size, found: list[tuple[Decimal, Decimal, Decimal, Decimal, float]], rounding: Rounding
) -> None:
    intervals, holding = _intervals(edges), _terms(found, rounding)

    whole = pricing.cost(intervals, size, holding)

    for split in (pricing.by_month, pricing.by_day):
        parts = split(intervals, size, holding, BERLIN).values()
        assert sum((part.amount for part in parts), Decimal(0)) == whole.amount
        assert sum((part.served for part in parts), timedelta(0)) == whole.served
        assert all(part.amount >= 0 for part in parts)


@given(spans, sizes, prices, st.floats(0, 1))
@settings(max_examples=100)
def test_splitting_a_period_never_changes_a_bill_by_the_second(
    edges: list[float], size: Size, found: list[tuple[Decimal, Decimal, Decimal, Decimal, float]], where: float
) -> None:
    intervals, holding = _intervals(edges), _terms(found, Rounding.SECOND)
    opens, closes = intervals[0]
    cut = opens + (closes - opens) * where

    split = [(opens, cut), (cut, closes), *intervals[1:]]

    assert pricing.cost(split, size, holding) == pricing.cost(intervals, size, holding)


@given(spans, sizes, st.sampled_from(Rounding), st.floats(0.001, 50))
@settings(max_examples=100)
def test_serving_longer_never_costs_less_and_the_order_does_not_matter(
    edges: list[float], size: Size, rounding: Rounding, more: float
) -> None:
    intervals, holding = _intervals(edges), terms(rounding=rounding)
    amount = pricing.cost(intervals, size, holding).amount
    end = intervals[-1][1]

    assert pricing.cost([*intervals, (end, end + more * HOUR)], size, holding).amount >= amount
    assert pricing.cost(intervals[::-1], size, holding).amount == amount
