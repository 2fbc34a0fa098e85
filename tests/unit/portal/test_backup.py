"""manage.py backup and restore without machines: what is written, what is refused, and that a database comes back.

Volumes are tried in the lab: tests/contract/test_copying.py and tests/integration/test_backup.py.
"""

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from accounts.models import AuditEntry, User
from compute import partitions
from compute.models import Sample, StorageServer, Volume
from portal.backup import database, making, manifest
from portal.backup.making import PARTIAL
from portal.env import ROOT
from reservations.models import WorkspaceVolume
from tests.factories import make_node, make_reservation, make_storage, make_user, workspace_of

pytestmark = pytest.mark.django_db(transaction=True)
Done = subprocess.CompletedProcess[str]


def back_up(folder: Path, *arguments: str, volumes: bool = False) -> Path:
    """The folder of the new backup."""
    call_command("backup", str(folder), *([] if volumes else ["--no-volumes"]), *arguments, stdout=StringIO())
    return max(path for path in folder.iterdir() if path.name.startswith("berth-"))


@pytest.fixture
def customers() -> list[User]:
    """With a reservation, whose history is append-only."""
    make_node()
    people = [make_user(f"customer{number}") for number in range(3)]
    make_reservation(people[0], now=timezone.now())
    return people


@pytest.fixture
def backup(tmp_path: Path, customers: list[User]) -> Path:
    return back_up(tmp_path)


class Empty:
    """A database of its own, and manage.py upon it."""

    def __init__(self, name: str) -> None:
        self.name = name
        parts = urlsplit(os.environ["DATABASE_URL"])
        self.url = urlunsplit(parts._replace(path=f"/{name}"))

    def manage(self, *arguments: str, **more: str) -> Done:
        env = os.environ | {"DATABASE_URL": self.url} | more
        env.pop("BERTH_TESTING", None)
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)

    def restore(self, backup: Path, *arguments: str, **more: str) -> Done:
        return self.manage("restore", str(backup), *arguments, **more)

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as there:
            cursor = there.execute(query.encode())
            return cursor.fetchall() if cursor.description else []


@pytest.fixture
def empty() -> Iterator[Empty]:
    name = f"berth_restore_{secrets.token_hex(4)}"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
    yield Empty(name)
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


def checksums(url: str, tables: list[str]) -> dict[str, str]:
    with psycopg.connect(url) as there:
        query = "SELECT md5(coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '')) FROM {} t"
        return {name: there.execute(query.format(name).encode()).fetchone()[0] for name in tables}  # type: ignore[index]


def test_what_was_backed_up_comes_back(backup: Path, empty: Empty) -> None:
    said = empty.restore(backup)

    assert said.returncode == 0, said.stderr
    assert "doctor" in said.stdout
    tables = sorted(set(manifest.read(backup).tables) - {"accounts_auditentry"})  # the restore is written there
    here = urlunsplit(urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}"))
    assert checksums(empty.url, tables) == checksums(here, tables)
    assert empty.ask("SELECT actor_name FROM accounts_auditentry WHERE action = 'backup.restore'") == [("manage.py",)]
    with pytest.raises(psycopg.errors.RestrictViolation, match="only ever added to"):
        empty.ask("DELETE FROM reservations_event")


def test_the_next_numbers_go_on_after_a_restore(backup: Path, empty: Empty, customers: list[User]) -> None:
    empty.restore(backup)

    [[number]] = empty.ask("SELECT nextval(pg_get_serial_sequence('accounts_user', 'id'))")
    assert number > max(user.pk for user in customers)


def test_only_its_owner_may_read_it(backup: Path) -> None:
    assert backup.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in backup.rglob("*") if path.is_file()} == {0o600}


def test_samples_that_would_soon_be_over_are_not_in_it(tmp_path: Path, empty: Empty) -> None:
    now = timezone.now()
    partitions.ensure(now)
    Sample.objects.create(node=make_node(), at=now, reachable=True)

    found = manifest.read(backup := back_up(tmp_path))
    empty.restore(backup)

    assert "compute_sample" not in found.tables
    assert "compute_nodehour" in found.tables
    assert empty.ask("SELECT count(*) FROM compute_sample") == [(0,)]
    assert empty.ask("SELECT count(*) FROM compute_node") == [(1,)]


def test_no_password_is_on_a_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(connection.settings_dict, "PASSWORD", "very secret")
    started: list[list[str]] = []
    real = subprocess.Popen

    def look(argv: list[str], **more: Any) -> Any:
        started.append(argv)
        assert more["env"]["PGPASSWORD"] == "very secret"
        return real(argv, **more)

    monkeypatch.setattr(subprocess, "Popen", look)
    with database.snapshot() as name:
        database.dump(tmp_path, name, lambda size: None)

    assert started
    assert not [word for argv in started for word in argv if "secret" in word]


# ---- a database that is not empty, or does not fit -------------------------------------------------------------


def test_a_database_that_was_only_migrated_counts_as_empty(backup: Path, empty: Empty) -> None:
    assert empty.manage("migrate", "--verbosity=0").returncode == 0

    assert empty.restore(backup).returncode == 0
    assert empty.ask("SELECT count(*) FROM accounts_user WHERE username LIKE 'customer%'") == [(3,)]


def test_nothing_is_restored_over_rows(backup: Path, empty: Empty) -> None:
    empty.manage("migrate", "--verbosity=0")
    empty.manage("createadmin", BERTH_ADMIN_PASSWORD="a password of some length")

    said = empty.restore(backup)

    assert said.returncode == 1
    assert "not empty: there are rows in" in said.stderr
    assert "accounts_user" in said.stderr
    assert empty.ask("SELECT username FROM accounts_user") == [("admin",)]


def test_nothing_is_restored_twice(backup: Path, empty: Empty) -> None:
    empty.restore(backup)

    assert "not empty" in empty.restore(backup).stderr


def test_nothing_is_restored_beside_somebody_elses_tables(backup: Path, empty: Empty) -> None:
    empty.ask("CREATE TABLE theirs (id int)")

    said = empty.restore(backup)

    assert "tables that are not Berth's, such as public.theirs" in said.stderr
    assert empty.ask("SELECT count(*) FROM theirs") == [(0,)]


@pytest.mark.parametrize(
    ("thing", "named"),
    [
        ("SEQUENCE numbers START 4711", "sequence numbers"),
        ("VIEW people AS SELECT * FROM accounts_user", "view people"),
        ("MATERIALIZED VIEW precious AS SELECT 1 AS one", "materialized view precious"),
        ("FUNCTION answer() RETURNS int LANGUAGE sql AS 'SELECT 42'", "function answer()"),
        ("TYPE mood AS ENUM ('sad', 'ok')", "type mood"),
        ("DOMAIN small AS int CHECK (VALUE < 9)", "type small"),
        ("EXTENSION citext", "extension citext"),
        ("SCHEMA reports CREATE VIEW people AS SELECT * FROM public.accounts_user", "view reports.people"),
    ],
)
def test_nothing_else_of_somebody_goes_with_a_restore(backup: Path, empty: Empty, thing: str, named: str) -> None:
    empty.manage("migrate", "--verbosity=0")
    empty.ask(f"CREATE {thing}")

    said = empty.restore(backup)

    assert said.returncode == 1
    assert f"what is not Berth's, such as the {named}." in said.stderr
    assert empty.ask("SELECT to_regclass('accounts_user')::text") == [("accounts_user",)]


def test_nothing_is_restored_while_something_is_connected(backup: Path, empty: Empty) -> None:
    with psycopg.connect(empty.url):
        said = empty.restore(backup)

    assert "1 other connections to it are open: stop web, worker, beat and live first" in said.stderr


def test_a_newer_backup_is_refused(backup: Path, empty: Empty) -> None:
    change(backup, migrations=[*manifest.read(backup).migrations, "compute.9999_flying_nodes"])

    said = empty.restore(backup)

    assert "newer version of Berth (with compute.9999_flying_nodes" in said.stderr
    assert empty.ask("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]


def test_an_older_backup_is_brought_up_to_date(tmp_path: Path, empty: Empty) -> None:
    """As a version with fewer migrations would have made it."""
    assert empty.manage("migrate", "--verbosity=0", "reservations", "0005").returncode == 0
    assert empty.manage("backup", str(tmp_path), "--no-volumes").returncode == 0
    [older] = [path for path in tmp_path.iterdir() if path.name.startswith("berth-")]
    empty.ask("DROP SCHEMA public CASCADE; CREATE SCHEMA public")

    said = empty.restore(older)

    assert said.returncode == 0, said.stderr
    assert re.search(r"[1-9][0-9]* newer migrations were applied", said.stdout)
    assert empty.manage("migrate", "--check").returncode == 0


def test_another_secret_key_is_told(backup: Path, empty: Empty) -> None:
    other = secrets.token_hex(32)

    said = empty.restore(backup, SECRET_KEY=other)

    assert "was made with another SECRET_KEY" in said.stderr
    assert empty.restore(backup, "--other-secret-key", SECRET_KEY=other).returncode == 0


# ---- what is no backup, or not a whole one ----------------------------------------------------------------------


def change(backup: Path, **values: Any) -> None:
    """With a checksum that is right."""
    body = json.loads((backup / manifest.NAME).read_text())
    del body["checksum"]
    body |= values
    (backup / manifest.NAME).write_text(json.dumps(body | {"checksum": manifest._checksum(body)}))


@pytest.mark.parametrize("command", [["backup", "--verify"], ["restore"]])
def test_what_is_no_backup_is_told_by_name(command: list[str], backup: Path, tmp_path: Path) -> None:
    def refused(path: Path) -> str:
        with pytest.raises(CommandError) as problem:
            call_command(*command, str(path), stdout=StringIO())
        return str(problem.value)

    assert "There is no" in refused(tmp_path / "nothing")
    (tmp_path / "text").write_text("hello")
    assert "text is not a backup: a backup is a folder" in refused(tmp_path / "text")
    assert "has no manifest.json" in refused(tmp_path)

    dump = backup / manifest.DATABASE
    content = dump.read_bytes()
    dump.write_bytes(content[:-100])
    assert "database.dump is cut off" in refused(backup)
    dump.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "its SHA-256 is not the one" in refused(backup)
    dump.unlink()
    assert "database.dump is missing" in refused(backup)
    text = (backup / manifest.NAME).read_text()
    (backup / manifest.NAME).write_text(text.replace("accounts_user", "accounts_loser"))
    assert "was changed after it was written" in refused(backup)
    (backup / manifest.NAME).write_text(text[: len(text) // 2])
    assert "not the manifest of a backup, or is cut off" in refused(backup)
    change_format = json.loads(text) | {"format": 99}
    (backup / manifest.NAME).write_text(json.dumps(change_format))
    assert "another version of Berth (format 99" in refused(backup)


def test_a_whole_backup_is_found_to_be_whole(backup: Path) -> None:
    out = StringIO()
    call_command("backup", "--verify", str(backup / manifest.NAME), stdout=out)

    assert f"{backup.name} is whole" in out.getvalue()


def test_a_folder_that_is_missing_or_cannot_be_written_is_told(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()

    with pytest.raises(CommandError, match="There is no folder"):
        call_command("backup", str(tmp_path / "nothing"))
    with pytest.raises(CommandError, match="is not a folder"):
        call_command("backup", str(file))
    with pytest.raises(CommandError, match="cannot be written"):
        call_command("backup", "/proc/self/task")


def test_a_disk_without_room_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=5_000_000))

    with pytest.raises(CommandError, match=r"has 5\.0 MB left, and .* may be needed"):
        call_command("backup", str(tmp_path))

    assert not [path for path in tmp_path.iterdir() if path.name.startswith("berth-")]


@pytest.mark.parametrize("said", ["pg_dump (PostgreSQL) 9.6.1", "something else", None])
def test_a_missing_or_older_pg_dump_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str | None) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    if said:
        (programs / "pg_dump").write_text(f"#!/bin/sh\necho '{said}'\n")
        (programs / "pg_dump").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))

    with pytest.raises(CommandError, match="No backup was made: pg_dump is"):
        call_command("backup", str(tmp_path), "--no-volumes")

    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("berth-")] == []


def test_what_a_killed_run_left_is_no_backup_and_goes_with_the_next(tmp_path: Path) -> None:
    half = tmp_path / f"berth-20260101T000000Z{PARTIAL}"
    shutil.move(back_up(tmp_path), half)
    with pytest.raises(CommandError, match="the making of it was broken off"):
        call_command("backup", "--verify", str(half))

    back_up(tmp_path, volumes=True)

    assert not half.exists()


def test_only_the_newest_are_kept_and_nothing_else_is_removed(tmp_path: Path) -> None:
    whole = back_up(tmp_path)
    for number in range(3):
        shutil.copytree(whole, tmp_path / f"berth-2026010{number + 1}T000000Z")
    whole.rename(tmp_path / "berth-20260104T000000Z")  # the next one may be of the same second
    mine = [tmp_path / "berth-notes", tmp_path / "berth-20250101T000000Z"]  # the second: no whole backup
    for path in mine:
        path.mkdir()

    call_command("backup", str(tmp_path), "--no-volumes", "--keep", "3", stdout=StringIO())

    left = sorted(path.name for path in tmp_path.iterdir() if (path / manifest.NAME).exists())
    assert len(left) == 3
    assert left[0] == "berth-20260103T000000Z"
    assert all(path.is_dir() for path in mine)


def left_of(folder: Path, source: Path, kinds: dict[str, dict[str, Any]], *arguments: str) -> set[str]:
    """Of copies of a backup that say about themselves what `kinds` has, those that are there after the next one."""
    for name, values in kinds.items():
        change(Path(shutil.copytree(source, folder / name)), **values)
    call_command("backup", str(folder), *arguments, stdout=StringIO())
    return {name for name in kinds if (folder / name).exists()}


def test_backups_without_volumes_do_not_rotate_out_those_that_have_them(backup: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    names = [f"berth-2026010{number}T000000Z" for number in range(1, 7)]
    kinds = {name: {"with_volumes": name in names[:3]} for name in names}

    left = left_of(folder, backup, kinds, "--no-volumes", "--keep", "2")

    assert left == {names[1], names[2], names[5]}


def test_the_last_backup_of_a_volume_stays_while_it_is_kept(backup: Path, tmp_path: Path) -> None:
    """As when its storage server is away for some nights, so that it is left out of all later ones."""
    folder = tmp_path / "kept"
    folder.mkdir()
    names = [f"berth-2026010{number}T000000Z" for number in range(1, 5)]
    mine, gone = keep_a_volume("mine").volume_id, keep_a_volume("gone", state=Volume.State.REMOVED).volume_id
    has = {names[0]: [gone], names[1]: [mine, gone], names[2]: [mine], names[3]: []}
    kinds = {name: {"volumes": [stored(number) for number in numbers]} for name, numbers in has.items()}

    left = left_of(folder, backup, kinds, "--no-volumes", "--keep", "1")

    assert left == {names[2]}


def keep_a_volume(name: str, **values: Any) -> WorkspaceVolume:
    server = StorageServer.objects.first() or make_storage(address="127.0.0.1", account="nobody")
    row = Volume.objects.create(
        **{"size_gb": 1, "kept": True, "server": server, "formatted_at": timezone.now()} | values
    )
    user = User.objects.first() or make_user()
    return WorkspaceVolume.objects.create(workspace=workspace_of(user), name=name, volume=row)


def stored(number: int) -> dict[str, Any]:
    """A volume as a manifest has it."""
    file = {"path": f"volumes/vol-{number}.img.gz", "bytes": 1, "sha256": ""}
    what = {"number": number, "name": "", "workspace": "", "uuid": "", "size": 1, "image_sha256": "", "frozen": False}
    return what | {"file": file}


def test_a_volume_that_is_made_while_the_backup_begins_is_in_it_or_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = database.check_program

    def wait(name: str, least: int) -> None:
        keep_a_volume("fresh")
        real(name, least)

    monkeypatch.setattr(database, "check_program", wait)

    with pytest.raises(CommandError, match="1 volumes are not in it"):
        call_command("backup", str(tmp_path), stdout=StringIO())

    [made] = tmp_path.glob("berth-*")
    assert [left.name for left in manifest.read(made).left_out] == ["fresh"]


def test_a_volume_that_is_deleted_while_the_backup_is_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dump has it as kept."""
    deleted = {keep_a_volume("mine").volume_id, keep_a_volume("unused", formatted_at=None).volume_id}

    def delete(point: str) -> None:
        Volume.objects.filter(pk__in=deleted).update(state=Volume.State.REMOVING)

    monkeypatch.setattr(making, "hit", delete)

    with pytest.raises(CommandError, match="1 volumes are not in it"):
        call_command("backup", str(tmp_path), stdout=StringIO())

    [made] = tmp_path.glob("berth-*")
    [left] = manifest.read(made).left_out
    assert (left.name, left.why) == ("mine", "its owner deleted it while the backup was made")


@pytest.mark.parametrize("freeze_s", [0, 10])
def test_of_a_volume_in_use_it_is_said_that_its_reservation_has_to_end(tmp_path: Path, freeze_s: int) -> None:
    """To stop it does not help: the volume stays attached."""
    node = make_node()
    keep_a_volume("large", size_gb=50, state=Volume.State.ATTACHED, node=node)

    with pytest.raises(CommandError, match="1 volumes are not in it"):
        call_command("backup", str(tmp_path), "--freeze", str(freeze_s), stdout=StringIO())

    [made] = tmp_path.glob("berth-*")
    [left] = manifest.read(made).left_out
    assert "it is attached" in left.why
    assert left.why.endswith(": end its reservation, and run this again")


@pytest.mark.parametrize("arguments", [["--keep", "0"], ["--freeze", "99"], ["--volume", "nobodys"]])
def test_bad_options_are_told(tmp_path: Path, arguments: list[str]) -> None:
    with pytest.raises(CommandError):
        call_command("backup", str(tmp_path), *arguments)

    assert list(tmp_path.glob("berth-*")) == []


def test_a_volume_whose_storage_is_away_is_left_out_and_told(tmp_path: Path) -> None:
    user = make_user()
    server = make_storage(address="127.0.0.1", account="nobody")
    for name, formatted_at in (("mine", timezone.now()), ("unused", None)):
        row = Volume.objects.create(size_gb=1, kept=True, server=server, formatted_at=formatted_at)
        WorkspaceVolume.objects.create(workspace=workspace_of(user), name=name, volume=row)
    out = StringIO()

    with pytest.raises(CommandError, match="1 volumes are not in it") as problem:
        call_command("backup", str(tmp_path), stdout=out)

    assert problem.value.returncode == 2
    [made] = tmp_path.glob("berth-*")
    found = manifest.read(made)
    assert [left.name for left in found.left_out] == ["mine"]
    assert "mine): NOT IN THIS BACKUP" in out.getvalue()
    assert manifest.verify(made, found) == []
    assert AuditEntry.objects.get(action="backup.make").data == {"name": made.name, "volumes": 0, "left_out": 1}
    assert found.made_at > timezone.now() - timedelta(minutes=1)
