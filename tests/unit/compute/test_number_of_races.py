"""A part of the bench's 10,000 races, so that every test run has some (`script/bench races` runs all)."""

import pytest

from tests.bench.races import race
from tests.factories import NOW

pytestmark = pytest.mark.django_db(transaction=True)


def test_nothing_is_lent_twice_in_four_hundred_races() -> None:
    found = race(400, 8, NOW)

    assert found.attempts == 400
    assert (found.held_twice, found.not_won) == (0, 0)
