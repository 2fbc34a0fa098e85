"""A scrape of /metrics with 1,000 nodes that all have readings and 100,000 live allocations, in a scratch database."""

import time
from datetime import timedelta

from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.bench import place
from tests.bench.ground import Ground
from tests.bench.table import Outcome, Row, quantile

TIMES, WARM_UP = 30, 3
BOUND_MS = 1000.0  # Prometheus asks every 15 s, and gives up after 10


def measure(ground: Ground) -> Outcome:
    with place.scratch_database():
        place.fill()
        _give_readings()
        rows, note = _scrape()
    return Outcome("metrics", rows, [note])


def _scrape() -> tuple[list[Row], str]:
    from portal.metrics import page

    times, text = [], b""
    for number in range(WARM_UP + TIMES):
        begun = time.perf_counter()
        text = page.exposition()
        if number >= WARM_UP:
            times.append((time.perf_counter() - begun) * 1000)
    with CaptureQueriesContext(connection) as asked:
        page.exposition()
    in_sql = sum(float(query["time"]) for query in asked.captured_queries) * 1000
    shown = f"p50 {quantile(times, 0.5):.0f}, p95 {quantile(times, 0.95):.0f} ms"
    rows = [
        Row(f"a scrape with 1,000 nodes: p95 of {TIMES}", quantile(times, 0.95), "ms", BOUND_MS, shown),
        Row("its queries", len(asked), "", None, f"{in_sql:.0f} ms in them"),
    ]
    return rows, f"{len(text.splitlines()):,} lines, {len(text) // 1024} KiB, one process"


def _give_readings() -> None:
    from compute import partitions
    from compute.models import Node, Sample

    now = timezone.now() + timedelta(seconds=45)  # so that they are fresh until the end
    partitions.ensure(now)
    known = {field.name: 7 for field in Sample._meta.concrete_fields if field.null}
    Sample.objects.bulk_create(
        Sample(node=node, at=now - timedelta(seconds=15 * back), reachable=True, **known)
        for node in Node.objects.all()
        for back in range(8)
    )
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
