"""Choosing and recording a place among 1,000 nodes with 100,000 live allocations, in a scratch database.

The allocations are written by set-based SQL as months of booking would have left them: half of them hold now,
the others begin within 14 days, none lasts longer than 7 days, and no node ever lends more than it has.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal

from django.core.management import call_command
from django.db import connection, connections, transaction
from django.utils import timezone

from tests.bench.ground import Ground
from tests.bench.table import Outcome, Row, quantile

DATABASE = "berth_bench"
NODES, PER_NODE, GATEWAYS = 1000, 100, 20
PLACES, LONG_PLACES, FULL_PLACES, WARM_UP = 500, 100, 20, 20
BOUND_MS = 20.0
DAY = timedelta(days=1)

_FILL = f"""
SELECT setseed(0.42);
INSERT INTO compute_gateway (name, driver, public_address, private_subnet, ssh, port_first, port_last,
                             drift, drift_total, problem)
SELECT 'gateway' || g, 'direct', '198.51.100.' || g, '', '', 20000, 29999, 0, 0, ''
FROM generate_series(1, {GATEWAYS}) g;

INSERT INTO compute_node (name, address, engine_url, ssh, gateway_id, ram_mib, cores, state, health,
                          health_reason, failures, engine_version, runtime, guard_problem, disk_problem)
SELECT 'node' || n, '10.0.0.1', 'tcp://10.0.0.1:2376', '', (SELECT min(id) FROM compute_gateway) + n % {GATEWAYS},
       size.ram_mib, size.cores, 'active', 'ok', '', 0, '', '', '', ''
FROM generate_series(0, {NODES - 1}) n
JOIN (VALUES (0, 65536, 32), (1, 131072, 64), (2, 262144, 64), (3, 524288, 128)) AS size(kind, ram_mib, cores)
  ON size.kind = n % 4;

-- The first half holds now, the others begin later. No more than {PER_NODE} at once fit on every kind of node.
CREATE TEMPORARY TABLE plan AS
SELECT node.id AS node_id, node.gateway_id, k, node.n,
       (ARRAY[256, 256, 512, 512, 1024])[1 + floor(random() * 5)::int] * node.ram_mib / 131072 + 128 AS ram_mib,
       (ARRAY[0.25, 0.25, 0.5])[1 + floor(random() * 3)::int]::numeric * least(node.cores / 64, 1) AS cores,
       date_trunc('minute', now()) + CASE WHEN k < {PER_NODE // 2}
           THEN -length.value * random() * 0.98 ELSE random() * interval '14 days' END AS begins,
       length.value AS lasts
FROM (SELECT *, row_number() OVER (ORDER BY id) - 1 AS n FROM compute_node) node
CROSS JOIN generate_series(0, {PER_NODE - 1}) k
CROSS JOIN LATERAL (SELECT interval '15 minutes' * (1 + floor(power(random(), 3) * 671
                                                         + 0 * (node.n + k))) AS value
                   ) length;

INSERT INTO compute_allocation (node_id, ram_mib, cores, during, taken_at, released_at)
SELECT node_id, ram_mib, cores, tstzrange(begins, begins + lasts, '[)'),
       CASE WHEN begins <= now() THEN begins END, NULL
FROM plan;

INSERT INTO compute_forward (gateway_id, public_port, node_id, node_port, container_port, name, kind, during,
                             wanted, applied, cut, allowed_sources, released_at)
SELECT gateway_id, port, node_id, port, 80, 'web', 'http',
       tstzrange(begins, begins + lasts + interval '10 minutes', '[)'), begins <= now(), begins <= now(), false,
       '{{}}', NULL
FROM (SELECT *, 20000 + row_number() OVER (PARTITION BY gateway_id) - 1 AS port FROM plan) numbered;

INSERT INTO compute_loadstep (node_id, at, ram_mib, cores)
SELECT node_id, at, sum(sum(ram)) OVER line, sum(sum(core)) OVER line
FROM (SELECT node_id, lower(during) AS at, ram_mib AS ram, cores AS core FROM compute_allocation
      UNION ALL SELECT node_id, upper(during), -ram_mib, -cores FROM compute_allocation) edge
GROUP BY node_id, at WINDOW line AS (PARTITION BY node_id ORDER BY at);
"""  # noqa: S608 - constants of this file
_TOO_MUCH = """
SELECT count(*) FROM compute_loadstep step JOIN compute_node node ON node.id = step.node_id
WHERE step.ram_mib > node.ram_mib OR step.cores > node.cores
"""


def measure(ground: Ground) -> Outcome:
    with scratch_database():
        fill()
        steps = _scalar("SELECT count(*) FROM compute_loadstep")
        now = timezone.now()
        day = [now + timedelta(minutes=15) + DAY * i / PLACES for i in range(PLACES)]
        usual = _times(lambda start: _place(start, timedelta(hours=2)), day)
        long = _times(lambda start: _place(start, (7 if start.second % 2 else 14) * DAY), day[:: PLACES // LONG_PLACES])
        slots = _times(_next_slot, day[:: PLACES // FULL_PLACES])
    return Outcome(
        "place",
        [
            _row(
                f"placing among {NODES} nodes, {NODES * PER_NODE:,} live allocations: p99 of {PLACES}", usual, BOUND_MS
            ),
            _row(f"the same for 7 and 14 days: p99 of {LONG_PLACES}", long, None),
            _row(f"nothing fits: why, and when it would; p99 of {FULL_PLACES}", slots, None),
        ],
        [f"windows of 2 h that begin within a day from now; {steps:,} steps of load; {GATEWAYS} gateways"],
    )


def _row(what: str, times_ms: list[float], bound: float | None) -> Row:
    shown = ", ".join(f"{name} {quantile(times_ms, part):.1f}" for name, part in (("p50", 0.5), ("p95", 0.95)))
    return Row(what, quantile(times_ms, 0.99), "ms", bound, f"{shown} ms")


def _times(call: Callable[[datetime], None], starts: list[datetime]) -> list[float]:
    """Milliseconds of each call in a transaction of its own, committed, after some that are not counted."""
    times = []
    for number, start in enumerate([*starts[:WARM_UP], *starts]):
        begun = time.perf_counter()
        with transaction.atomic():
            call(start)
        if number >= WARM_UP:
            times.append((time.perf_counter() - begun) * 1000)
    return times


def _place(start: datetime, length: timedelta) -> None:
    from compute import capacity
    from compute.capacity import PortRequest
    from compute.scheduler import Request

    request = Request(512, Decimal("0.5"), start, start + length)
    capacity.place(request, [PortRequest("web", "http", 80)], rest=timedelta(minutes=10))


def _next_slot(start: datetime) -> None:
    """Ask for a whole node of the biggest kind, which is nowhere free."""
    from compute import capacity
    from compute.capacity import NoCapacity
    from compute.scheduler import Request

    request = Request(524_288, Decimal(128), start, start + timedelta(hours=2))
    try:
        capacity.place(request, [], rest=timedelta(minutes=10))
    except NoCapacity:
        return
    raise AssertionError("a whole node was free: the bench's database is not filled as it should be")


@contextmanager
def scratch_database() -> Iterator[None]:
    """Django's default connection leads to an empty migrated database, which is dropped afterwards."""
    name = connection.settings_dict["NAME"]
    _outside_transaction(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)", f"CREATE DATABASE {DATABASE}")
    try:
        _connect_to(DATABASE)
        call_command("migrate", verbosity=0)
        yield
    finally:
        _connect_to(name)
        _outside_transaction(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")


def _connect_to(name: str) -> None:
    connections.close_all()
    connection.settings_dict["NAME"] = name


def _outside_transaction(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def fill() -> None:
    with connection.cursor() as cursor:
        cursor.execute(_FILL)
        cursor.execute("VACUUM ANALYZE")  # as autovacuum leaves it
    too_much = _scalar(_TOO_MUCH)
    if too_much:
        raise AssertionError(f"{too_much} steps lend more than their node has: the bench is filled wrongly")


def _scalar(query: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(query)
        row = cursor.fetchone()
    return int(row[0])
