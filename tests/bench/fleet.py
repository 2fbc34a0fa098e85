"""The fleet page over 1,000 nodes with 20 containers each, and the list of those containers, in a scratch database.

Beside what holds now there are a million allocations that are past: neither page may read them.
"""

import time
from collections.abc import Callable
from typing import Any

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.bench.ground import Ground
from tests.bench.place import scratch_database
from tests.bench.table import Outcome, Row, quantile

NODES, PER_NODE, PAST, GATEWAYS = 1000, 20, 1_000_000, 20
TIMES, WARM_UP = 30, 3
BOUND_MS = 150.0

_FILL = f"""
INSERT INTO compute_gateway (name, driver, public_address, private_subnet, ssh, port_first, port_last,
                             drift, drift_total, problem)
SELECT 'gateway' || g, 'direct', '198.51.100.' || g, '', '', 20000, 29999, 0, 0, ''
FROM generate_series(1, {GATEWAYS}) g;

INSERT INTO compute_node (name, address, engine_url, ssh, gateway_id, ram_mib, cores, state, health, health_reason,
                          failures, engine_version, runtime, guard_problem, disk_problem, last_seen_at)
SELECT 'node' || n, '10.0.0.1', 'tcp://10.0.0.1:2376', '', (SELECT min(id) FROM compute_gateway) + n % {GATEWAYS},
       131072, 64, 'active', CASE WHEN n % 97 = 5 THEN 'unknown' ELSE 'ok' END, '', 0, '26.1', '', '', '', now()
FROM generate_series(0, {NODES - 1}) n;

INSERT INTO compute_allocation (node_id, ram_mib, cores, during, taken_at, released_at)
SELECT (SELECT min(id) FROM compute_node) + k % {NODES}, 512, 0.5,
       tstzrange(now() - interval '400 days' + k * interval '30 seconds',
                 now() - interval '399 days' + k * interval '30 seconds', '[)'), now(), now() - interval '1 day'
FROM generate_series(1, {PAST}) k;

INSERT INTO compute_allocation (node_id, ram_mib, cores, during, taken_at, released_at)
SELECT node.id, 2048, 1, tstzrange(now() - interval '1 hour', now() + interval '1 day', '[)'), now(), NULL
FROM compute_node node CROSS JOIN generate_series(1, {PER_NODE}) k;

INSERT INTO compute_loadstep (node_id, at, ram_mib, cores)
SELECT id, now() - interval '1 hour', {PER_NODE} * 2048, {PER_NODE} FROM compute_node
UNION ALL SELECT id, now() + interval '1 day', 0, 0 FROM compute_node;

INSERT INTO compute_forward (gateway_id, public_port, node_id, node_port, container_port, name, kind, during,
                             wanted, applied, cut, released_at)
SELECT gateway_id, port, id, port, 80, 'web', 'http', tstzrange(now(), now() + interval '1 day', '[)'), true, true,
       false, NULL
FROM (SELECT node.*, 20000 + row_number() OVER (PARTITION BY gateway_id) AS port
      FROM compute_node node CROSS JOIN generate_series(1, 5) k) numbered;

INSERT INTO compute_observedcontainer (node_id, name, engine_id, reservation_id, state, health, out_of_memory,
                                       oom_kills, oom_counter, restarts, memory_limit_mib, started_at, first_seen_at,
                                       changed_at)
SELECT node.id, 'berth-' || row_number() OVER () || '-1-main', md5(node.id || '-' || k), NULL, 'running', '', false,
       0, 0, 0, 2048, now(), now(), now()
FROM compute_node node CROSS JOIN generate_series(1, {PER_NODE}) k;

-- An hour of readings of every node, and the last two minutes of every container.
INSERT INTO compute_sample (node_id, at, reachable, engine_version, memory_total_mib, memory_free_mib, load_1, load_5,
                            load_15, cores, cores_used, uptime_s, volumes_size_mib, volumes_free_mib, images_size_mib,
                            images_free_mib, containers_expected, containers)
SELECT node.id, now() - k * interval '15 seconds', true, '26.1', 140000, 90000, 3.5, 3, 2, 64, 12.5, 100000, 900000,
       500000, 100000, 40000, {PER_NODE}, {PER_NODE}
FROM compute_node node CROSS JOIN generate_series(0, 240) k;

INSERT INTO compute_containersample (container_id, at, running, cores_used, memory_mib, received_per_s, sent_per_s)
SELECT container.id, now() - k * interval '15 seconds', true, 0.1, 200, 1000, 1000
FROM compute_observedcontainer container CROSS JOIN generate_series(0, 8) k;
"""  # noqa: S608 - constants of this file


def measure(ground: Ground) -> Outcome:
    with scratch_database():
        _fill()
        client = _staff()
        rows, notes = [], []
        for what, path, bound in (
            (f"the fleet page of {NODES} nodes with {PER_NODE} containers", "/monitor/", BOUND_MS),
            ("the same, its last page, sorted by what is used", "/monitor/?sort=used&page=10", BOUND_MS),
            (f"the list of the {NODES * PER_NODE:,} containers", "/monitor/containers/", None),
            ("one node's page", "/monitor/nodes/node7/", None),
            ("the figures of its charts, an hour", "/monitor/nodes/node7/series?span=1h", None),
        ):
            _freshen()
            times, queries, size = _times(client, path)
            shown = f"p50 {quantile(times, 0.5):.0f}, p95 {quantile(times, 0.95):.0f} ms"
            rows.append(Row(f"{what}: p95 of {TIMES}", quantile(times, 0.95), "ms", bound, shown))
            notes.append(f"{path}: {queries} queries, {size // 1024} KiB")
        notes.append(f"beside {PAST:,} allocations that are past; in the process of the bench, without a web server")
    return Outcome("fleet", rows, notes)


def _fill() -> None:
    from compute import partitions

    partitions.ensure(timezone.now())
    with connection.cursor() as cursor:
        cursor.execute(_FILL)
        cursor.execute("VACUUM ANALYZE")  # as autovacuum leaves it


def _freshen() -> None:
    """What was read is read just now, however long the measuring takes."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE compute_sample SET at = at + (now() - (SELECT max(at) FROM compute_sample))")
        cursor.execute("VACUUM ANALYZE compute_sample")


def _staff() -> Client:
    from django.conf import settings

    from accounts.models import User

    # A log-in of a page has its own cost; these pages ask for staff, and this is one.
    settings.SECURE_SSL_REDIRECT = False
    settings.ALLOWED_HOSTS = ["*"]
    person = User.objects.create_user("bench", "bench@example.org", "x", is_staff=True, is_superuser=True)
    client = Client()
    client.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
    return client


def _times(client: Client, path: str) -> tuple[list[float], int, int]:
    """Milliseconds of each answer, how many queries one takes, and how large it is."""

    def get() -> Any:
        answer = client.get(path)
        if answer.status_code != 200:
            raise AssertionError(f"{path}: {answer.status_code}")
        return answer

    for _ in range(WARM_UP):
        get()
    with CaptureQueriesContext(connection) as asked:
        size = len(get().content)
    queries = len(asked)
    return [_ms(get) for _ in range(TIMES)], queries, size


def _ms(call: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    call()
    return (time.perf_counter() - begun) * 1000
