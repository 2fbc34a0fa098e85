"""Tables that are partitioned by time: what is too old is dropped whole, which costs nothing.

PostgreSQL, Table Partitioning (postgresql.org/docs/15/ddl-partitioning.html).
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection, migrations, transaction

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
    Partitioned("compute_sample", timedelta(days=2)),
    Partitioned("compute_containersample", timedelta(days=2)),
    Partitioned("compute_nodeminute", timedelta(days=14)),
    Partitioned("compute_containerminute", timedelta(days=14)),
    Partitioned("compute_nodehour", timedelta(days=366), monthly=True),
    Partitioned("compute_containerhour", timedelta(days=366), monthly=True),
)


def ensure(at: datetime) -> None:
    """Partitions for `at` and the one after it, in every table; what is there stays."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        for kind in TABLES:
            for moment in (at, kind.bounds(at)[1]):
                first, last = kind.bounds(moment)
                name = kind.partition(moment)
                cursor.execute("SELECT to_regclass(%s)", [name])
                if cursor.fetchone()[0] is None:
                    cursor.execute(
                        f"CREATE TABLE {name} PARTITION OF {kind.table} FOR VALUES FROM (%s) TO (%s)", [first, last]
                    )


def drop_old(now: datetime) -> list[str]:
    """Drop the partitions whose every row is past its time; their names."""
    dropped = []
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        for kind in TABLES:
            oldest = kind.partition(now - kind.keep)
            cursor.execute(
                "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass", [kind.table]
            )
            dropped += [name for (name,) in cursor.fetchall() if name < oldest]
        for name in dropped:
            cursor.execute(f"DROP TABLE {name}")
    return dropped
