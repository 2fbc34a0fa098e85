"""What a backup says about itself. It is written last: a folder without it is not a backup.

A backup is a folder: `manifest.json`, `database.dump` (pg_dump's custom format), and `volumes/vol-7.img.gz` for each
kept volume, which `zcat` turns into its ext4 image again.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils.crypto import salted_hmac

NAME = "manifest.json"
DATABASE = "database.dump"
FORMAT = 1
_PART = 4 * 2**20


class NotABackup(Exception):
    """The folder or file is no backup that this version can read, or is not whole; the message says why."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the backup, by its path in it."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class StoredVolume:
    """A kept volume in the backup; `size` and `image_sha256` are of its image, `frozen` when it was in use."""

    number: int
    name: str
    workspace: str
    uuid: str
    size: int
    image_sha256: str
    file: StoredFile
    frozen: bool


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A kept volume that is not in the backup, and why."""

    number: int
    name: str
    workspace: str
    why: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """`tables` has the number of rows of each table whose rows are in it, `migrations` those that were applied."""

    made_at: datetime
    server_version: int
    database: StoredFile
    tables: dict[str, int]
    migrations: list[str]
    secret_key: str
    volumes: list[StoredVolume] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    with_volumes: bool = True

    @property
    def files(self) -> list[StoredFile]:
        return [self.database, *(volume.file for volume in self.volumes)]

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


def fingerprint() -> str:
    """Tells one SECRET_KEY from another, and nothing more of it."""
    return salted_hmac("berth.backup", "fingerprint", algorithm="sha256").hexdigest()[:16]


def key_differs(manifest: Manifest) -> bool:
    """Whether credentials that are sealed in the backup cannot be opened with this portal's SECRET_KEY."""
    return bool(settings.SECRET_KEY) and manifest.secret_key != fingerprint()


def write(folder: Path, manifest: Manifest) -> None:
    """Under a name of its own first: it is there whole or not at all."""
    body = asdict(manifest) | {"format": FORMAT, "made_at": manifest.made_at.isoformat()}
    text = json.dumps(body | {"checksum": _checksum(body)}, indent=2, ensure_ascii=False)
    half = folder / f"{NAME}.new"
    with open(half, "w", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    half.rename(folder / NAME)
    sync(folder)


def find(path: Path) -> Path:
    """The folder of the backup that `path` names, itself or by its manifest. Raises NotABackup."""
    if path.name == NAME and path.is_file():
        return path.parent
    if not path.exists():
        raise NotABackup(f"There is no {path}.")
    if not path.is_dir():
        raise NotABackup(f"{path} is not a backup: a backup is a folder with a {NAME}.")
    if path.name.endswith(".partial"):
        raise NotABackup(f"{path} is not a backup: the making of it was broken off.")
    if not (path / NAME).is_file():
        raise NotABackup(f"{path} is not a backup: it has no {NAME}.")
    return path


def read(folder: Path) -> Manifest:
    """Raises NotABackup when it cannot be read, was changed, or is of a version that is not known here."""
    file = folder / NAME
    try:
        body = json.loads(file.read_text(encoding="utf-8"))
        checksum, version = body.pop("checksum"), body["format"]
    except OSError as problem:
        raise NotABackup(f"{file} cannot be read: {problem.strerror}.") from None
    except (ValueError, KeyError, AttributeError, TypeError):
        raise NotABackup(f"{file} is not the manifest of a backup, or is cut off.") from None
    if version != FORMAT:
        raise NotABackup(f"{file} is of another version of Berth (format {version}; this one reads {FORMAT}).")
    if checksum != _checksum(body):
        raise NotABackup(f"{file} was changed after it was written: its checksum is another.")
    return _parsed(body)


def verify(folder: Path, manifest: Manifest, *, only_volumes: bool = False) -> list[str]:
    """What is wrong with its files, each in a sentence; empty when all are there as they were written."""
    return [found for file in manifest.files[only_volumes:] if (found := _wrong(folder, file))]


def _wrong(folder: Path, file: StoredFile) -> str:
    path = folder / file.path
    try:
        size = path.stat().st_size
        if size != file.bytes:
            return f"{path} is cut off or was changed: it has {size} bytes instead of {file.bytes}."
        if sha256_of(path) != file.sha256:
            return f"{path} was changed: its SHA-256 is not the one in {NAME}."
    except FileNotFoundError:
        return f"{path} is missing."
    except OSError as problem:
        return f"{path} cannot be read: {problem.strerror}."
    return ""


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(_PART):
            digest.update(part)
    return digest.hexdigest()


def sync(folder: Path) -> None:
    """The names in the folder are on the disk."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _checksum(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def _parsed(body: dict[str, Any]) -> Manifest:
    del body["format"]
    volumes = [StoredVolume(**volume | {"file": StoredFile(**volume["file"])}) for volume in body.pop("volumes")]
    left_out = [LeftOut(**row) for row in body.pop("left_out")]
    made_at, database = datetime.fromisoformat(body.pop("made_at")), StoredFile(**body.pop("database"))
    return Manifest(made_at=made_at, database=database, volumes=volumes, left_out=left_out, **body)
