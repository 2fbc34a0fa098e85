"""The second computation by itself: against sums made by hand, and against the first for whatever was served."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing import pricing, recompute
from billing.pricing import Price, Rounding, Size, Terms

HOUR = timedelta(hours=1)
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Pacific/Auckland", "Asia/Kolkata", "America/Asuncion"]
#: A month's end, a leap day, both changes of the clocks (there and elsewhere), a year's end.
EDGES = ["2026-04-30", "2028-02-28", "2026-03-29", "2026-10-25", "2026-03-08", "2026-11-01", "2026-12-31", "2026-09-30"]


def span(opens: str, closes: str) -> recompute.Span:
    return recompute.micros(datetime.fromisoformat(opens)), recompute.micros(datetime.fromisoformat(closes))


def deal(core: str = "1", *, gb: str = "0", rounding: str = "hour", zone: str = "UTC") -> recompute.Deal:
    line = {"since": "2020-01-01T00:00:00+00:00", "per_core_hour": core, "per_gb_month": gb}
    return recompute.deal({"prices": [line], "rounding": rounding, "zone": zone})


def test_started_hours_are_walked_over_the_gaps() -> None:
    spans = [
        span("2026-05-04T10:00Z", "2026-05-04T10:40Z"),
        span("2026-05-04T12:00Z", "2026-05-04T12:20Z"),
        span("2026-05-04T15:00Z", "2026-05-04T15:00:01Z"),
    ]

    begun = [datetime.fromtimestamp(at / 1e6, UTC).isoformat()[11:16] for at in recompute.started_hours(spans)]

    assert begun == ["10:00", "15:00"]


def test_an_hour_belongs_to_the_month_that_it_begins_in() -> None:
    due = recompute.due_through(
        [span("2026-05-31T22:30Z", "2026-06-01T00:30Z")], recompute.Thing(100, 0, 0), deal(), "UTC"
    )

    assert due == {(2026, 5): Decimal("2.00"), (2026, 6): Decimal("2.00")}


def test_a_whole_month_of_storage_costs_its_price_with_23_and_25_hours_in_a_day() -> None:
    for month in (3, 10):
        opens, closes = (recompute.month_begins((2026, number), "Europe/Berlin") for number in (month, month + 1))
        holding = deal("0", gb="0.10", zone="Europe/Berlin")

        due = recompute.due_through([(opens, closes)], recompute.Thing(100, 0, 5), holding, "Europe/Berlin")

        assert due == {(2026, month): Decimal("0.50")}


@pytest.mark.parametrize("zone", ZONES)
def test_months_begin_when_the_clock_there_says_so(zone: str) -> None:
    for year in (2023, 2024, 2026, 2028):
        for month in range(1, 13):
            begin = datetime.fromtimestamp(recompute.month_begins((year, month), zone) / 1e6, ZoneInfo(zone))
            assert begin.date() == date(year, month, 1)
            assert (begin.astimezone(UTC) - timedelta(seconds=1)).astimezone(ZoneInfo(zone)).month != month


def test_terms_that_cannot_be_are_not_computed_with() -> None:
    line = {"since": "2026-05-01T00:00:00+00:00", "per_core_hour": "0.123456789"}
    with pytest.raises(ValueError, match="finer"):
        recompute.deal({"prices": [line]})
    with pytest.raises(ValueError, match="order"):
        recompute.deal({"prices": []})
    with pytest.raises(ValueError, match="counted by the minute"):
        recompute.deal({"prices": [{**line, "per_core_hour": "1"}], "rounding": "minute"})


gaps = st.one_of(st.integers(0, 4 * 3600), st.sampled_from([0, 3600, 7200, 86_400]), st.integers(0, 40 * 86_400))
rates = st.decimals("0", "9", places=4)
prices = st.tuples(rates, rates, rates, st.decimals("0", "100", places=2), st.integers(0, 40 * 24 * 12))


@given(
    st.sampled_from(EDGES),
    st.lists(st.tuples(gaps, gaps), min_size=1, max_size=6),
    st.builds(Size, st.decimals("0.1", "64", places=2), st.integers(0, 65_536), st.integers(0, 100)),
    st.lists(prices, min_size=1, max_size=4),
    st.sampled_from(Rounding),
    st.sampled_from(ZONES),
    st.sampled_from(ZONES),
)
@settings(max_examples=300)
def test_both_computations_come_to_the_same_cent_in_every_month(
    day: str,
    steps: list[tuple[int, int]],
    size: Size,
    found: list[tuple[Decimal, Decimal, Decimal, Decimal, int]],
    rounding: Rounding,
    zone: str,
    storage_zone: str,
) -> None:
    at = begin = datetime.fromisoformat(f"{day}T20:00:00Z")
    served = []
    for pause, length in steps:
        opens = at + timedelta(seconds=pause)
        at = opens + timedelta(seconds=length, microseconds=1)
        served.append((opens, at))
    lines = [Price(begin + since * HOUR / 12, *values) for *values, since in sorted(found, key=lambda p: p[-1])]
    terms = Terms(tuple(lines), rounding, storage_zone)

    first = pricing.by_month(served, size, terms, ZoneInfo(zone))
    thing = recompute.Thing(recompute.whole(size.cores, 100), size.ram_mib, size.storage_gb)
    spans = [(recompute.micros(opens), recompute.micros(closes)) for opens, closes in served]
    second = recompute.due_through(spans, thing, recompute.deal(terms.as_json()), zone)

    total = Decimal(0)
    for (year, month), through in second.items():
        total += first[date(year, month, 1)].amount if date(year, month, 1) in first else 0
        assert total == through, (year, month)
    assert total == pricing.cost(served, size, terms).amount
    assert first.keys() <= {date(*month, 1) for month in second}
