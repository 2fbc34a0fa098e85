"""What must hold after every step of the state machine, and what must hold once everything is healed.

Each check looks at the rows by plain SQL and at the machines' own memory; none calls the product's code.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

from django.db import connection

from compute.spec import LABEL_RESERVATION, Presence
from tests.unit.reservations.state_world import World

FUTURE = "-9000-main"  # in the name of a container that no row can know
FINAL = {"ended", "failed"}
MOVING = {"starting", "ending"}
TABLES = {
    "reservations": 'SELECT id, state, start, "end", ram_mib, generation, look_at, deadline, ended_at, claim_owner,'
    " claim_token, wish, reason, attempts, restart_asked_at FROM reservations_reservation",
    "containers": "SELECT c.id, c.reservation_id, c.generation, n.name AS node, c.gone_at, a.taken_at, a.released_at,"
    " a.ram_mib, a.cores, c.volume_id, upper(a.during) AS held_until, r.generation > c.generation AS old,"
    " 'berth-' || c.reservation_id || '-' || c.generation || '-main' AS machine_name"
    " FROM reservations_container c JOIN reservations_reservation r ON r.id = c.reservation_id"
    " JOIN compute_node n ON n.id = c.node_id JOIN compute_allocation a ON a.id = c.allocation_id",
    "forwards": "SELECT f.id, g.name AS gateway, f.public_port, n.name AS node, n.address, f.node_port, f.wanted,"
    " f.applied, f.released_at, e.reservation_id FROM compute_forward f JOIN compute_gateway g ON g.id = f.gateway_id"
    " JOIN compute_node n ON n.id = f.node_id LEFT JOIN reservations_endpoint e ON e.forward_id = f.id",
    "usage": "SELECT id, reservation_id, generation, lower(during) AS opens, upper(during) AS closes"
    " FROM reservations_usageperiod ORDER BY opens",
    "events": "SELECT reservation_id, old_state, new_state FROM reservations_event WHERE new_state <> '' ORDER BY id",
    "volumes": "SELECT v.id, v.kept, v.state, v.server_id, v.formatted_at, n.name AS node FROM compute_volume v"
    " LEFT JOIN compute_node n ON n.id = v.node_id",
}


class Held(NamedTuple):
    """A container row's place."""

    ram_mib: int
    cores: Any


class Row:
    """A row of one of the tables above; its columns are attributes."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


@dataclass
class Rows:
    """All rows at one instant."""

    tables: dict[str, list[Row]]

    def __getattr__(self, name: str) -> list[Row]:
        return self.tables[name]

    @classmethod
    def read(cls) -> "Rows":
        tables = {}
        with connection.cursor() as cursor:
            for name, text in TABLES.items():
                cursor.execute(text)
                columns = [column.name for column in cursor.description]
                tables[name] = [Row(dict(zip(columns, row, strict=True))) for row in cursor.fetchall()]
        return cls(tables)


def broken(world: World, rows: Rows, lent: dict[str, Held], kept: set[str]) -> Iterator[str]:
    """What must never be, not even for an instant or while machines and workers are dead."""
    yield from _histories(rows)
    yield from _usage(world, rows)
    yield from _moving(world, rows)
    yield from _lent(world, rows, lent)
    yield from _rules(world, rows)
    yield from _gone(world, rows)
    yield from _data(world, rows, kept)
    for call in world.calls_in_transactions:
        yield f"{call} was called inside a transaction"


def _histories(rows: Rows) -> Iterator[str]:
    states: dict[int, str] = defaultdict(str)
    for event in rows.events:
        if event.old_state != states[event.reservation_id] or event.old_state == event.new_state:
            was = states[event.reservation_id]
            yield f"10: {event.reservation_id} was {was}, next {event.old_state}→{event.new_state}"
        states[event.reservation_id] = event.new_state
    for row in rows.reservations:
        if states[row.id] != row.state:
            yield f"10: {row.id} is {row.state}, its history ends with {states[row.id]}"


def _usage(world: World, rows: Rows) -> Iterator[str]:
    periods: dict[int, list[Row]] = defaultdict(list)
    for period in rows.usage:
        periods[period.reservation_id].append(period)
    nodes = {(c.reservation_id, c.generation): c.node for c in rows.containers}
    for row in rows.reservations:
        mine = periods[row.id]
        if sum(period.closes is None for period in mine) != (row.state == "running"):
            yield f"6: {row.id} is {row.state} with open periods: {[p.closes for p in mine]}"
        for period in mine:
            if period.opens < row.start or (period.closes or period.opens) > row.end:
                yield f"6: {row.id} is charged outside its window: {period.opens}–{period.closes}"
            ups = world.ups.get(f"berth-{row.id}-{period.generation}-main", [])
            if not any(up.since <= period.opens <= (up.until or period.opens) for up in ups):
                yield f"6: {row.id} is charged from {period.opens}, when it did not run: {ups}"
            seen = world.answered_at[nodes[row.id, period.generation]]
            if period.generation < row.generation and period.closes and period.closes > seen:
                yield f"6: {row.id} is charged until {period.closes} on a node that was last seen {seen}"
        for earlier, later in pairwise(mine):
            if earlier.closes is None or later.opens < earlier.closes:
                yield f"6: {row.id} is charged twice at {later.opens}"


def _moving(world: World, rows: Rows) -> Iterator[str]:
    for row in rows.reservations:
        if row.state in FINAL:
            if row.look_at is not None or row.ended_at is None:
                yield f"7: {row.id} is over and still to be looked at"
        elif row.look_at is None or (row.state in {*MOVING, "offered"}) != (row.deadline is not None):
            yield f"7: {row.id} is {row.state}, look at {row.look_at}, deadline {row.deadline}"
        if row.reason.startswith("An internal error"):
            yield f"0: a look at {row.id} ended in an exception that nobody expected"
        if row.claim_token is not None and row.claim_owner not in world.dead_workers and not world.at_work:
            yield f"7: {row.id} is claimed by {row.claim_owner}, which is at leisure"


def _lent(world: World, rows: Rows, lent: dict[str, Held]) -> Iterator[str]:
    for name, node in lent.items():
        used = [c for c in rows.containers if c.node == name and c.taken_at and not c.released_at]
        if sum(c.ram_mib for c in used) > node.ram_mib or sum(c.cores for c in used) > node.cores:
            yield f"5: {name} has lent more than it has: {[(c.reservation_id, c.ram_mib) for c in used]}"
    sizes = {(c.node, c.machine_name): c.ram_mib for c in rows.containers}
    for name, engine in world.engines.items():
        running = [made for made, c in engine.containers.items() if c.presence == Presence.RUNNING]
        real = sum(sizes.get((name, made), 0) for made in running)
        if name in lent and real > lent[name].ram_mib:
            yield f"5: {name} really runs {real} MiB"


def _rules(world: World, rows: Rows) -> Iterator[str]:
    """Promises 2 and 4: a public port leads to the container of whoever has it, and to nobody else's."""
    owners = {(f.gateway, f.public_port): f.reservation_id for f in rows.forwards if f.released_at is None}
    # What moved to another gateway left these; the row tells that they are still to be cut, and the ports rest.
    to_be_cut = {
        (f.gateway, f.public_port) for f in rows.forwards if f.released_at and f.applied and f.reservation_id is None
    }
    for name, gateway in world.gateways.items():
        ports = [line.split("--dport ")[1].split()[0] for line in gateway.rules.nat]
        if len(ports) != len(set(ports)):
            yield f"4: {name} has a port twice: {gateway.rules.nat}"
        for line in gateway.rules.nat:
            public = int(line.split("--dport ")[1].split()[0])
            address, _, port = line.rsplit(" ", 1)[1].rpartition(":")
            owner = owners.get((name, public))
            if owner is None and (name, public) in to_be_cut:
                continue
            if owner is None:
                yield f"2: {name} forwards {public}, which nobody has"
            for engine in world.engines.values():
                for made, container in engine.containers.items():
                    leads = (address, int(port)) in container.ports and container.presence == Presence.RUNNING
                    if leads and container.labels.get(LABEL_RESERVATION) != str(owner):
                        yield f"8: {public} of reservation {owner} leads to {made}"


def _gone(world: World, rows: Rows) -> Iterator[str]:
    """Promises 1, 3 and 5: what is released or over was really gone before."""
    for row in rows.containers:
        name = row.machine_name
        there = name in world.engines[row.node].containers if row.node in world.engines else False
        if there and (row.gone_at is not None or row.taken_at is None):
            yield f"1: {name} is on {row.node}, but its row says gone {row.gone_at}, taken {row.taken_at}"
        if row.volume_id and row.gone_at and f"vol-{row.volume_id}" in world.volumes.disk(row.node).mounted:
            others = [c for c in rows.containers if c.volume_id == row.volume_id and c.node == row.node]
            if all(c.gone_at for c in others):
                yield f"3: vol-{row.volume_id} is mounted on {row.node}, but its container is gone"
    for row in rows.reservations:
        held = [c for c in rows.containers if c.reservation_id == row.id and c.released_at is None]
        if row.state in FINAL and held:
            yield f"5: {row.id} is {row.state} and holds {[c.id for c in held]}"


def _data(world: World, rows: Rows, kept: set[str]) -> Iterator[str]:
    """Promise 3: what is in a kept volume is there until its owner deletes it; no volume is made anew."""
    made = world.volumes.made
    if len(made) != len(set(made)):
        yield f"3: a volume was made anew over its data: {made}"
    for volume in rows.volumes:
        name = f"vol-{volume.id}"
        if volume.kept and volume.formatted_at and name in kept and name not in world.volumes.remote:
            yield f"3: the kept {name} is gone from the storage server"


def unsettled(world: World, rows: Rows, now: datetime) -> Iterator[str]:
    """What must hold when every machine answers again and the workers found nothing more to do."""
    for name in world.engines:
        if found := differs(world, rows, name):
            yield f"1: {name} differs: {found}"
        yield from volumes_differ(world, rows, name)
    for name in world.gateways:
        yield from rules_differ(world, rows, name)
    for row in rows.reservations:
        if row.claim_token is not None:
            yield f"7: {row.id} is still claimed"
        if row.state in FINAL:
            continue
        if row.look_at <= now or row.state in MOVING or (row.state == "booked" and row.start <= now):
            yield f"7: {row.id} does not come to rest: {row.state}, {row.reason}"
        if (row.state == "stopped") != (row.wish == "stop") and row.state in {"running", "stopped"}:
            yield f"7: {row.id} is {row.state}, the wish is {row.wish}"
        if row.restart_asked_at:
            yield f"7: {row.id} is {row.state}, and nobody restarts it"
        present = [c for c in rows.containers if c.reservation_id == row.id and not c.gone_at]
        if [c.generation for c in present] != [row.generation]:
            yield f"1: {row.id} of generation {row.generation} has {[(c.generation, c.node) for c in present]}"


def waiting(rows: Rows, number: int, now: datetime) -> Iterator[str]:
    """What must hold after a look that could not take it down: its place is kept from being planned for others."""
    ending = {row.id for row in rows.reservations if row.state == "ending" and row.attempts}
    for container in rows.containers:
        mine = container.reservation_id == number and number in ending and not container.gone_at
        if mine and container.held_until <= now:
            yield f"5: {container.machine_name} may be there, but its place is free from {container.held_until}"


def differs(world: World, rows: Rows, node: str) -> list[str]:
    """What of ours is on the node and should not be, or should run there and does not."""
    engine = world.engines[node]
    states = {row.id: row for row in rows.reservations}
    here = {c.machine_name: states[c.reservation_id] for c in rows.containers if c.node == node and not c.gone_at}
    old = [c.machine_name for c in rows.containers if c.node == node and not c.gone_at and c.old]
    ours = {name for name, container in engine.containers.items() if LABEL_RESERVATION in container.labels}
    traces = {name for name in ours | engine.networks | engine.volumes if FUTURE not in name}
    runs = {name for name in ours if engine.containers[name].presence == Presence.RUNNING and FUTURE not in name}
    should = {name for name, row in here.items() if row.state == "running"} - set(old)
    must_not = {name for name, row in here.items() if row.state in {"offered", "booked", "stopped"}}
    return sorted(traces - set(here)) + sorted(old) + sorted(should - runs) + sorted(must_not & runs)


def rules_differ(world: World, rows: Rows, name: str) -> Iterator[str]:
    gateway = world.gateways[name]
    serving = {row.id for row in rows.reservations if row.state == "running"}
    over = {row.id for row in rows.reservations if row.state in FINAL}
    found = {line.split("--dport ")[1] for line in gateway.rules.nat} if gateway.jumps else set()
    mine = [f for f in rows.forwards if f.gateway == name]
    wanted = {f"{f.public_port} -j DNAT --to-destination {f.address}:{f.node_port}" for f in mine if f.wanted}
    if found != wanted:
        yield f"2: {name} forwards {found}, wanted {wanted}"
    for forward in mine:
        if forward.wanted != forward.applied:
            yield f"2: {forward.public_port} is wanted {forward.wanted}, applied {forward.applied}"
        if forward.reservation_id in serving and not forward.wanted:
            yield f"2: {forward.reservation_id} runs, but its port {forward.public_port} is not wanted"
        if forward.wanted and forward.reservation_id in over:
            yield f"2: {forward.reservation_id} is over, but its port {forward.public_port} is wanted"


def volumes_differ(world: World, rows: Rows, node: str) -> Iterator[str]:
    disk = world.volumes.disk(node)
    attached = {f"vol-{c.volume_id}" for c in rows.containers if c.node == node and not c.gone_at and c.taken_at}
    if disk.mounted - attached:
        yield f"3: mounted on {node} for nobody: {disk.mounted - attached}"
    alive = {f"vol-{v.id}" for v in rows.volumes if v.state not in {"removing", "removed"}}
    if (set(disk.images) | set(world.volumes.remote)) - alive:
        yield f"3: images of removed volumes: {(set(disk.images) | set(world.volumes.remote)) - alive}"


def left_over(rows: Rows) -> Iterator[str]:
    """What must hold when every window is over as well."""
    for row in rows.reservations:
        if row.state not in FINAL:
            yield f"7: {row.id} is {row.state} after its end: {row.reason}"
    for container in rows.containers:
        if container.gone_at is None or container.released_at is None:
            yield f"5: {container.reservation_id}/{container.generation} is still held"
    for forward in rows.forwards:
        if forward.wanted or forward.released_at is None:
            yield f"2: port {forward.public_port} is still held"
    for volume in rows.volumes:
        if not volume.kept and volume.state != "removed":
            yield f"3: vol-{volume.id} is still {volume.state}"
