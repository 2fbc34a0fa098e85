"""Restores a backup: the database into an empty one, then the kept volumes, of which none is ever overwritten."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from django.db import transaction

from accounts import audit
from compute import drivers
from compute.models import StorageServer, Volume
from compute.sftp import session
from compute.shell import CommandFailed, NoAnswer
from portal.backup import database, images, manifest
from portal.backup.making import readable
from portal.backup.manifest import Manifest, StoredVolume

Say = Callable[[str], None]


class CannotRestore(Exception):
    """Nothing was restored; the message says why."""


@dataclass
class Outcome:
    """What became of the volumes, by their machine's names; `failed` with the reason."""

    restored: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)  # with the same content
    other: list[str] = field(default_factory=list)  # of the same volume, with other content, which stays
    failed: dict[str, str] = field(default_factory=dict)


def check(folder: Path, *, other_key: bool, only_volumes: bool) -> Manifest:
    """All that can be known before anything is changed. Raises CannotRestore."""
    try:
        found = manifest.read(folder)
    except manifest.NotABackup as problem:
        raise CannotRestore(str(problem)) from None
    if wrong := manifest.verify(folder, found, only_volumes=only_volumes):
        raise CannotRestore(" ".join(["The backup is not whole.", *wrong[:3]]))
    if manifest.key_differs(found) and not other_key:
        raise CannotRestore(
            "The backup was made with another SECRET_KEY: the credentials of containers and the secrets of second"
            " factors in it cannot be opened with this one. Put the old one into the environment; if it is lost, add"
            " --other-secret-key, and they are lost, too."
        )
    if only_volumes:
        return found
    try:
        database.check_program("pg_restore", found.server_version)
        why = database.why_not_empty()
        if why:
            raise CannotRestore(f"Nothing may be restored into this database: {why}")
        if why := database.why_not_this_version(found):
            raise CannotRestore(f"This backup cannot be restored here: {why}")
    except database.DatabaseProblem as problem:
        raise CannotRestore(str(problem)) from problem
    return found


def restore_database(folder: Path, found: Manifest) -> int:
    """Into the empty database, brought up to this version; how many migrations it lacked. Raises CannotRestore."""
    try:
        database.load(folder, found)
    except database.DatabaseProblem as problem:
        raise CannotRestore(str(problem)) from problem
    newer = database.bring_up_to_date()
    with transaction.atomic(durable=True):
        audit.record(by="manage.py", action="backup.restore", target="portal", made_at=found.made_at.isoformat())
    return newer


def restore_volumes(folder: Path, wanted: list[StoredVolume], say: Say, tell: Say) -> Outcome:
    """Each to the storage server that its row names; one that cannot be restored does not hold up the others."""
    outcome = Outcome()
    for stored in wanted:
        name = f"vol-{stored.number}"
        try:
            how = _restore(folder, stored, lambda text, name=name: tell(f"{name}: {text}"))  # type: ignore[misc]
        except images.DiffersThere:
            outcome.other.append(name)
            say(f"{name}: there is an image with other content, maybe a newer one; it was left as it is")
        except (NoAnswer, CommandFailed, images.BadImage, OSError, CannotRestore) as problem:
            outcome.failed[name] = str(problem)
            say(f"{name}: NOT RESTORED: {problem}")
        else:
            (outcome.restored if how else outcome.there).append(name)
            say(
                f"{name}: {readable(stored.size)} restored"
                if how
                else f"{name}: is there already, with the same content"
            )
    return outcome


def _restore(folder: Path, stored: StoredVolume, tell: Say) -> bool:
    volume = Volume.objects.select_related("server").filter(pk=stored.number, kept=True).first()
    server = _server_of(volume, stored)
    path = f"{server.path}/vol-{stored.number}.img"
    with session(drivers.storage(server)) as there:
        facts = there.facts(path)
        if facts and stored.uuid and images.head(there, path)[images.UUID_AT].hex() != stored.uuid.replace("-", ""):
            raise CannotRestore(f"{server.name} has an image of another volume under this name")
        if facts and facts.size != stored.size:
            raise images.DiffersThere
        return images.put(
            there,
            folder / stored.file.path,
            path,
            stored.size,
            stored.image_sha256,
            lambda done: tell(f"{readable(done)} of {readable(stored.size)}"),
        )


def _server_of(volume: Volume | None, stored: StoredVolume) -> StorageServer:
    """Raises CannotRestore unless the database has this very volume, and nobody may be using it."""
    if volume is None or volume.server is None or str(volume.uuid or "") != stored.uuid:
        raise CannotRestore("the database does not have this volume: restore the backup's database first")
    if volume.state in {Volume.State.REMOVING, Volume.State.REMOVED}:
        raise CannotRestore("its owner has deleted it since")
    return volume.server
