"""Readings of all nodes and their containers, every 15 s (docs/adr/0010).

A round is claimed once, whoever's timetable begins it, and split into parts; a part asks its nodes from threads of its
own (compute.asking), then writes all rows at once. Their key is subject and round: what is done twice is there once.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.db.models import Q
from django.utils.module_loading import import_string

from compute import partitions, rollups
from compute.asking import NodeReading, Question, ask_all
from compute.models import Node, ObservedContainer, Sample, SamplingMark
from compute.observed import Seen, note
from compute.readings import EVERY_S, Usage, Vitals, per_second

logger = logging.getLogger(__name__)
PART = 250  # nodes; of a thousand, four of a worker's threads are busy with it
LATE = timedelta(seconds=60)  # what is so late is not written: the past is rolled up
GAP = timedelta(seconds=45)  # after which everything is inspected again, and counters are not compared


def begin_round(now: datetime) -> tuple[datetime, list[list[int]]]:
    """The round's time and its parts, as ids of nodes; no parts when the round was begun before.

    A last round that is well ahead was begun by a clock that was wrong, and is as none.
    """
    at = datetime.fromtimestamp(now.timestamp() // EVERY_S * EVERY_S, UTC)
    mark, first = SamplingMark.objects.get_or_create(pk=SamplingMark.Name.ROUND, defaults={"at": at})
    if first:
        rollups.begin(at)
    elif not SamplingMark.objects.filter(Q(at__lt=at) | Q(at__gt=at + LATE), pk=mark.pk).update(at=at):
        return at, []
    # In another order each time: where there are more than can be asked, nobody is always the last.
    ids = list(Node.objects.present().order_by("?").values_list("pk", flat=True))
    return at, [ids[start : start + PART] for start in range(0, len(ids), PART)]


def sample(node_ids: Sequence[int], at: datetime, now: datetime, *, lasts_s: float = 11.0) -> int:
    """Read these nodes for the round `at`, and write it down; how many were read within `lasts_s`."""
    if now - at >= LATE:
        logger.warning("the readings of %s come too late; left out", at)
        return 0
    partitions.ensure(at)
    # Who failed the last probe is asked last: whoever hangs holds up a thread.
    nodes = list(Node.objects.present().filter(pk__in=node_ids).order_by("failures", "?"))
    known = _known(nodes)
    before = _last_readings(nodes, at)
    questions = [_question(node, known[node.pk], before.get(node.pk), at) for node in nodes]
    readings = ask_all(questions, at, lasts_s=lasts_s)
    _write(readings, known, at)
    return len(readings)


def _known(nodes: Iterable[Node]) -> dict[int, dict[str, ObservedContainer]]:
    """The containers of each node that were there last time, by their engine's id."""
    known: dict[int, dict[str, ObservedContainer]] = {node.pk: {} for node in nodes}
    for row in ObservedContainer.objects.filter(node__in=known).exclude(state=ObservedContainer.State.GONE):
        known[row.node_id][row.engine_id] = row
    return known


def _question(node: Node, known: dict[str, ObservedContainer], last: Sample | None, at: datetime) -> Question:
    """What is looked at closely: whatever is not as it was, and everything when nobody looked for a while."""
    watched = last is not None and last.reachable and at - last.at <= GAP
    same = {row.engine_id: (row.state, row.health, row.exit_code) for row in known.values()} if watched else {}
    return Question(node, same)


def _last_readings(nodes: Iterable[Node], at: datetime) -> dict[int, Sample]:
    rows = Sample.objects.filter(node__in=[node.pk for node in nodes], at__gte=at - LATE, at__lt=at)
    return {row.node_id: row for row in rows.order_by("at")}


def _write(readings: list[NodeReading], known: dict[int, dict[str, ObservedContainer]], at: datetime) -> None:
    expected = import_string(settings.BERTH_EXPECTED_CONTAINERS_FUNCTION)([r.node_id for r in readings])
    seen = [
        Seen(reading.node_id, reading.listing, reading.details, reading.vitals.oom_kills, known[reading.node_id])
        for reading in readings
        if reading.listing
    ]
    ids = [row.pk for rows in known.values() for row in rows.values()]
    times = _reading_times([reading.node_id for reading in readings], at)
    counters = _last_counters(ids, at)
    with transaction.atomic():
        rows = note(seen, at)
        _insert_nodes([_node_row(r, times, expected, at) for r in sorted(readings, key=lambda r: r.node_id)])
        _insert_containers(_container_rows(readings, rows, times, counters, at))


# ---- rates, from the counters of the round before -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Times:
    """When a node was read: (seconds since 1970, its CPU counter) by (node, round)."""

    at: dict[tuple[int, datetime], tuple[float, float | None]]
    last: dict[int, datetime]

    def since(self, node_id: int, round_at: datetime, read_at: float) -> float:
        """Seconds between that round's reading and now; 0 when it is not known."""
        found = self.at.get((node_id, round_at))
        return read_at - found[0] if found else 0.0


def _reading_times(node_ids: list[int], at: datetime) -> _Times:
    rows = Sample.objects.filter(node__in=node_ids, at__gte=at - GAP, at__lt=at, reachable=True).order_by("at")
    found = {
        (node_id, when): (when.timestamp() + (late_s or 0.0), cpu_s)
        for node_id, when, late_s, cpu_s in rows.values_list("node_id", "at", "late_s", "cpu_s")
    }
    return _Times(found, dict(found.keys()))


def _last_counters(ids: list[int], at: datetime) -> dict[int, tuple[datetime, float | None, int | None, int | None]]:
    query = """
        SELECT DISTINCT ON (container_id) container_id, at, cpu_s, received, sent FROM compute_containersample
        WHERE container_id = ANY(%s) AND at >= %s AND at < %s AND cpu_s IS NOT NULL ORDER BY container_id, at DESC
    """
    with connection.cursor() as cursor:
        cursor.execute(query, [ids, at - GAP, at])
        return {container: (when, cpu_s, received, sent) for container, when, cpu_s, received, sent in cursor}


def _node_row(reading: NodeReading, times: _Times, expected: dict[int, int], at: datetime) -> tuple[Any, ...]:
    vitals = reading.vitals
    read_at = at.timestamp() + reading.late_s
    seconds, counter = 0.0, None
    if last := times.last.get(reading.node_id):
        seconds, counter = times.since(reading.node_id, last, read_at), times.at[reading.node_id, last][1]
    rebooted = vitals.uptime_s is not None and vitals.uptime_s < seconds
    return (
        reading.node_id,
        at,
        reading.listing is not None,
        round(reading.late_s, 3),
        reading.took_s,
        reading.listing.version if reading.listing else "",
        *_of_machine(vitals),
        per_second(counter, vitals.cpu_s, seconds, restarted=rebooted),
        expected.get(reading.node_id, 0),
        sum(one.running for one in reading.listing.containers) if reading.listing else None,
    )


_MACHINE = (
    "memory_total_mib",
    "memory_free_mib",
    "load_1",
    "load_5",
    "load_15",
    "cores",
    "cpu_s",
    "uptime_s",
    "volumes_size_mib",
    "volumes_free_mib",
    "images_size_mib",
    "images_free_mib",
)


def _of_machine(vitals: Vitals) -> list[float | None]:
    return [getattr(vitals, name) for name in _MACHINE]


def _container_rows(
    readings: list[NodeReading],
    rows: dict[tuple[int, str], ObservedContainer],
    times: _Times,
    counters: dict[int, tuple[datetime, float | None, int | None, int | None]],
    at: datetime,
) -> list[tuple[Any, ...]]:
    made = []
    for reading in readings:
        read_at = at.timestamp() + reading.late_s
        for one in reading.listing.containers if reading.listing else ():
            row = rows.get((reading.node_id, one.engine_id))
            if row is None:
                continue
            used = reading.usage.get(one.engine_id) or Usage()
            when, *old = counters.get(row.pk, (None, None, None, None))
            seconds = times.since(reading.node_id, when, read_at) if when else 0.0
            again = bool(when and row.started_at and row.started_at.timestamp() > read_at - seconds)
            new = (used.cpu_s, used.received, used.sent)
            rates = [per_second(b, a, seconds, restarted=again) for b, a in zip(old, new, strict=True)]
            made.append((row.pk, at, one.running, rates[0], used.memory_mib, rates[1], rates[2], *new))
    return sorted(made)


# ---- rows, many at once --------------------------------------------------------------------------------------

_NODE_COLUMNS = {
    "node_id": "bigint",
    "at": "timestamptz",
    "reachable": "boolean",
    "late_s": "float8",
    "took_s": "float8",
    "engine_version": "text",
    **dict.fromkeys(_MACHINE, "float8"),
    "cores_used": "float8",
    "containers_expected": "integer",
    "containers": "integer",
}
_CONTAINER_COLUMNS = {
    "container_id": "bigint",
    "at": "timestamptz",
    "running": "boolean",
    "cores_used": "float8",
    "memory_mib": "float8",
    "received_per_s": "float8",
    "sent_per_s": "float8",
    "cpu_s": "float8",
    "received": "bigint",
    "sent": "bigint",
}


def _insert_nodes(rows: list[tuple[Any, ...]]) -> None:
    _insert("compute_sample", _NODE_COLUMNS, rows)


def _insert_containers(rows: list[tuple[Any, ...]]) -> None:
    _insert("compute_containersample", _CONTAINER_COLUMNS, rows)


def _insert(table: str, columns: dict[str, str], rows: list[tuple[Any, ...]]) -> None:
    """In one statement; what is there already stays."""
    if not rows:
        return
    lists = ", ".join(f"%s::{kind}[]" for kind in columns.values())
    query = f"""
        INSERT INTO {table} ({", ".join(columns)}) SELECT * FROM unnest({lists}) ON CONFLICT DO NOTHING
    """  # noqa: S608 - names of this program
    with connection.cursor() as cursor:
        cursor.execute(query, [list(column) for column in zip(*rows, strict=True)])


def prune(now: datetime) -> None:
    """Drop what is past its time, and see that there is a place for what comes next."""
    partitions.ensure(now)
    try:
        partitions.drop_old(now)
    except OperationalError as problem:
        logger.warning("readings that are too old could not be dropped yet: %s", problem)
    gone = ObservedContainer.objects.filter(state=ObservedContainer.State.GONE)
    gone.filter(changed_at__lt=now - partitions.HOURS_KEPT).delete()
