"""What was booked costs what it cost then: a new price is for new bookings, and for what is added to old ones."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange  # type: ignore[import-untyped]
from django.utils import timezone

from accounts.models import AuditEntry
from billing import actions, quotes
from billing.models import Discount, Rate
from reservations import extending
from reservations.models import Reservation, UsagePeriod
from tests.factories import HOUR, NOW, at, make_node, make_reservation, make_user, workspace_of

pytestmark = pytest.mark.django_db
PRICES: dict[str, Any] = {"per_core_hour": Decimal(1), "per_gib_hour": Decimal(0), "per_gb_month": Decimal(0)}


@pytest.fixture(autouse=True)
def _prices(settings: Any) -> None:
    settings.BERTH_PRICE_PER_CORE_HOUR = Decimal("0.50")
    make_node()


def _rate(start: float, end: float | None = None, now: float = -1, **values: Any) -> Rate:
    values = {"workspace": None, **PRICES, **values}
    finish = None if end is None else at(end)
    return actions.set_rate(start=at(start), end=finish, by="manage.py", now=at(now), **values)


def test_a_new_price_leaves_old_bookings_as_they_were(settings: Any) -> None:
    reservation = make_reservation()
    during = DateTimeTZRange(at(0), at(1), "[)")
    UsagePeriod.objects.create(reservation=reservation, generation=1, cores=reservation.cores, during=during)
    settings.BERTH_PRICE_PER_CORE_HOUR = Decimal(8)
    _rate(0)

    assert reservation.price == Decimal("0.25")
    assert quotes.cost_so_far(reservation_id=reservation.pk, now=at(2)) == Decimal("0.25")


def test_a_new_booking_has_the_new_price() -> None:
    _rate(0, per_core_hour=Decimal("0.40"))

    assert make_reservation().price == Decimal("0.20")


def test_a_booking_over_a_change_pays_both_prices() -> None:
    _rate(1, 2)

    assert make_reservation(length=3 * HOUR).price == Decimal("1.00")  # half a core: 0.25 + 0.50 + 0.25


def test_a_workspace_has_its_own_rate_before_the_list_s_and_less_its_discount() -> None:
    user = make_user()
    _rate(0, per_core_hour=Decimal(4))
    _rate(0, per_core_hour=Decimal(2), workspace=workspace_of(user))
    actions.set_discount(
        workspace=workspace_of(user), percent=Decimal(10), reason="School", start=at(0), end=None, by="x", now=at(-1)
    )

    assert make_reservation(user).price == Decimal("0.90")
    assert make_reservation().price == Decimal("2.00")


def test_what_is_added_has_the_price_of_today() -> None:
    user = make_user()
    reservation = make_reservation(user)
    _rate(0.5, now=0.25)

    row = extending.extend(reservation=reservation, length=2 * HOUR, by=user, now=at(0.5))

    assert row.price == Decimal("1.25")  # an hour for 0.25 as it was booked, two for 0.50
    assert [price["per_core_hour"] for price in row.terms["prices"]] == ["0.50", "1.0000"]


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("per_core_hour", Decimal(-1), "greater than or equal to 0"),
        ("per_core_hour", Decimal("10000.01"), "less than or equal to 10000"),
        ("per_gib_hour", Decimal("-0.0001"), "greater than or equal to 0"),
        ("per_gb_month", Decimal("NaN"), "decimal number"),
        ("rounding", "day", "not a valid choice"),
    ],
)
def test_a_negative_or_absurd_rate_is_refused(field: str, value: Any, sentence: str) -> None:
    wrong: dict[str, Any] = {field: value}
    with pytest.raises(actions.InvalidPrice) as refused:
        _rate(0, **wrong)

    assert sentence in refused.value.problems[field]
    assert not Rate.objects.exists()
    assert not AuditEntry.objects.filter(action="rate.begin").exists()


def test_overlapping_rates_are_refused() -> None:
    _rate(0, 5)

    with pytest.raises(actions.InvalidPrice, match="Another rate holds at that time already"):
        _rate(4, 6)

    assert _rate(5, 6).during.lower == at(5)


def test_a_rate_in_the_past_is_refused() -> None:
    with pytest.raises(actions.InvalidPrice, match="cannot begin in the past"):
        _rate(-2)


def test_a_rate_ends_after_it_began() -> None:
    with pytest.raises(actions.InvalidPrice, match="end must be after the start"):
        _rate(3, 3)


@pytest.mark.parametrize("percent", [Decimal(0), Decimal(-5), Decimal("100.01")])
def test_an_absurd_discount_is_refused(percent: Decimal) -> None:
    with pytest.raises(actions.InvalidPrice):
        actions.set_discount(
            workspace=workspace_of(make_user()), percent=percent, reason="x", start=NOW, end=None, by="x", now=NOW
        )

    assert not Discount.objects.exists()


def test_a_rate_that_holds_is_only_ended() -> None:
    now = timezone.now()
    rate = actions.set_rate(workspace=None, start=None, end=None, by="x", now=now, **PRICES)

    for change in ({"per_core_hour": 9}, {"during": DateTimeTZRange(now - HOUR, None, "[)")}):
        with pytest.raises(IntegrityError, match="holds already"), transaction.atomic():
            Rate.objects.filter(pk=rate.pk).update(**change)
    with pytest.raises(actions.InvalidPrice, match="cannot end in the past"):
        actions.end_price(price=rate, at=now - timedelta(seconds=1), by="x", now=now)
    with pytest.raises(actions.InvalidPrice, match="It holds already"):
        actions.delete_price(price=rate, by="x", now=now + HOUR)

    assert actions.end_price(price=rate, at=now + HOUR, by="x", now=now).during.upper == now + HOUR


def test_a_rate_that_has_not_begun_can_be_taken_back() -> None:
    now = timezone.now()
    rate = actions.set_rate(workspace=None, start=now + HOUR, end=None, by="x", now=now, **PRICES)

    actions.delete_price(price=rate, by="x", now=now)

    assert not Rate.objects.exists()
    assert AuditEntry.objects.filter(action="rate.delete").count() == 1


def test_prices_are_asked_once_for_all_sizes(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1):
        assert quotes.per_hour([(Decimal(1), 512)] * 20, now=NOW) == [Decimal("0.50")] * 20


def test_every_reservation_knows_its_terms() -> None:
    make_reservation()

    assert Reservation.objects.get().terms["prices"][0]["per_core_hour"] == "0.50"
