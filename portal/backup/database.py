"""The database's part: pg_dump and pg_restore, and what a database holds.

Both programs get the connection, password included, by libpq's environment variables and never on the command line.
"""

import hashlib
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from django.core.management import call_command
from django.db import connection, transaction
from django.db.migrations.loader import MigrationLoader
from django.utils import timezone
from psycopg import pq

from compute import partitions
from portal.backup.manifest import DATABASE, Manifest, StoredFile

_PART = 2**20
# What migrations and the start put there by themselves.
SEEDED = frozenset({"django_migrations", "django_content_type", "auth_permission"})
# Raw and by the minute they would be over within two weeks, and are by far the most rows; by the hour they are kept.
NOT_KEPT = tuple(kind.table for kind in partitions.TABLES if not kind.monthly)


class DatabaseProblem(Exception):
    """The database cannot be dumped or restored; the message says why."""


# ---- dumping ------------------------------------------------------------------------------------------------


@contextmanager
def snapshot() -> Iterator[str]:
    """The name of a state of the database: what is read inside is what a dump with this name has."""
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursor.execute("SELECT pg_export_snapshot()")
        yield cursor.fetchone()[0]


def dump(folder: Path, name_of_snapshot: str, progress: Callable[[int], None]) -> StoredFile:
    """Write the database into the folder. Raises DatabaseProblem, or OSError when it cannot be written."""
    not_kept = [f"--exclude-table-data={table}_p*" for table in NOT_KEPT]
    argv = ["pg_dump", "--format=custom", "--no-owner", "--no-acl", f"--snapshot={name_of_snapshot}", *not_kept]
    digest, size = hashlib.sha256(), 0
    with open(folder / DATABASE, "wb") as file, _start([*argv, "--lock-wait-timeout=60s"]) as program:
        try:
            while program.stdout and (part := program.stdout.read(_PART)):
                file.write(part)
                digest.update(part)
                size += len(part)
                progress(size)
        except BaseException:
            program.kill()
            raise
        said = program.stderr.read().decode(errors="replace") if program.stderr else ""
        if program.wait():
            raise DatabaseProblem(f"pg_dump failed: {_last_line(said)}")
        file.flush()
        os.fsync(file.fileno())
    return StoredFile(DATABASE, size, digest.hexdigest())


def row_counts() -> dict[str, int]:
    """Of every table whose rows a backup has; a partitioned table is one."""
    with connection.cursor() as cursor:
        counts = {}
        for table in sorted(set(_tables(cursor).get("public", ())) - set(NOT_KEPT)):
            cursor.execute(f"SELECT count(*) FROM {connection.ops.quote_name(table)}")  # noqa: S608
            counts[table] = cursor.fetchone()[0]
    return counts


def applied_migrations() -> list[str]:
    return sorted(f"{app}.{name}" for app, name in MigrationLoader(connection).applied_migrations)


def size_in_bytes() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_database_size(current_database())")
        size: int = cursor.fetchone()[0]
    return size


# ---- the programs -------------------------------------------------------------------------------------------


def server_version() -> int:
    """The major version of PostgreSQL's server."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version_num")
        return int(cursor.fetchone()[0]) // 10_000


def check_program(name: str, least: int) -> None:
    """Raises DatabaseProblem when `name` is not installed, or older than the server's or the dump's version."""
    try:
        done = subprocess.run([name, "--version"], capture_output=True, text=True, timeout=20, check=False)
    except OSError:
        raise DatabaseProblem(
            f"{name} is not installed: it comes with PostgreSQL's client programs (Debian: postgresql-client)."
        ) from None
    found = re.search(r"\(PostgreSQL\) (\d+)", done.stdout)
    if found is None or int(found[1]) < least:
        what = found[1] if found else f"of an unknown version ({_last_line(done.stderr or done.stdout)})"
        raise DatabaseProblem(f"{name} is {what}, and PostgreSQL {least} is needed: install its client programs.")


def environment() -> dict[str, str]:
    """The environment in which libpq connects as Django does."""
    named = {option.keyword.decode(): option.envvar.decode() for option in pq.Conninfo.get_defaults() if option.envvar}
    wanted = connection.get_connection_params()
    values = {named[key]: str(value) for key, value in wanted.items() if key in named and value is not None}
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "BERTH_", "SECRET_KEY"))}
    return kept | values


def _start(argv: list[str]) -> "subprocess.Popen[bytes]":
    pipe = subprocess.PIPE
    try:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=environment())
    except OSError as problem:
        raise DatabaseProblem(f"{argv[0]} cannot be started: {problem.strerror}.") from None


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it gave no reason"


# ---- restoring ----------------------------------------------------------------------------------------------


def why_not_empty() -> str:
    """Why nothing may be restored into this database; "" when it is empty, or has what `migrate` puts there."""
    known = {*connection.introspection.django_table_names(), "django_migrations"}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        if others := cursor.fetchone()[0]:
            return f"{others} other connections to it are open: stop web, worker, beat and live first."
        tables = _tables(cursor)
        foreign = [f"{schema}.{name}" for schema, names in tables.items() for name in names if name not in known]
        if foreign:
            return f"it has tables that are not Berth's, such as {foreign[0]}."
        if things := _other_things(cursor):
            return f"it has what is not Berth's, such as the {things[0]}."
        full = []
        for name in sorted(tables.get("public", set()) - SEEDED):
            cursor.execute(f"SELECT 1 FROM {connection.ops.quote_name(name)} LIMIT 1")  # noqa: S608
            full += [name] * bool(cursor.fetchone())
    return f"it is not empty: there are rows in {', '.join(full[:5])}{' and more' * (len(full) > 5)}." if full else ""


def why_not_this_version(manifest: Manifest) -> str:
    """Why this version of Berth cannot use the backup; "" when it is of this one or an older one."""
    loader = MigrationLoader(connection)
    known = {f"{app}.{name}" for app, name in loader.disk_migrations}
    known |= {f"{app}.{name}" for migration in loader.disk_migrations.values() for app, name in migration.replaces}
    if newer := sorted(set(manifest.migrations) - known):
        return f"it was made by a newer version of Berth (with {newer[-1]}, which is not here): upgrade this one first."
    if manifest.server_version > server_version():
        return f"it was made with PostgreSQL {manifest.server_version}, and the server here is {server_version()}."
    return ""


def load(folder: Path, manifest: Manifest) -> None:
    """Restore into the empty database, all or nothing. Raises DatabaseProblem."""
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        tables = _tables(cursor)
        if tables.get("public"):  # what migrate made; it is empty, as was seen
            cursor.execute("DROP SCHEMA public CASCADE")
            cursor.execute("CREATE SCHEMA public")
    name = str(connection.settings_dict["NAME"])
    connection.close()
    argv = ["pg_restore", "--exit-on-error", "--single-transaction", "--no-owner", "--no-acl", f"--dbname={name}"]
    with _start([*argv, str(folder / DATABASE)]) as program:
        _, said = program.communicate()
    if program.returncode:
        raise DatabaseProblem(f"pg_restore failed, and the database is empty as before: {_last_line(said.decode())}")
    found = row_counts()
    if wrong := sorted(table for table, count in manifest.tables.items() if found.get(table) != count):
        raise DatabaseProblem(
            f"After the restore {wrong[0]} has {found.get(wrong[0])} rows instead of {manifest.tables[wrong[0]]}:"
            " do not use this database."
        )


def bring_up_to_date() -> int:
    """Apply the migrations that are newer than the backup; how many there were."""
    before = len(MigrationLoader(connection).applied_migrations)
    call_command("migrate", interactive=False, verbosity=0)
    partitions.ensure(timezone.now())
    return len(MigrationLoader(connection).applied_migrations) - before


def _tables(cursor: object) -> dict[str, set[str]]:
    """The names of the tables of each schema that is not PostgreSQL's, without partitions and what extensions own."""
    cursor.execute(  # type: ignore[attr-defined]  # Django does not name the type of its cursors
        """
        SELECT nspname, relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
        WHERE relkind IN ('r', 'p') AND NOT relispartition
          AND nspname NOT IN ('pg_catalog', 'information_schema') AND nspname NOT LIKE 'pg_t%%'
          AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = pg_class.oid AND d.deptype = 'e')
        """
    )
    found: dict[str, set[str]] = {}
    for schema, name in cursor.fetchall():  # type: ignore[attr-defined]
        found.setdefault(schema, set()).add(name)
    return found


def _other_things(cursor: object) -> list[str]:
    """What else lies in schemas that are not PostgreSQL's: views, sequences, functions, types and so on, in words.

    Without what belongs to a table (its sequences, the functions of its triggers) or to an extension. Of extensions
    those in public: they would go with it.
    """
    cursor.execute(  # type: ignore[attr-defined]
        """
        SELECT pg_describe_object(d.classid, d.objid, 0) FROM pg_depend d JOIN pg_namespace n ON n.oid = d.refobjid
        WHERE d.refclassid = 'pg_namespace'::regclass AND d.deptype = 'n'
          AND nspname NOT IN ('pg_catalog', 'information_schema') AND nspname NOT LIKE 'pg_t%%'
          AND NOT EXISTS (
            SELECT 1 FROM pg_depend o WHERE o.classid = d.classid AND o.objid = d.objid
            AND (o.deptype = 'e' OR o.refclassid = 'pg_class'::regclass AND o.deptype IN ('a', 'i')))
          AND NOT EXISTS (
            SELECT 1 FROM pg_class WHERE d.classid = 'pg_class'::regclass AND oid = d.objid AND relkind IN ('r', 'p'))
          AND NOT EXISTS (SELECT 1 FROM pg_trigger WHERE d.classid = 'pg_proc'::regclass AND tgfoid = d.objid)
          AND NOT EXISTS (
            SELECT 1 FROM pg_extension WHERE d.classid = 'pg_extension'::regclass AND oid = d.objid
            AND (extname = 'btree_gist' OR nspname <> 'public'))
        ORDER BY 1
        """
    )
    return [name for (name,) in cursor.fetchall()]  # type: ignore[attr-defined]
