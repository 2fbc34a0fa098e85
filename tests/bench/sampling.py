"""A round of readings of 1,000 simulated nodes with 20 containers each; what rolls them up, and charts over two weeks.

The nodes are simulated by another process, which speaks the engine's API over unix sockets; a scratch database is
filled by SQL as rounds and roll-ups would have left it.
"""

import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.db import connection, connections
from django.utils import timezone

from tests.bench.ground import Ground
from tests.bench.place import scratch_database
from tests.bench.table import Outcome, Row, median, quantile

NODES, CONTAINERS = 1000, 20
ROUNDS = 4
ROUND_BOUND_S, CHART_BOUND_MS = 15.0, 100.0
GIVE_UP_S = 60.0  # of a round, so that one that is too long is told with its figure
CHARTS = 40
MINUTES_OF = timedelta(days=14)
HOURS_OF = timedelta(days=14)
CONTAINERS_WITH_MINUTES = 1000  # for two days; of all 20,000 it would be 58 million rows


def measure(ground: Ground) -> Outcome:
    rows: list[Row] = []
    notes: list[str] = []
    with scratch_database():
        rows += _rounds(notes)
        _empty()
        now = _fill(notes)
        rows += _roll_up(now, notes)
        rows += _charts(now)
    return Outcome("sampling", rows, notes)


# ---- rounds --------------------------------------------------------------------------------------------------


def _rounds(notes: list[str]) -> list[Row]:
    from compute import readings

    with tempfile.TemporaryDirectory(prefix="berth-") as folder, simulated_nodes(Path(folder)) as simulator:
        _make_nodes(Path(folder))
        took, cpu, wrote = [], [], []
        for number in range(ROUNDS):
            at = timezone.now().replace(microsecond=0) + timedelta(seconds=readings.EVERY_S * number)
            with _timed_writes() as writes:
                begun, begun_cpu = time.perf_counter(), time.process_time()
                read = _round(at)
                took.append(time.perf_counter() - begun)
                cpu.append(time.process_time() - begun_cpu)
            wrote.append(sum(writes))
            assert read == NODES, f"only {read} nodes were read"
        simulator_s = _cpu_s(simulator.pid)
    samples, containers = _count("compute_sample"), _count("compute_containersample")
    assert (samples, containers) == (NODES * ROUNDS, NODES * CONTAINERS * ROUNDS), (samples, containers)
    assert _count("compute_containersample WHERE memory_mib IS NULL") == 0
    usual, usual_cpu = median(took[1:]), median(cpu[1:])
    notes.append(
        f"rounds took {_seconds(took)} s, with {_seconds(cpu)} s of CPU here and {simulator_s / ROUNDS:.1f} s in the "
        f"simulator; the first one sets up {NODES} drivers and inspects everything"
    )
    what = f"a round of {NODES} nodes with {CONTAINERS} containers each"
    return [
        Row(what, usual, "s", ROUND_BOUND_S, f"{usual_cpu:.1f} s of CPU"),
        Row(f"{what}: the first", took[0], "s", ROUND_BOUND_S, f"{cpu[0]:.1f} s of CPU"),
        Row(f"writing its {NODES * (CONTAINERS + 1):,} rows, all parts", median(wrote[1:]), "s", None),
    ]


def _seconds(values: list[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in values)


def _round(at: datetime) -> int:
    """As the threads of a worker do it: a part each."""
    from compute import sampling

    round_at, parts = sampling.begin_round(at)
    read: list[int] = []

    def part(ids: list[int]) -> None:
        try:
            read.append(sampling.sample(ids, round_at, round_at, lasts_s=GIVE_UP_S))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=part, args=(ids,)) for ids in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(read)


@contextmanager
def simulated_nodes(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    # A socket for each, and one for each connection to it.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    command = [sys.executable, "-m", "tests.bench.simulated_nodes", str(folder), str(NODES), str(CONTAINERS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.terminate()


@contextmanager
def _timed_writes() -> Iterator[list[float]]:
    from compute import sampling

    took: list[float] = []
    write = sampling._write

    def timed(*arguments: Any) -> None:
        begun = time.perf_counter()
        write(*arguments)
        took.append(time.perf_counter() - begun)

    sampling._write = timed  # type: ignore[assignment]  # the same arguments
    try:
        yield took
    finally:
        sampling._write = write


def _make_nodes(folder: Path) -> None:
    from compute.models import Gateway, Node

    gateway = Gateway.objects.create(name="gateway", driver="direct", public_address="198.51.100.1")
    Node.objects.bulk_create(
        Node(
            name=f"node{number}",
            address="10.0.0.1",
            engine_url=f"unix://{folder}/{number}.sock",
            gateway=gateway,
            ram_mib=65_536,
            cores=32,
        )
        for number in range(NODES)
    )


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# ---- roll-ups and charts -------------------------------------------------------------------------------------

_NODE_VALUES = """
    cores, cores_used, memory_total_mib, memory_free_mib, load_1, load_5, load_15, volumes_size_mib, images_size_mib,
    containers_expected, containers"""
_NODE_READS = "32, 8 * random(), 65536, 30000 + 9000 * random(), 2, 2, 2, 1000000, 200000, 20, 20"
_RAW_OF_NODES = f"""
INSERT INTO compute_sample (node_id, at, reachable, engine_version, {_NODE_VALUES}, volumes_free_mib, images_free_mib)
SELECT node.id, at, true, '25.0.3', {_NODE_READS}, 500000, 100000
FROM generate_series(%s::timestamptz, %s::timestamptz - interval '1 second', interval '15 seconds') at,
     (SELECT id FROM compute_node ORDER BY id) node
"""  # noqa: S608 - constants of this file
_RAW_OF_CONTAINERS = """
INSERT INTO compute_containersample
    (container_id, at, running, cores_used, memory_mib, received_per_s, sent_per_s, cpu_s, received, sent)
SELECT container.id, at, true, random(), 50 + random(), 1000, 500, 100, 100000, 50000
FROM generate_series(%s::timestamptz, %s::timestamptz - interval '1 second', interval '15 seconds') at,
     (SELECT id FROM compute_observedcontainer ORDER BY id) container
"""
# Hour by hour and then by subject, as the roll-up leaves them.
_OF_NODES = """
INSERT INTO {table} (node_id, at, readings, reachable, {values}, volumes_free_least_mib, images_free_least_mib,
                     memory_free_least_mib, load_1_most, cores_used_most, uptime_least_s)
SELECT node.id, at, {readings}, {readings}, {reads}, 500000, 100000, 30000, 3, 9, 100000
FROM generate_series(%s::timestamptz, %s::timestamptz - interval '1 second', interval '1 hour') hour,
     (SELECT id FROM compute_node ORDER BY id) node,
     generate_series(hour, hour + interval '59 minutes', interval '{step}') at
"""
_OF_CONTAINERS = """
INSERT INTO {table} (container_id, at, readings, running, cores_used, cores_used_most, memory_mib, memory_most_mib,
                     received_per_s, sent_per_s)
SELECT container.id, at, {readings}, {readings}, random(), 1, 50, 60, 1000, 500
FROM generate_series(%s::timestamptz, %s::timestamptz - interval '1 second', interval '1 hour') hour,
     (SELECT id FROM compute_observedcontainer ORDER BY id LIMIT {many}) container,
     generate_series(hour, hour + interval '59 minutes', interval '{step}') at
"""


def _empty() -> None:
    """The rounds' readings go, nodes and containers stay."""
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE compute_sample, compute_containersample, compute_samplingmark")


def _fill(notes: list[str]) -> datetime:
    """Two weeks until 25 minutes after an hour, of which the last one is not rolled up yet; that moment."""
    from compute import partitions, rollups
    from compute.models import SamplingMark

    hour = rollups.floor_to_hour(timezone.now()) - timedelta(hours=1)
    now = hour + timedelta(minutes=85)
    begun = time.perf_counter()
    for day in range(16):
        partitions.ensure(now - timedelta(days=day))
    with connection.cursor() as cursor:
        cursor.execute(_RAW_OF_NODES, [hour, now])
        cursor.execute(_RAW_OF_CONTAINERS, [hour, now])
        for table, start, step, readings, many in (
            ("minute", hour - MINUTES_OF, "1 minute", 4, CONTAINERS_WITH_MINUTES),
            ("hour", hour - HOURS_OF, "1 hour", 240, NODES * CONTAINERS),
        ):
            named = {"step": step, "readings": readings, "many": many, "values": _NODE_VALUES, "reads": _NODE_READS}
            cursor.execute(_OF_NODES.format(table=f"compute_node{table}", **named), [start, hour])
            of_containers = max(start, hour - timedelta(days=2)) if table == "minute" else start
            cursor.execute(_OF_CONTAINERS.format(table=f"compute_container{table}", **named), [of_containers, hour])
        cursor.execute("VACUUM ANALYZE")
        cursor.execute("SELECT pg_database_size(current_database()) / 2^20")
        (size,) = cursor.fetchone()
    for kind in (rollups.NODES, rollups.CONTAINERS):
        SamplingMark.objects.create(name=kind.mark, at=hour)
    tables = ("sample", "containersample", "nodeminute", "containerminute", "nodehour", "containerhour")
    counted = ", ".join(f"{_count(f'compute_{table}'):,} {table}" for table in tables)
    notes.append(f"charts over rows: {counted}; {size:,.0f} MiB, filled in {time.perf_counter() - begun:.0f} s")
    return now


def _roll_up(now: datetime, notes: list[str]) -> list[Row]:
    from compute import rollups

    begun = time.perf_counter()
    done = rollups.roll_up(now)
    took = time.perf_counter() - begun
    assert done == 2, f"{done} hours were rolled up"
    return [Row(f"rolling up an hour of {NODES} nodes and {NODES * CONTAINERS:,} containers, once an hour", took, "s")]


def _charts(now: datetime) -> list[Row]:
    from compute import series
    from compute.models import Node, ObservedContainer

    nodes = list(Node.objects.all())
    kept = list(ObservedContainer.objects.order_by("pk").values_list("reservation_id", flat=True))
    some = random.Random(42)

    def of_node(span: timedelta) -> Callable[[], series.Series]:
        node = some.choice(nodes)
        return lambda: series.of_node(node, now - span, now, now=now)

    def of_reservation(span: timedelta) -> Callable[[], series.Series]:
        reservation = some.choice(kept[:CONTAINERS_WITH_MINUTES])
        return lambda: series.of_reservation(reservation or 0, now - span, now, now=now)

    rows = []
    for what, make in (("a node", of_node), ("a reservation", of_reservation)):
        for span, name in ((timedelta(hours=1), "1 h"), (timedelta(days=1), "24 h"), (timedelta(days=14), "14 d")):
            times = [_time_ms(make(span)) for _ in range(CHARTS)]
            shown = f"p50 {median(times):.1f}, most {max(times):.1f} ms"
            rows.append(Row(f"a chart of {what}, {name}: p95", quantile(times, 0.95), "ms", CHART_BOUND_MS, shown))
    everything = [_time_ms(lambda: series.latest_of_nodes(now)) for _ in range(5)]
    rows.append(Row(f"the newest reading of each of {NODES} nodes", median(everything), "ms", CHART_BOUND_MS))
    return rows


def _time_ms(call: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    found = call()
    took = (time.perf_counter() - begun) * 1000
    if hasattr(found, "values") and hasattr(found, "at"):
        filled = sum(value is not None for value in found.values["cores_used"])
        assert filled >= len(found.at) - 1, f"only {filled} of {len(found.at)} points"
    return took


def _count(what: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {what}")  # noqa: S608 - of this file
        return int(cursor.fetchone()[0])
