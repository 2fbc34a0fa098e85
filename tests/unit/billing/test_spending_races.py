"""Many bookings at the same instant against a budget or prepaid credit that is enough for ten: ten are made."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from accounts.models import User
from billing import actions, audit, charging, payments
from billing.models import LedgerEntry
from reservations import actions as booking
from reservations.actions import CannotAfford
from reservations.models import Reservation
from tests.factories import HOUR, NOW, make_booking, make_node, make_user, workspace_of
from tests.unit.billing.lives import lived
from tests.unit.reservations.test_races import at_once

pytestmark = pytest.mark.django_db(transaction=True)
MANY, THREADS, AFFORDED = 60, 12, 10


@pytest.fixture
def user(settings: Any) -> User:
    settings.BERTH_PRICE_PER_CORE_HOUR = Decimal(2)  # half a core for an hour: 1.00
    make_node(ram_mib=1_000_000, cores=Decimal(2000))
    user = make_user()
    space = workspace_of(user)
    space.max_reservations, space.max_cores, space.max_ram_mib = 10_000, Decimal(10_000), 10_000_000
    space.save()
    return user


def book_at_once(user: User, many: int = MANY) -> list[object]:
    wanted = make_booking()
    return at_once(
        many, lambda _: booking.book(booking=wanted, workspace=workspace_of(user), by=user, now=NOW)[0], THREADS
    )


def count(answers: list[object], kind: type) -> int:
    return sum(isinstance(answer, kind) for answer in answers)


def test_a_budget_with_a_hard_stop_is_spent_by_exactly_ten(user: User) -> None:
    actions.set_spending(workspace=workspace_of(user), monthly_budget=Decimal("10.99"), hard_stop=True, by=user)

    answers = book_at_once(user)

    assert (count(answers, Reservation), count(answers, CannotAfford)) == (AFFORDED, MANY - AFFORDED)
    assert Reservation.objects.count() == AFFORDED


def test_prepaid_credit_is_spent_by_exactly_ten_tax_included(user: User, settings: Any) -> None:
    settings.BERTH_TAX_PERCENT = Decimal(19)
    actions.set_credit_limit(workspace=workspace_of(user), credit_limit=Decimal(0), by="x")
    payments.grant_credit(workspace=workspace_of(user), amount=Decimal("11.90"), reason="Paid.", by="x", now=NOW)

    answers = book_at_once(user)

    assert (count(answers, Reservation), count(answers, CannotAfford)) == (AFFORDED, MANY - AFFORDED)


def test_bookings_that_race_with_charges_see_either_the_hold_or_the_charge(user: User) -> None:
    """Four that are over are charged by four workers while others want what is left."""
    then = datetime(2026, 5, 4, 2, 0, tzinfo=UTC)
    actions.set_spending(workspace=workspace_of(user), monthly_budget=Decimal(AFFORDED), hard_stop=True, by=user)
    for _ in range(4):
        lived(user, then, 1)
    wanted = make_booking()

    def work(number: int) -> object:
        if number % 3 == 0:
            return charging.settle(workspace_of(user).pk, NOW)
        return booking.book(booking=wanted, workspace=workspace_of(user), by=user, now=NOW)[0]

    answers = at_once(MANY, work, THREADS)

    assert sum(answer for answer in answers if isinstance(answer, int)) == 4
    assert count(answers, Reservation) == AFFORDED - 4
    assert count(answers, CannotAfford) == MANY * 2 // 3 - (AFFORDED - 4)
    assert LedgerEntry.objects.count() == 4
    assert audit.examine(NOW + timedelta(seconds=1)).findings == []


def test_settled_by_many_at_once_everything_is_charged_once(user: User) -> None:
    for _ in range(5):
        lived(user, NOW - 3 * HOUR, 1)

    answers = at_once(12, lambda _: charging.settle(workspace_of(user).pk, NOW))

    assert sorted(str(answer) for answer in answers) == ["0"] * 11 + ["5"]
    assert LedgerEntry.objects.count() == 5
