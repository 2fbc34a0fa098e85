"""Bookings over the nights in which clocks are set: an hour is an hour, whatever the wall says."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange  # type: ignore[import-untyped]

from billing import quotes
from reservations.models import Reservation, UsagePeriod
from tests.factories import HOUR, make_node, make_reservation
from tests.unit.conftest import Machines

pytestmark = pytest.mark.django_db
BERLIN = ZoneInfo("Europe/Berlin")
# At 2:00 the clock is put to 3:00; at 3:00 it is put back to 2:00. Each with the end of four hours from 23:30.
SPRING = (datetime(2026, 3, 28, 23, 30, tzinfo=BERLIN), datetime(2026, 3, 29, 2, 30, tzinfo=UTC))
AUTUMN = (datetime(2026, 10, 24, 23, 30, tzinfo=BERLIN), datetime(2026, 10, 25, 1, 30, tzinfo=UTC))
NIGHTS = pytest.mark.parametrize(("start", "end"), [SPRING, AUTUMN], ids=["spring", "autumn"])


@pytest.fixture(autouse=True)
def _node() -> None:
    make_node("one", cores=8)


def _booked(start: datetime, **values: Any) -> Reservation:
    row = make_reservation(now=start.astimezone(UTC) - HOUR, start=start, length=4 * HOUR, **values)
    return Reservation.objects.get(pk=row.pk)


@NIGHTS
def test_it_lasts_the_booked_hours(start: datetime, end: datetime) -> None:
    row = _booked(start)

    assert row.start == start.astimezone(UTC)
    assert row.end == end
    assert row.length == 4 * HOUR


@NIGHTS
def test_it_costs_the_booked_hours(start: datetime, end: datetime, settings: Any) -> None:
    settings.BERTH_PRICE_PER_CORE_HOUR = Decimal("0.50")
    row = _booked(start)
    served = DateTimeTZRange(row.start, row.end, "[)")
    UsagePeriod.objects.create(reservation=row, generation=1, cores=row.cores, during=served)

    assert row.price == row.cores * 4 * Decimal("0.50")
    assert quotes.cost_so_far(reservation_id=row.pk, now=end) == row.price


@NIGHTS
def test_it_begins_and_ends_on_time(start: datetime, end: datetime, machines: Machines) -> None:
    row = _booked(start)
    machines.clock.now = row.start - timedelta(seconds=1)
    assert machines.reconcile(row).state == "booked"
    machines.clock.now = row.start
    assert machines.settle(row).state == "running"

    machines.clock.now = end - timedelta(seconds=1)
    assert machines.reconcile(row).state == "running"
    machines.clock.now = end
    assert machines.reconcile(row).state == "ended"
    [period] = UsagePeriod.objects.all()
    assert period.during.upper - period.during.lower == 4 * HOUR


@NIGHTS
def test_the_next_one_fits_where_it_ends(start: datetime, end: datetime) -> None:
    """Its place is planned for as long as it lasts, and no longer."""
    row = _booked(start)
    [allocation] = [container.allocation for container in row.containers.all()]

    assert (allocation.during.lower, allocation.during.upper) == (row.start, end)
