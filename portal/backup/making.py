"""Makes a backup: the database and, after it, the kept volumes that it knows.

Everything is written into a folder whose name ends with ".partial", which gets its own name when all of it is on the
disk: whoever finds a folder without that has a whole backup.
"""

import errno
import fcntl
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from django.db import transaction

from accounts import audit
from compute import drivers, freezing
from compute.failpoints import hit
from compute.models import StorageServer, Volume
from compute.sftp import FileFacts, Session, session
from compute.shell import CommandFailed, NoAnswer
from portal.backup import database, images, manifest
from portal.backup.manifest import LeftOut, Manifest, StoredFile, StoredVolume
from reservations.models import WorkspaceVolume

FREEZE_S = 10
NAMES = re.compile(r"berth-\d{8}T\d{6}Z")
PARTIAL = ".partial"
FREE_AT_LEAST = 256 * 2**20
_COPIED_PER_S = 100e6  # bytes, until it was measured


class CannotBackUp(Exception):
    """No backup was made; the message says why."""


@dataclass
class Wish:
    """What to back up: `volumes` None means all, and none when it is empty. `keep`: so many backups stay."""

    folder: Path
    volumes: list[str] | None = None
    freeze_s: int = FREEZE_S
    keep: int | None = None


@dataclass
class _Course:
    """What was copied so far, and how fast."""

    say: Callable[[str], None]
    tell: Callable[[str], None]  # of what goes on, and is soon said otherwise
    copied: int = 0
    took_s: float = 0.0
    left_out: list[LeftOut] = field(default_factory=list)

    @property
    def per_s(self) -> float:
        return self.copied / self.took_s if self.took_s > 1 else _COPIED_PER_S


def make(
    wish: Wish, now: datetime, say: Callable[[str], None], tell: Callable[[str], None]
) -> tuple[Path, Manifest, list[Path]]:
    """The folder of the new backup, what it says, and the older ones that were removed. Raises CannotBackUp."""
    with _only_one(wish.folder):
        _check_room(wish.folder)
        final = wish.folder / f"berth-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}"
        if final.exists():
            raise CannotBackUp(f"{final} is there already.")
        half = final.with_name(final.name + PARTIAL)
        half.mkdir(mode=0o700)
        try:
            made = _fill(half, wish, now, _Course(say, tell))
        except (CannotBackUp, database.DatabaseProblem, OSError) as problem:
            shutil.rmtree(half, ignore_errors=True)
            raise CannotBackUp(_sentence(problem, wish.folder)) from problem
        half.rename(final)
        manifest.sync(wish.folder)
        with transaction.atomic():
            volumes = {"volumes": len(made.volumes), "left_out": len(made.left_out)}
            audit.record(by="manage.py", action="backup.make", target="portal", name=final.name, **volumes)
        return final, made, _remove_older(wish)


def _fill(half: Path, wish: Wish, now: datetime, course: _Course) -> Manifest:
    database.check_program("pg_dump", database.server_version())
    with database.snapshot() as name:  # open while pg_dump runs: only so do volumes and counts belong to the dump
        rows = _chosen(wish.volumes)
        tables, migrations = database.row_counts(), database.applied_migrations()
        of_database = database.dump(half, name, lambda size: course.tell(f"database: {readable(size)}"))
    course.say(f"database: {readable(of_database.bytes)}, {sum(tables.values())} rows")
    hit("backup-dumped")
    (half / "volumes").mkdir(mode=0o700)
    saved = [found for row in rows if (found := _saved(half, row, wish, course))]
    made = Manifest(
        made_at=now,
        server_version=database.server_version(),
        database=of_database,
        tables=tables,
        migrations=migrations,
        secret_key=manifest.fingerprint(),
        volumes=saved,
        left_out=course.left_out,
        with_volumes=wish.volumes is None,
    )
    manifest.sync(half / "volumes")
    hit("backup-copied")
    manifest.write(half, made)
    return made


# ---- volumes ------------------------------------------------------------------------------------------------


def _chosen(names: list[str] | None) -> list[WorkspaceVolume]:
    """The kept volumes that were asked for: by vol-7, WORKSPACE/NAME or NAME. Raises CannotBackUp."""
    if names == []:
        return []
    rows = list(WorkspaceVolume.objects.present().select_related("workspace", "volume__server").order_by("volume"))
    if names is None:
        return rows
    chosen: dict[int, WorkspaceVolume] = {}
    for name in names:
        found = [row for row in rows if name in {row.volume.machine_name, row.name, f"{row.workspace.name}/{row.name}"}]
        if not found:
            raise CannotBackUp(f"There is no kept volume {name!r}.")
        chosen |= {row.pk: row for row in found}
    return list(chosen.values())


def _saved(half: Path, row: WorkspaceVolume, wish: Wish, course: _Course) -> StoredVolume | None:
    """The volume in the backup; None when it was never used, or, with a line about why, when it is left out.

    OSError when the disk says no.
    """
    try:
        for _ in range(2):  # a second time when somebody attached it meanwhile
            volume = Volume.objects.select_related("server", "node").get(pk=row.volume_id)
            if volume.formatted_at is None:
                return None  # never used, so that there is nothing in it
            if volume.state in {Volume.State.REMOVING, Volume.State.REMOVED}:  # the dump has it as kept
                raise _Not("its owner deleted it while the backup was made")
            attached = volume.state == Volume.State.ATTACHED
            found = _frozen(half, row, volume, wish, course) if attached else _still(half, row, volume, course)
            if found:
                course.say(f"{_named(row)}: {readable(found.file.bytes)} of {readable(found.size)}")
                return found
        raise _Not("it was attached or detached while it was copied")
    except (_Not, images.BadImage) as problem:
        why = str(problem)
    except FileNotFoundError:
        why = "its image went missing on the storage server"
    except (NoAnswer, CommandFailed) as problem:
        why = f"its storage server or node did not let it be copied: {problem}"
    (half / _path(row)).unlink(missing_ok=True)
    course.left_out.append(LeftOut(row.volume_id, row.name, row.workspace.name, why))
    course.say(f"{_named(row)}: NOT IN THIS BACKUP: {why}")
    return None


class _Not(Exception):
    """The volume is left out; the message says why."""


def _still(half: Path, row: WorkspaceVolume, volume: Volume, course: _Course) -> StoredVolume | None:
    """Copy a detached one; None when it was mounted meanwhile, which its superblock tells."""
    server, path = _place(volume)
    with session(drivers.storage(server)) as there:
        before, facts = _look(there, path, volume)
        found = _copy(half, row, there, path, facts, course)
        after = images.head(there, path), there.facts(path)
    volume.refresh_from_db(fields=["state"])
    same = volume.state == Volume.State.DETACHED and after == (before, facts)
    return found if same and isinstance(found, StoredVolume) else None


def _frozen(half: Path, row: WorkspaceVolume, volume: Volume, wish: Wish, course: _Course) -> StoredVolume | None:
    """Copy an attached one while it is frozen; None when it is not where its row says any more."""
    node = drivers.host(volume.node) if volume.node else None
    server, path = _place(volume)
    size = volume.size_gb * 10**9
    if node is None or not wish.freeze_s:
        raise _Not("it is attached and may be written to: end its reservation, and run this again")
    if size / course.per_s > wish.freeze_s:
        raise _Not(
            f"it is attached, and to copy {readable(size)} would take longer than the {wish.freeze_s} s for which it"
            " may be frozen: end its reservation, and run this again"
        )
    with session(drivers.storage(server)) as there:
        before, facts = _look(there, path, volume)
        try:
            with freezing.frozen(node, volume.machine_name, wish.freeze_s) as freeze:
                before, facts = _look(there, path, volume)  # as freezing left it
                until = time.monotonic() + wish.freeze_s
                found = _copy(half, row, there, path, facts, course, until=until)
                after = images.head(there, path)
                held = freeze.thaw()
        except CommandFailed as problem:
            if Volume.objects.filter(pk=volume.pk, state=Volume.State.ATTACHED).exists():
                raise _Not(f"it is attached, and could not be frozen: {problem.stderr or problem}") from None
            return None
    if found is None or not held or before != after:
        raise _Not(f"it is attached, and could not be copied within the {wish.freeze_s} s for which it may be frozen")
    return found


def _place(volume: Volume) -> tuple[StorageServer, str]:
    if volume.server is None:
        raise _Not("it is on no storage server")
    return volume.server, f"{volume.server.path}/{volume.machine_name}.img"


def _look(there: Session, path: str, volume: Volume) -> tuple[bytes, FileFacts]:
    """Its first bytes and its size. Raises _Not when it is missing or somebody else's."""
    facts = there.facts(path)
    if facts is None:
        raise _Not("its image is missing on the storage server")
    head = images.head(there, path)
    if volume.uuid and head[images.UUID_AT] != volume.uuid.bytes:
        raise _Not("the image on the storage server is another one than the database knows")
    return head, facts


def _copy(
    half: Path,
    row: WorkspaceVolume,
    there: Session,
    path: str,
    facts: FileFacts,
    course: _Course,
    *,
    until: float | None = None,
) -> StoredVolume | None:
    """None when it is not over at the time `until`."""

    def progress(done: int) -> None:
        course.tell(f"{_named(row)}: {readable(done)} of {readable(facts.size)}")
        if until is not None and time.monotonic() > until:
            raise _TooLong

    begun, to = time.monotonic(), half / _path(row)
    try:
        saved = images.save(there, path, facts.size, to, progress)
    except _TooLong:
        return None
    course.copied += facts.size
    course.took_s += time.monotonic() - begun
    file = StoredFile(_path(row), saved.bytes, saved.sha256)
    uuid = str(row.volume.uuid or "")
    workspace, frozen = row.workspace.name, until is not None
    return StoredVolume(row.volume_id, row.name, workspace, uuid, facts.size, saved.image_sha256, file, frozen)


class _TooLong(Exception):
    """It may not be frozen any longer."""


def _path(row: WorkspaceVolume) -> str:
    return f"volumes/{row.volume.machine_name}.img.gz"


def _named(row: WorkspaceVolume) -> str:
    return f"{row.volume.machine_name} ({row.workspace.name}/{row.name})"


# ---- the folder ---------------------------------------------------------------------------------------------


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Nobody else writes backups into this folder meanwhile; what a killed run left is removed. 600 and 700."""
    if not folder.is_dir():
        raise CannotBackUp(f"There is no folder {folder}." if not folder.exists() else f"{folder} is not a folder.")
    umask = os.umask(0o077)
    try:
        with open(folder / ".berth-backup.lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CannotBackUp(f"Another backup is being written into {folder}.") from None
            for left in folder.glob(f"berth-*{PARTIAL}"):
                if NAMES.fullmatch(left.name.removesuffix(PARTIAL)):
                    shutil.rmtree(left)
            yield
    except OSError as problem:
        raise CannotBackUp(_sentence(problem, folder)) from problem
    finally:
        os.umask(umask)


def _check_room(folder: Path) -> None:
    """As large as the database is, and once and a half what the last backup took; how full images are is not known."""
    needed = database.size_in_bytes() + FREE_AT_LEAST
    if older := whole(folder):
        needed = max(needed, int(1.5 * older[-1][1].bytes))
    if (free := shutil.disk_usage(folder).free) < needed:
        raise CannotBackUp(f"{folder} has {readable(free)} left, and {readable(needed)} may be needed.")


def whole(folder: Path) -> list[tuple[Path, Manifest]]:
    """The backups in the folder that have a manifest, the oldest first."""
    found = []
    for path in sorted(folder.iterdir()):
        if NAMES.fullmatch(path.name) and (path / manifest.NAME).is_file():
            try:
                found.append((path, manifest.read(path)))
            except manifest.NotABackup:
                continue
    return found


def _remove_older(wish: Wish) -> list[Path]:
    """All but the newest `keep` whole ones of all volumes, and as many others.

    The last one that has a volume which is still kept stays. What is not a whole backup is never touched.
    """
    if not wish.keep:
        return []
    found = whole(wish.folder)
    last_of = {volume.number: path for path, made in found for volume in made.volumes}
    kept = WorkspaceVolume.objects.present().values_list("volume_id", flat=True)
    needed = {last_of[number] for number in kept if number in last_of}
    older: list[Path] = []
    for with_volumes in (True, False):  # else those of the database only, made every hour, would rotate the others out
        alike = [path for path, made in found if made.with_volumes == with_volumes]
        older += [path for path in alike[: -wish.keep] if path not in needed]
    for path in older:
        (path / manifest.NAME).unlink()  # first: a half removed one is not a backup
        shutil.rmtree(path)
    return older


def _sentence(problem: Exception, folder: Path) -> str:
    if isinstance(problem, OSError):
        if problem.errno in {errno.ENOSPC, errno.EDQUOT}:
            return f"The disk of {folder} is full; nothing of this backup was kept."
        return f"{problem.filename or folder} cannot be written: {problem.strerror}."
    return str(problem)


def readable(size: float) -> str:
    """12.3 MB"""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
