"""Moves a booking's window by SQL: the steps are quarters of an hour, and no test waits that long."""

from datetime import datetime

from tests.integration.desk import Desk

_ALLOCATION = "SELECT allocation_id FROM reservations_container WHERE reservation_id = %s"
_FORWARD = "SELECT forward_id FROM reservations_endpoint WHERE reservation_id = %s"


def now(desk: Desk) -> datetime:
    """As the database has it, which is the clock of the rows."""
    [[instant]] = desk.sql("SELECT now()")
    return datetime.fromisoformat(instant.isoformat())


def end_at(desk: Desk, number: int, at: datetime) -> None:
    """As if it had been booked until then, its port with it."""
    for table, row in (("compute_allocation", _ALLOCATION), ("compute_forward", _FORWARD)):
        desk.sql(f"UPDATE {table} SET during = tstzrange(lower(during), %s) WHERE id IN ({row})", at, number)  # noqa: S608
    desk.sql(
        'UPDATE reservations_reservation SET "end" = %s, look_at = least(look_at, %s) WHERE id = %s', at, at, number
    )


def begin_at(desk: Desk, number: int, at: datetime) -> None:
    """As if it had been booked for then."""
    for table, row in (("compute_allocation", _ALLOCATION), ("compute_forward", _FORWARD)):
        desk.sql(f"UPDATE {table} SET during = tstzrange(%s, upper(during)) WHERE id IN ({row})", at, number)  # noqa: S608
    desk.sql("UPDATE reservations_reservation SET start = %s, look_at = %s WHERE id = %s", at, at, number)


def plan_anew(desk: Desk) -> None:
    """What nodes lend when is kept beside the bookings; after SQL has moved these, it has to be computed."""
    desk.stack.run_manage("doctor", "--mend-plan", check=False)
