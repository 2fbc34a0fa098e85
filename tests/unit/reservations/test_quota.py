"""The most that a workspace holds at one instant."""

from datetime import timedelta
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from reservations.quota import Hold, Use, peak_use
from tests.factories import NOW

MINUTE = timedelta(minutes=1)
holds = st.builds(
    lambda begin, length, ram, cores, gb: Hold(
        NOW + begin * MINUTE, NOW + (begin + length) * MINUTE, ram, Decimal(cores) / 4, gb
    ),
    st.integers(0, 20),
    st.integers(1, 10),
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(0, 9),
)


@given(st.lists(holds, max_size=8), st.integers(0, 20), st.integers(1, 12))
@settings(max_examples=200)
def test_the_peak_is_what_looking_at_every_minute_finds(booked: list[Hold], first: int, length: int) -> None:
    uses = []
    for minute in range(first, first + length):
        there = [hold for hold in booked if hold.start <= NOW + minute * MINUTE < hold.end]
        uses.append(
            Use(
                len(there),
                sum(hold.ram_mib for hold in there),
                sum((hold.cores for hold in there), Decimal(0)),
                sum(hold.storage_gb for hold in there),
            )
        )

    found = peak_use(booked, NOW + first * MINUTE, NOW + (first + length) * MINUTE)

    assert found == Use(
        max(use.reservations for use in uses),
        max(use.ram_mib for use in uses),
        max(use.cores for use in uses),
        max(use.storage_gb for use in uses),
    )


def test_one_that_ends_when_the_window_begins_is_not_in_it() -> None:
    hold = Hold(NOW, NOW + MINUTE, 1, Decimal(1), 1)

    assert peak_use([hold], NOW + MINUTE, NOW + 2 * MINUTE) == Use()
