"""Readings become rows by the minute and by the hour, in SQL.

An hour is rolled up once it is over and nothing of it can come late (compute.sampling.LATE). All of it goes in at once,
in the order of subject and time, so that a chart of one subject reads few pages. Doing an hour again gives the same
rows. What is not rolled up yet a chart takes from the readings themselves (compute.series).
"""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db import connection, transaction

from compute import partitions
from compute.models import SamplingMark
from compute.partitions import RAW_KEPT

logger = logging.getLogger(__name__)
HOUR = timedelta(hours=1)
SETTLED_AFTER = timedelta(minutes=2)  # nothing is written of a round that is so old
HOURS_AT_ONCE = 6  # after a long rest; the next round goes on


@dataclass(frozen=True, slots=True)
class Kind:
    """Which tables hold the readings of one kind of subject, and how each column is made of them.

    `weight` counts the readings that could have a value: an hour's mean is that of its minutes, weighted by it.
    """

    mark: SamplingMark.Name
    subject: str
    raw: str
    minute: str
    hour: str
    weight: str
    means: dict[str, str]  # column → column of the raw table
    most: dict[str, str]
    least: dict[str, str]

    @property
    def columns(self) -> list[str]:
        return [self.subject, "at", "readings", self.weight, *self.means, *self.most, *self.least]


NODES = Kind(
    mark=SamplingMark.Name.NODES,
    subject="node_id",
    raw="compute_sample",
    minute="compute_nodeminute",
    hour="compute_nodehour",
    weight="reachable",
    means={
        name: name
        for name in (
            "memory_total_mib",
            "memory_free_mib",
            "load_1",
            "load_5",
            "load_15",
            "cores",
            "cores_used",
            "containers_expected",
            "containers",
        )
    },
    most={
        "load_1_most": "load_1",
        "cores_used_most": "cores_used",
        "volumes_size_mib": "volumes_size_mib",
        "images_size_mib": "images_size_mib",
    },
    least={
        "memory_free_least_mib": "memory_free_mib",
        "uptime_least_s": "uptime_s",
        "volumes_free_least_mib": "volumes_free_mib",
        "images_free_least_mib": "images_free_mib",
    },
)
CONTAINERS = Kind(
    mark=SamplingMark.Name.CONTAINERS,
    subject="container_id",
    raw="compute_containersample",
    minute="compute_containerminute",
    hour="compute_containerhour",
    weight="running",
    means={name: name for name in ("cores_used", "memory_mib", "received_per_s", "sent_per_s")},
    most={"cores_used_most": "cores_used", "memory_most_mib": "memory_mib"},
    least={},
)


def roll_up(now: datetime) -> int:
    """Roll up every hour that is over; how many. Two at once share the work: who comes second leaves it."""
    return sum(_roll_up_kind(kind, now) for kind in (NODES, CONTAINERS))


def _roll_up_kind(kind: Kind, now: datetime) -> int:
    done = 0
    while done < HOURS_AT_ONCE and _next_hour(kind, now):
        done += 1
    return done


def _next_hour(kind: Kind, now: datetime) -> bool:
    """The hour after what is rolled up, if it is over; its rows and how far it is are one transaction."""
    begin(now - RAW_KEPT)  # the mark is there from now on
    with transaction.atomic():
        mark = SamplingMark.objects.select_for_update(skip_locked=True).filter(pk=kind.mark).first()
        if mark and mark.at > now:  # by a clock that was ahead: what it passed over is done again
            mark.at = floor_to_hour(now - RAW_KEPT)
        if mark is None or mark.at + HOUR + SETTLED_AFTER > now:
            return False
        start = max(mark.at, floor_to_hour(now - RAW_KEPT))  # of what is older there are no readings any more
        if start + HOUR + SETTLED_AFTER <= now:
            partitions.ensure(start)
            roll(kind, start, start + HOUR)
            mark.at = start + HOUR
        mark.save(update_fields=["at"])
    logger.info("%s are rolled up until %s", kind.mark, mark.at)
    return True


def rolled_until(kind: Kind, now: datetime) -> datetime:
    """Up to here the minutes and hours are there; before the first roll-up: where the readings begin."""
    mark = SamplingMark.objects.filter(pk=kind.mark).first()
    return mark.at if mark else floor_to_hour(now - RAW_KEPT)


def begin(at: datetime) -> None:
    """The first reading of all is of this moment: there is nothing before it to roll up."""
    SamplingMark.objects.bulk_create(
        [SamplingMark(name=kind.mark, at=floor_to_hour(at)) for kind in (NODES, CONTAINERS)], ignore_conflicts=True
    )


def roll(kind: Kind, start: datetime, end: datetime) -> None:
    """The minutes and hours of [start, end), which are whole hours. Again is the same: what is there is replaced."""
    with connection.cursor() as cursor:
        cursor.execute(minutes_sql(kind), [start, end])
        cursor.execute(hours_sql(kind), [start, end])


def minutes_sql(kind: Kind) -> str:
    means = [f"avg({source})" for source in kind.means.values()]
    return _insert(kind, kind.minute, _from_raw(kind, "date_trunc('minute', at, 'UTC')", means), kind.raw)


def hours_sql(kind: Kind) -> str:
    def mean(column: str) -> str:
        weight = "readings" if column == "containers_expected" else kind.weight  # that one is known of silent ones, too
        return f"sum({column} * {weight}) / nullif(sum({weight}) FILTER (WHERE {column} IS NOT NULL), 0)"

    columns = [kind.subject, "date_trunc('hour', at, 'UTC')", "sum(readings)", f"sum({kind.weight})"]
    columns += [mean(name) for name in kind.means]
    columns += [f"max({name})" for name in kind.most]
    columns += [f"min({name})" for name in kind.least]
    return _insert(kind, kind.hour, columns, kind.minute)


def _from_raw(kind: Kind, bucket: str, means: list[str]) -> list[str]:
    columns = [kind.subject, bucket, "count(*)", f"count(*) FILTER (WHERE {kind.weight})", *means]
    columns += [f"max({source})" for source in kind.most.values()]
    return columns + [f"min({source})" for source in kind.least.values()]


def _insert(kind: Kind, into: str, columns: list[str], source: str) -> str:
    replaced = ", ".join(f"{name} = excluded.{name}" for name in kind.columns[2:])
    return (
        f"INSERT INTO {into} ({', '.join(kind.columns)})\n"
        f"SELECT {', '.join(columns)}\nFROM {source} WHERE at >= %s AND at < %s GROUP BY 1, 2 ORDER BY 1, 2\n"
        f"ON CONFLICT ({kind.subject}, at) DO UPDATE SET {replaced}"
    )


def floor_to_hour(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
