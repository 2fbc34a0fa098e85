"""What was booked costs what it cost then: a new price is for new bookings."""

from decimal import Decimal
from typing import Any

import pytest
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange  # type: ignore[import-untyped]

from billing import quotes, statements
from reservations.models import Reservation, UsagePeriod
from tests.factories import at, make_node, make_reservation

pytestmark = pytest.mark.django_db


def test_a_new_price_leaves_old_bookings_as_they_were(settings: Any) -> None:
    make_node()
    settings.BERTH_PRICE_PER_CORE_HOUR = Decimal("0.50")
    reservation = make_reservation()
    during = DateTimeTZRange(at(0), at(1), "[)")
    UsagePeriod.objects.create(reservation=reservation, generation=1, cores=reservation.cores, during=during)
    settings.BERTH_PRICE_PER_CORE_HOUR = Decimal(8)

    row = statements.row(Reservation.objects.get(), at(2))

    assert row.reservation.rate == Decimal("0.50")
    assert row.amount == row.reservation.price == Decimal("0.25")
    assert quotes.cost_so_far(reservation_id=reservation.pk, now=at(2)) == Decimal("0.25")


def test_a_new_booking_has_the_new_price(settings: Any) -> None:
    make_node()
    settings.BERTH_PRICE_PER_CORE_HOUR = Decimal("0.1234")

    assert make_reservation().rate == Decimal("0.1234")
