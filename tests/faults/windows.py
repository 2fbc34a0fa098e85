"""Moves a booking's window by SQL: the steps are quarters of an hour, and no test waits that long."""

from datetime import datetime

from tests.integration.desk import Desk

_ALLOCATION = "SELECT allocation_id FROM reservations_container WHERE reservation_id = %s"
_FORWARD = "SELECT forward_id FROM reservations_endpoint WHERE reservation_id = %s"

_PLAN = """
DELETE FROM compute_loadstep;
INSERT INTO compute_loadstep (node_id, at, ram_mib, cores)
SELECT edge.node_id, edge.at, coalesce(sum(held.ram_mib), 0), coalesce(sum(held.cores), 0)
FROM (
    SELECT node_id, lower(during) AS at FROM compute_allocation WHERE released_at IS NULL
    UNION SELECT node_id, upper(during) FROM compute_allocation WHERE released_at IS NULL
) edge
LEFT JOIN compute_allocation held
    ON held.node_id = edge.node_id AND held.released_at IS NULL AND held.during @> edge.at
GROUP BY edge.node_id, edge.at;
"""


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
    plan_anew(desk)


def begin_at(desk: Desk, number: int, at: datetime) -> None:
    """As if it had been booked for then."""
    for table, row in (("compute_allocation", _ALLOCATION), ("compute_forward", _FORWARD)):
        desk.sql(f"UPDATE {table} SET during = tstzrange(%s, upper(during)) WHERE id IN ({row})", at, number)  # noqa: S608
    desk.sql("UPDATE reservations_reservation SET start = %s, look_at = %s WHERE id = %s", at, at, number)
    plan_anew(desk)


def plan_anew(desk: Desk) -> None:
    """What nodes lend when is kept beside the bookings: after SQL has moved these, it has to be computed.

    Else a moved one would seem to hold its place until its first end, and the cases after it would not fit.
    """
    desk.sql(_PLAN)
