"""Readings over time, for charts: as fine as the span allows, up to the newest reading, a gap where there is none."""

import math
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection
from django.utils import timezone

from compute import rollups
from compute.models import ContainerSample, Node, ObservedContainer, Sample
from compute.partitions import MINUTES_KEPT, RAW_KEPT
from compute.readings import EVERY_S
from compute.rollups import CONTAINERS, NODES, Kind

RAW_S, MINUTE_S, HOUR_S = EVERY_S, 60, 3600
RAW_UP_TO, MINUTES_UP_TO = timedelta(hours=2), timedelta(days=2)
LATEST = timedelta(seconds=60)  # four readings: an older one says nothing of now

# Name in a chart → column of the minutes and hours, and what it is among the readings.
_OF_NODE = {name: (name, f"avg({name})::float8") for name in NODES.means} | {
    "volumes_size_mib": ("volumes_size_mib", "max(volumes_size_mib)"),
    "volumes_free_mib": ("volumes_free_least_mib", "min(volumes_free_mib)"),
    "images_size_mib": ("images_size_mib", "max(images_size_mib)"),
    "images_free_mib": ("images_free_least_mib", "min(images_free_mib)"),
}
_OF_CONTAINER = {name: (name, f"avg({name})") for name in CONTAINERS.means}


@dataclass(frozen=True, slots=True)
class Series:
    """`at` are unix seconds, every `step_s`; each list of `values` is as long, with None where nothing was read."""

    step_s: int
    at: list[int]
    values: dict[str, list[float | None]]


def of_node(node: Node, since: datetime, until: datetime, *, now: datetime | None = None) -> Series:
    """The node's readings in [since, until). `reachable` is the share of readings that its engine answered."""
    step_s = step_of(since, until, now or timezone.now())
    series = _empty(since, until, step_s, ["reachable", *_OF_NODE])
    lines = [series.values[name] for name in _OF_NODE]
    for _, at, readings, reachable, *values in _rows(NODES, _OF_NODE, [node.pk], series, now):
        place = (at - series.at[0]) // series.step_s
        series.values["reachable"][place] = reachable / readings
        for line, value in zip(lines, values):  # noqa: B905 - thousands of times, and as long as each other
            line[place] = value
    return series


def of_reservation(reservation_id: int, since: datetime, until: datetime, *, now: datetime | None = None) -> Series:
    """The readings of all that ran for the reservation: where two containers are seen at once, their sum.

    Of those that ran one after the other within a step each counts for its part of it. `running` is the share of the
    readings in which one ran.
    """
    ids = list(ObservedContainer.objects.filter(reservation_id=reservation_id).values_list("pk", flat=True))
    now = now or timezone.now()
    step_s = step_of(since, until, now)
    series = _empty(since, until, step_s, ["running", *_OF_CONTAINER])
    lines = [series.values[name] for name in _OF_CONTAINER]
    ran = series.values["running"]
    rows = _rows(CONTAINERS, _OF_CONTAINER, ids, series, now)
    rounds = _rounds(((at, running) for _, at, _, running, *_ in rows), step_s, now)
    for _, at, readings, running, *values in rows:
        place = (at - series.at[0]) // series.step_s
        ran[place] = max(ran[place] or 0.0, running / readings)
        for line, value in zip(lines, values):  # noqa: B905
            if value is not None:
                line[place] = value * running / rounds[at] + (line[place] or 0.0)
    return series


def _rounds(ran: Iterable[tuple[int, int]], step_s: int, now: datetime) -> dict[int, int]:
    """In how many readings of each step, by its begin, anything ran: all that there can be of it, if so many did."""
    every, most = Counter[int](), dict[int, int]()
    for at, running in ran:
        every[at] += running
        most[at] = max(most.get(at, 1), running)
    past = {at: math.ceil(min(now.timestamp() - at, step_s) / RAW_S) for at in every}
    return {at: max(min(count, past[at]), most[at]) for at, count in every.items()}


def latest_of_nodes(now: datetime) -> dict[int, Sample]:
    """The newest reading of each node, by its id; none that is older than a minute."""
    rows = Sample.objects.filter(at__gt=now - LATEST, at__lte=now).order_by("node_id", "-at").distinct("node_id")
    return {row.node_id: row for row in rows}


def latest_of_containers(ids: Collection[int], now: datetime) -> dict[int, ContainerSample]:
    """The newest reading of each of these ObservedContainers, by its id; none that is older than a minute."""
    rows = ContainerSample.objects.filter(container_id__in=ids, at__gt=now - LATEST, at__lte=now)
    return {row.container_id: row for row in rows.order_by("container_id", "-at").distinct("container_id")}


def step_of(since: datetime, until: datetime, now: datetime) -> int:
    """Seconds between two points: as fine as is kept that long, and not more than some thousand points."""
    if until - since <= RAW_UP_TO and since >= now - RAW_KEPT:
        return RAW_S
    if until - since <= MINUTES_UP_TO and since >= now - MINUTES_KEPT:
        return MINUTE_S
    return HOUR_S


def _empty(since: datetime, until: datetime, step_s: int, names: Iterable[str]) -> Series:
    first, last = int(since.timestamp()) // step_s * step_s, math.ceil(until.timestamp())
    at = list(range(first, last, step_s))
    return Series(step_s, at, {name: [None] * len(at) for name in names})


def _rows(
    kind: Kind, names: dict[str, tuple[str, str]], ids: list[int], series: Series, now: datetime | None
) -> list[tuple[Any, ...]]:
    """(subject, unix seconds, readings, of these reachable or running, values...) of each step that has any."""
    if not (ids and series.at):
        return []
    since, until = (datetime.fromtimestamp(s, UTC) for s in (series.at[0], series.at[-1] + series.step_s))
    table = {MINUTE_S: kind.minute, HOUR_S: kind.hour}.get(series.step_s)
    newer = since
    rows: list[tuple[Any, ...]] = []
    with connection.cursor() as cursor:
        if table:
            # Up to here there are rows by the minute and the hour; what is newer is taken from the readings.
            newer = min(max(since, rollups.rolled_until(kind, now or timezone.now())), until)
            columns = ", ".join(column for column, _ in names.values())
            query = f"""
                SELECT {kind.subject}, extract(epoch FROM at)::bigint, readings, {kind.weight}, {columns}
                FROM {table} WHERE {kind.subject} = ANY(%s) AND at >= %s AND at < %s
            """  # noqa: S608 - names of this program
            cursor.execute(query, [ids, since, newer])
            rows += cursor.fetchall()
        columns = ", ".join(raw for _, raw in names.values())
        query = f"""
            SELECT {kind.subject}, floor(extract(epoch FROM at) / %s)::bigint * %s AS step, count(*),
                   count(*) FILTER (WHERE {kind.weight}), {columns}
            FROM {kind.raw} WHERE {kind.subject} = ANY(%s) AND at >= %s AND at < %s GROUP BY 1, step
        """  # noqa: S608
        cursor.execute(query, [series.step_s, series.step_s, ids, newer, until])
        rows += cursor.fetchall()
    return rows
