"""Tables that are partitioned by time: what is too old is dropped whole, which costs nothing.

PostgreSQL, Table Partitioning (postgresql.org/docs/15/ddl-partitioning.html).
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection, migrations, transaction

RAW_KEPT, MINUTES_KEPT, HOURS_KEPT = timedelta(days=2), timedelta(days=14), timedelta(days=366)
LOCK = 0x7061  # "pa": one process makes or drops partitions at a time


class CreatePartitioned(migrations.CreateModel):
    """CreateModel whose table is partitioned by ranges of `at`, which must be part of its primary key."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        model = to_state.apps.get_model(app_label, self.name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            sql, params = schema_editor.table_sql(model)
            schema_editor.execute(f'{sql} PARTITION BY RANGE ("at")', params or None)
            schema_editor.deferred_sql.extend(schema_editor._model_indexes_sql(model))


@dataclass(frozen=True, slots=True)
class Partitioned:
    """A partitioned table, how long its rows are kept, and whether a partition is a day or a month (UTC)."""

    table: str
    keep: timedelta
    monthly: bool = False

    def bounds(self, at: datetime) -> tuple[datetime, datetime]:
        """[from, to) of the partition that `at` is in."""
        first = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        if not self.monthly:
            return first, first + timedelta(days=1)
        first = first.replace(day=1)
        return first, (first + timedelta(days=32)).replace(day=1)

    def partition(self, at: datetime) -> str:
        first, _ = self.bounds(at)
        return f"{self.table}_p{first:%Y%m%d}"


TABLES = (
    Partitioned("compute_sample", RAW_KEPT),
    Partitioned("compute_containersample", RAW_KEPT),
    Partitioned("compute_nodeminute", MINUTES_KEPT),
    Partitioned("compute_containerminute", MINUTES_KEPT),
    Partitioned("compute_nodehour", HOURS_KEPT, monthly=True),
    Partitioned("compute_containerhour", HOURS_KEPT, monthly=True),
)


_there: set[tuple[str, str]] = set()  # (database, partition) that this process has seen


def ensure(at: datetime) -> None:
    """Partitions for `at` and the one after it, in every table; what is there stays. Costs nothing when known.

    A partition is made by itself and then attached, which locks out neither readers nor writers of its table; CREATE
    TABLE ... PARTITION OF would wait for all of them, and they for it.
    """
    database = str(connection.settings_dict["NAME"])
    wanted = {kind.partition(moment): (kind, moment) for kind in TABLES for moment in (at, kind.bounds(at)[1])}
    if all((database, name) in _there for name in wanted):
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        for name, (kind, moment) in wanted.items():
            cursor.execute("SELECT to_regclass(%s)", [name])
            if cursor.fetchone()[0] is None:
                first, last = kind.bounds(moment)
                cursor.execute(f"CREATE TABLE {name} (LIKE {kind.table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
                cursor.execute(
                    f"ALTER TABLE {kind.table} ATTACH PARTITION {name} FOR VALUES FROM (%s) TO (%s)", [first, last]
                )
    if not connection.in_atomic_block:  # else it may be rolled back yet
        _there.update((database, name) for name in wanted)


def drop_old(now: datetime) -> list[str]:
    """Drop the partitions whose every row is past its time; their names.

    Dropping needs the table for a moment. Whoever reads it for long is not waited for: the next round tries again.
    Raises OperationalError then, and what was dropped before stays dropped.
    """
    dropped: list[str] = []
    for kind in TABLES:
        for name in _too_old(kind, now):
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '2s'")
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
                cursor.execute(f"DROP TABLE IF EXISTS {name}")
            dropped.append(name)
    _there.difference_update({(database, name) for database, name in _there if name in dropped})
    return dropped


def _too_old(kind: Partitioned, now: datetime) -> list[str]:
    oldest = kind.partition(now - kind.keep)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = %s::regclass",
            [kind.table],
        )
        return sorted(name for (name,) in cursor.fetchall() if name < oldest)
