"""When something fits: the earliest start, and how many nodes have room in each hour of a stretch. Only reads.

Both questions are answered in SQL from the load steps (docs/adr/0003), node by node along their index, so that a
thousand nodes with two hundred steps each are not sorted, joined or carried to Python. Who places looks again, exactly,
with the lock of placing.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import accumulate
from typing import Any

from django.db import connection

from compute.models import Node
from compute.scheduler import Request

HOUR = timedelta(hours=1)
# How far ahead is looked for a start, one after the other: mostly it is near, and what is far away is not read then.
HORIZONS = (timedelta(hours=6), None)

# Of compute_node, named node: those that may be given something. The values are those of `values_of`.
IS_LENDING = """
    node.state = %(active)s AND node.health = %(ok)s AND node.disk_problem = '' AND node.id <> ALL(%(exclude)s)
    AND (node.ssh <> '' OR NOT %(needs_host)s)
"""
IS_BIG_ENOUGH = "node.ram_mib >= %(ram_mib)s AND node.cores >= %(cores)s"
# Both, with what others may hold of them at most.
_LENDING = f"""
    SELECT id, ram_mib - %(ram_mib)s AS ram_mib, cores - %(cores)s AS cores FROM compute_node node
    WHERE {IS_LENDING} AND {IS_BIG_ENOUGH}
"""  # noqa: S608 - constants of this file

# A hop is a start to try, and the last step within its window that is too full: then nothing up to that step can be a
# start either, and the next one is at the first step after it that is not. Each step is read about once.
_HINDERED = """
    LEFT JOIN LATERAL (
        SELECT at FROM compute_loadstep
        WHERE node_id = {node}.id AND at <= {begin}.at ORDER BY at DESC LIMIT 1
    ) held ON true
    LEFT JOIN LATERAL (
        SELECT step.at FROM compute_loadstep step
        WHERE step.node_id = {node}.id AND step.at < {begin}.at + %(length)s
              AND step.at >= coalesce(held.at, {begin}.at)
              AND (step.ram_mib > {node}.ram_mib OR step.cores > {node}.cores)
        ORDER BY step.at DESC LIMIT 1
    ) hindered ON true
"""
_MINUTE = "date_trunc('minute', {at} + interval '59.999999 seconds')"
_NEXT_SLOT = f"""
    WITH RECURSIVE lending AS MATERIALIZED ({_LENDING}), hop AS (
        SELECT lending.id, lending.ram_mib, lending.cores, begin.at, hindered.at AS hindered
        FROM lending CROSS JOIN (SELECT {_MINUTE.format(at="%(start)s::timestamptz")} AS at) begin
        {_HINDERED.format(node="lending", begin="begin")}
        UNION ALL
        SELECT hop.id, hop.ram_mib, hop.cores, begin.at, hindered.at
        FROM hop CROSS JOIN LATERAL (
            SELECT {_MINUTE.format(at="step.at")} AS at FROM compute_loadstep step
            WHERE step.node_id = hop.id AND step.at > hop.hindered AND step.at <= %(horizon)s
                  AND step.ram_mib <= hop.ram_mib AND step.cores <= hop.cores
            ORDER BY step.at LIMIT 1
        ) begin
        {_HINDERED.format(node="hop", begin="begin")}
        WHERE hop.hindered IS NOT NULL
    )
    SELECT min(at) FROM hop WHERE hindered IS NULL
"""  # noqa: S608 - constants of this file

# Each step that is too full covers the hours from its own to its successor's; what its predecessor on the same node
# has covered already counts once. `full` goes up where a node becomes too full and down where it is not any more.
# Nodes that are never too full are left out first: to look for successors takes four times as long as to look.
# date_part, since extract would calculate with decimals.
_STEPS = """
    FROM compute_loadstep
    WHERE node_id = lending.id AND at < %(end)s AND at >= coalesce(held.at, %(begin)s)
"""
_TOO_FULL = "ram_mib > lending.ram_mib OR cores > lending.cores"
_WEEK = f"""
    WITH lending AS MATERIALIZED ({_LENDING}), step AS (
        SELECT lending.id, step.at, step.until, step.too_full FROM lending
        LEFT JOIN LATERAL (
            SELECT at FROM compute_loadstep
            WHERE node_id = lending.id AND at <= %(begin)s ORDER BY at DESC LIMIT 1
        ) held ON true
        CROSS JOIN LATERAL (SELECT 1 {_STEPS} AND ({_TOO_FULL}) LIMIT 1) ever
        CROSS JOIN LATERAL (
            SELECT at, lead(at) OVER (ORDER BY at) AS until, {_TOO_FULL} AS too_full {_STEPS}
        ) step
    ), hours AS (
        SELECT id, at,
               greatest(floor(date_part('epoch', at - %(begin)s) / 3600), 0)::int AS first,
               coalesce(ceil(date_part('epoch', until - %(begin)s) / 3600)::int - 1, %(hours)s - 1) AS last
        FROM step WHERE too_full
    ), fresh AS (
        SELECT greatest(first, lag(last, 1, -1) OVER (PARTITION BY id ORDER BY at) + 1) AS first, last FROM hours
    )
    SELECT hour, sum(change)::int FROM (
        SELECT first AS hour, 1 AS change FROM fresh WHERE first <= last
        UNION ALL SELECT last + 1, -1 FROM fresh WHERE first <= last
    ) edge GROUP BY hour ORDER BY hour
"""  # noqa: S608 - constants of this file
_HOW_MANY = f"SELECT count(*) FROM ({_LENDING}) lending"  # noqa: S608 - constants of this file


@dataclass(frozen=True, slots=True)
class Room:
    """How many nodes have room for something all through each hour, of `nodes` that could have it."""

    nodes: int
    fitting: list[int]


def next_slot(request: Request, exclude: Collection[int] = ()) -> datetime | None:
    """The earliest start ≥ the request's at which the same request would fit somewhere; None: never, as booked now.

    Rounded up to the full minute, since that is what a person can type.
    """
    values = values_of(request, exclude) | {"start": request.start, "length": request.end - request.start}
    with connection.cursor() as cursor:
        for horizon in HORIZONS:
            until = "infinity" if horizon is None else request.start + horizon
            cursor.execute(_NEXT_SLOT, values | {"horizon": until})
            if (found := cursor.fetchone()[0]) is not None:
                return found  # type: ignore[no-any-return]  # a row has no types
    return None


def week(request: Request, hours: int) -> Room:
    """Room for the request's RAM and cores in each of so many hours from its start on."""
    values = values_of(request, ()) | {"begin": request.start, "end": request.start + hours * HOUR, "hours": hours}
    with connection.cursor() as cursor:
        cursor.execute(_HOW_MANY, values)
        nodes: int = cursor.fetchone()[0]
        cursor.execute(_WEEK, values)
        changes: dict[int, int] = dict(cursor.fetchall())
    full = accumulate(changes.get(hour, 0) for hour in range(hours))
    return Room(nodes, [nodes - many for many in full])


def values_of(request: Request, exclude: Collection[int]) -> dict[str, Any]:
    """The values of IS_LENDING and IS_BIG_ENOUGH."""
    return {
        "ram_mib": request.ram_mib,
        "cores": Decimal(request.cores),
        "needs_host": request.needs_host,
        "exclude": list(exclude),
        "active": Node.State.ACTIVE,
        "ok": Node.Health.OK,
    }
