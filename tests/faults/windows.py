"""Moves a booking's window by SQL: the steps are quarters of an hour, and no test waits that long.

A move is done whole or not at all, and locks what the portal locks for it, in the same order (ARCHITECTURE.md): the
workers go on meanwhile. Half a move would be worse than none: a place that has another window than the plan has for it
can never be given back, and everything that shares its node would be stuck with it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psycopg

from tests.integration.desk import Desk

_PLACING = 0x6265727468  # the key of the advisory lock under which places are chosen (compute/capacity.py)
_ALLOCATION = "SELECT allocation_id FROM reservations_container WHERE reservation_id = %(number)s"
_FORWARD = "SELECT forward_id FROM reservations_endpoint WHERE reservation_id = %(number)s"

# A port is chosen for the window that was booked: it may be one that somebody had a moment ago, and that rests until
# then. As if it had been booked for the earlier begin, such a rest is over.
_END_RESTS = f"""
UPDATE compute_forward rests SET during = tstzrange(lower(rests.during), %(at)s)
FROM compute_forward moved
WHERE moved.id IN ({_FORWARD}) AND rests.id <> moved.id AND rests.released_at IS NOT NULL
  AND ((rests.gateway_id, rests.public_port) = (moved.gateway_id, moved.public_port)
       OR (rests.node_id, rests.node_port) = (moved.node_id, moved.node_port))
  AND lower(rests.during) < %(at)s AND upper(rests.during) > %(at)s
"""  # noqa: S608 - made of the constants above

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
    values = {"number": number, "at": at}
    with _moving(desk, number) as connection:
        for table, row in (("compute_allocation", _ALLOCATION), ("compute_forward", _FORWARD)):
            connection.execute(
                f"UPDATE {table} SET during = tstzrange(lower(during), %(at)s) WHERE id IN ({row})".encode(),  # noqa: S608
                values,
            )
        connection.execute(
            'UPDATE reservations_reservation SET "end" = %(at)s, look_at = least(look_at, %(at)s)'
            " WHERE id = %(number)s",
            values,
        )


def begin_at(desk: Desk, number: int, at: datetime) -> None:
    """As if it had been booked for then."""
    values = {"number": number, "at": at}
    with _moving(desk, number) as connection:
        connection.execute(_END_RESTS.encode(), values)
        for table, row in (("compute_allocation", _ALLOCATION), ("compute_forward", _FORWARD)):
            connection.execute(
                f"UPDATE {table} SET during = tstzrange(%(at)s, upper(during)) WHERE id IN ({row})".encode(),  # noqa: S608
                values,
            )
        connection.execute(
            "UPDATE reservations_reservation SET start = %(at)s, look_at = %(at)s WHERE id = %(number)s", values
        )


@contextmanager
def _moving(desk: Desk, number: int) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A transaction in which nobody else changes the booking, a place or a plan; the plan is computed anew at its end.

    What nodes lend when is kept beside the bookings: a moved one would else seem to hold its place until its first
    end, and the cases after it would not fit.
    """
    with desk.stack.database() as connection, connection.transaction():
        connection.execute("SELECT FROM reservations_reservation WHERE id = %s FOR NO KEY UPDATE", [number])
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [_PLACING])
        connection.execute("SELECT FROM compute_node ORDER BY id FOR NO KEY UPDATE")
        yield connection
        connection.execute(_PLAN)
