"""Started hours × cores × rate."""

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing import pricing

HOUR = timedelta(hours=1)
RATE = Decimal("0.50")
served_times = st.timedeltas(timedelta(0), timedelta(days=40))
cores = st.decimals("0.1", "64", places=2)


@pytest.mark.parametrize(
    ("served", "hours"),
    [
        (timedelta(0), 0),
        (timedelta(microseconds=1), 1),
        (HOUR, 1),
        (HOUR + timedelta(microseconds=1), 2),
        (24 * HOUR, 24),
        (-HOUR, 0),
    ],
)
def test_an_hour_counts_in_full_once_it_has_begun(served: timedelta, hours: int) -> None:
    assert pricing.started_hours(served) == hours


def test_all_intervals_of_a_reservation_are_counted_together() -> None:
    assert pricing.bill([timedelta(minutes=20)] * 3, Decimal(2), RATE) == pricing.Bill(1, Decimal("1.00"))


def test_half_a_cent_is_rounded_up() -> None:
    assert pricing.bill([HOUR], Decimal("0.01"), RATE).amount == Decimal("0.01")


def test_nothing_served_costs_nothing() -> None:
    assert pricing.bill([], Decimal(4), RATE) == pricing.Bill(0, Decimal("0.00"))


@given(st.lists(served_times, max_size=5), cores)
@settings(max_examples=100)
def test_the_hours_cover_what_was_served_by_less_than_one(served: list[timedelta], cores: Decimal) -> None:
    total = sum(served, timedelta(0))

    bill = pricing.bill(served, cores, RATE)

    assert timedelta(0) <= bill.started_hours * HOUR - total < HOUR
    assert bill.amount.as_tuple().exponent == -2


@given(st.lists(served_times, min_size=1, max_size=5), cores, served_times)
@settings(max_examples=100)
def test_serving_longer_never_costs_less_and_the_order_does_not_matter(
    served: list[timedelta], cores: Decimal, more: timedelta
) -> None:
    amount = pricing.bill(served, cores, RATE).amount

    assert pricing.bill([*served, more], cores, RATE).amount >= amount
    assert pricing.bill(served[::-1], cores, RATE).amount == amount
