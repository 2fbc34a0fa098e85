"""The portal's rows as one snapshot, and the promises that the rows alone can break (4 to 7 and 10)."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import psycopg
from psycopg.rows import dict_row

Row = dict[str, Any]
LIVE = {"offered", "booked", "starting", "running", "stopped", "ending"}
FINAL = {"ended", "failed"}
MOVING = {"starting", "ending"}
OVERLOOKED = timedelta(seconds=30)  # a row that is due for longer than this was forgotten

_QUERIES = {
    "reservations": "SELECT * FROM reservations_reservation",
    "containers": """
        SELECT c.*, c.reservation_id, node.name AS node_name, allocation.taken_at, reservation.state
        FROM reservations_container c
        JOIN compute_node node ON node.id = c.node_id
        JOIN compute_allocation allocation ON allocation.id = c.allocation_id
        JOIN reservations_reservation reservation ON reservation.id = c.reservation_id
    """,
    "forwards": """
        SELECT f.*, lower(f.during) AS opens, upper(f.during) AS closes, host(gateway.public_address::inet) AS public,
               gateway.name AS gateway_name, node.address AS node_address, reservation.state, reservation.id AS owner
        FROM compute_forward f
        JOIN compute_gateway gateway ON gateway.id = f.gateway_id
        JOIN compute_node node ON node.id = f.node_id
        LEFT JOIN reservations_endpoint endpoint ON endpoint.forward_id = f.id
        LEFT JOIN reservations_reservation reservation ON reservation.id = endpoint.reservation_id
    """,
    "allocations": """
        SELECT a.*, lower(a.during) AS opens, upper(a.during) AS closes, node.name AS node_name,
               c.reservation_id, reservation.state
        FROM compute_allocation a JOIN compute_node node ON node.id = a.node_id
        LEFT JOIN reservations_container c ON c.allocation_id = a.id
        LEFT JOIN reservations_reservation reservation ON reservation.id = c.reservation_id
    """,
    "volumes": """
        SELECT v.*, node.name AS node_name FROM compute_volume v LEFT JOIN compute_node node ON node.id = v.node_id
    """,
    "nodes": "SELECT * FROM compute_node",
    "steps": "SELECT * FROM compute_loadstep",
    "gateways": "SELECT * FROM compute_gateway",
    "events": "SELECT * FROM reservations_event ORDER BY reservation_id, at, id",
    "usage": "SELECT *, lower(during) AS opens, upper(during) AS closes FROM reservations_usageperiod",
}


@dataclass(frozen=True)
class Rows:
    """Everything of one instant (one transaction)."""

    now: datetime
    tables: Mapping[str, list[Row]]

    def __getitem__(self, table: str) -> list[Row]:
        return self.tables[table]

    def reservation(self, number: int) -> Row:
        return next(row for row in self["reservations"] if row["id"] == number)


def read(database_url: str) -> Rows:
    with psycopg.connect(database_url, row_factory=dict_row) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        now = connection.execute("SELECT now() AS now").fetchone()
        assert now is not None
        return Rows(now["now"], {name: connection.execute(text).fetchall() for name, text in _QUERIES.items()})


def violations(rows: Rows) -> Iterator[str]:
    yield from _held_twice(rows)
    yield from _lent_too_much(rows)
    yield from _plan(rows)
    yield from _usage(rows)
    yield from _late(rows)
    yield from _histories(rows)


def _held_twice(rows: Rows) -> Iterator[str]:
    """Promise 4: no public port, node port or exclusive volume is held twice at one instant."""
    for name, key in (("public port", ("gateway_id", "public_port")), ("node port", ("node_id", "node_port"))):
        holders = defaultdict(list)
        for row in rows["forwards"]:
            holders[tuple(row[part] for part in key)].append((row["opens"], row["closes"], row["id"]))
        for port, windows in holders.items():
            windows.sort()
            for earlier, later in pairwise(windows):
                if later[0] < earlier[1]:
                    yield f"4: {name} {port} is held twice, by forwards {earlier[2]} and {later[2]}"
    users = defaultdict(list)
    for row in rows["reservations"]:
        if row["kept_volume_id"] and row["state"] in LIVE:
            users[row["kept_volume_id"]].append((row["start"], row["end"], row["id"]))
    for volume, windows in users.items():
        windows.sort()
        for earlier, later in pairwise(windows):
            if later[0] < earlier[1]:
                yield f"4: kept volume {volume} is held twice, by reservations {earlier[2]} and {later[2]}"


def _lent_too_much(rows: Rows) -> Iterator[str]:
    """Promise 5: at no instant does a node hold more than it lends; what is over has given its place back."""
    for node in rows["nodes"]:
        held = [row for row in rows["allocations"] if row["node_id"] == node["id"]]
        edges = []
        for row in held:
            # What had to wait for its predecessor holds its place since it took it, not since it should have.
            opens, closes = max(row["opens"], row["taken_at"] or row["opens"]), row["closes"]
            if row["released_at"] is None and row["taken_at"] is not None:
                closes = max(closes, rows.now)  # overdue: still there
            if row["released_at"] is not None:
                closes = min(closes, row["released_at"])
            if closes <= opens:
                continue  # given back before its time came
            edges += [(opens, 1, row["ram_mib"], row["cores"]), (closes, 0, -row["ram_mib"], -row["cores"])]
        ram = cores = 0
        for at, _, ram_change, cores_change in sorted(edges):
            ram, cores = ram + ram_change, cores + cores_change
            if ram > node["ram_mib"] or cores > node["cores"]:
                yield f"5: {node['name']} lends {node['ram_mib']} MiB, {node['cores']} cores; at {at}: {ram}, {cores}"
    for row in rows["allocations"]:
        if row["released_at"] is None and row["state"] in FINAL:
            yield f"5: allocation {row['id']} is held by reservation {row['reservation_id']}, which is over"


def _plan(rows: Rows) -> Iterator[str]:
    """Promise 5: what a node is planned to lend from now on is the sum of what is held of it.

    Else what is free is told wrong, and a place that the plan lacks cannot be given back.
    """
    for node in rows["nodes"]:
        if node["state"] == "removed":
            continue
        steps = sorted((s["at"], s["ram_mib"], s["cores"]) for s in rows["steps"] if s["node_id"] == node["id"])
        held = [a for a in rows["allocations"] if a["node_id"] == node["id"] and a["released_at"] is None]
        edges = {rows.now, *(at for at, _, _ in steps), *(edge for a in held for edge in (a["opens"], a["closes"]))}
        for instant in sorted(edge for edge in edges if edge >= rows.now):
            there = [a for a in held if a["opens"] <= instant < a["closes"]]
            planned = next(((ram, cores) for at, ram, cores in reversed(steps) if at <= instant), (0, 0))
            if planned != (sum(a["ram_mib"] for a in there), sum(a["cores"] for a in there)):
                yield f"5: the plan of {node['name']} is not the sum of its bookings"
                break


def _usage(rows: Rows) -> Iterator[str]:
    """Promise 6: periods lie in the booked window, never overlap, and are open exactly while it runs."""
    by_reservation = defaultdict(list)
    for row in rows["usage"]:
        by_reservation[row["reservation_id"]].append(row)
    for reservation in rows["reservations"]:
        number, periods = reservation["id"], by_reservation[reservation["id"]]
        periods.sort(key=lambda period: period["opens"])
        if any(p["opens"] < reservation["start"] for p in periods):
            yield f"6: reservation {number} is charged before its start"
        if any(p["closes"] is not None and p["closes"] > reservation["end"] for p in periods):
            yield f"6: reservation {number} is charged after its end"
        for earlier, later in pairwise(periods):
            if earlier["closes"] is None or later["opens"] < earlier["closes"]:
                yield f"6: reservation {number} is charged twice at {later['opens']}"
        still_open = sum(period["closes"] is None for period in periods)
        if still_open != (reservation["state"] == "running"):
            yield f"6: reservation {number} is {reservation['state']} and has {still_open} open usage periods"


def _late(rows: Rows) -> Iterator[str]:
    """Promise 7: every reservation is final or moving before its deadline."""
    for row in rows["reservations"]:
        if row["state"] in FINAL:
            if row["look_at"] is not None or row["ended_at"] is None:
                yield f"7: reservation {row['id']} is over but still to be looked at"
            continue
        if row["state"] in MOVING and row["deadline"] is None:
            yield f"7: reservation {row['id']} is {row['state']} without a deadline"
        if row["deadline"] is not None and row["deadline"] < rows.now:
            yield f"7: reservation {row['id']} is {row['state']} past its deadline {row['deadline']}: {row['reason']}"
        claimed = row["claim_expires_at"] is not None and row["claim_expires_at"] > rows.now
        if not claimed and (row["look_at"] is None or row["look_at"] < rows.now - OVERLOOKED):
            yield f"7: reservation {row['id']} is {row['state']} and nobody looks at it (due {row['look_at']})"


def _histories(rows: Rows) -> Iterator[str]:
    """Promise 10: one event for each transition; each begins where the one before ended."""
    histories = defaultdict(list)
    for row in rows["events"]:
        if row["new_state"]:
            histories[row["reservation_id"]].append((row["old_state"], row["new_state"]))
    for reservation in rows["reservations"]:
        state = ""
        for old, new in histories[reservation["id"]]:
            if old != state or old == new:
                yield f"10: reservation {reservation['id']} was {state or 'new'}, its next event is {old} → {new}"
            state = new
        if state != reservation["state"]:
            yield f"10: reservation {reservation['id']} is {reservation['state']}, its history ends with {state}"
