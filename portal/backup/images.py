"""Images of volumes: from the storage server into a backup and back, over sftp.

In the backup an image is gzip, a member for each MiB (RFC 1952 allows many), so that the empty parts of a sparse image
cost a comparison and no compressing; `zcat` makes one file of them. On the storage server empty parts become holes.
"""

import gzip
import hashlib
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from compute.sftp import Session

CHUNK = 2**20
HEAD = 4096  # holds the superblock, which says when it was mounted and how often
UUID_AT = slice(1128, 1144)
HALF = ".new"  # what Berth takes for half an image wherever it meets it (compute/volumes.py)
_EMPTY = bytes(CHUNK)
_EMPTY_MEMBER = gzip.compress(_EMPTY, 9, mtime=0)
Progress = Callable[[int], None]


class BadImage(Exception):
    """What is in the backup cannot be unpacked to what it was."""


class DiffersThere(Exception):
    """The storage server has an image of this name already, with other content."""


@dataclass(frozen=True, slots=True)
class Saved:
    """How large the file became, and the checksums of it and of the image."""

    bytes: int
    sha256: str
    image_sha256: str


def head(there: Session, path: str) -> bytes:
    """Its first bytes, which are other ones after it was mounted. Raises FileNotFoundError."""
    return b"".join(there.read(path, 0, HEAD))


def save(there: Session, path: str, size: int, to: Path, progress: Progress) -> Saved:
    """Copy an image into the file. Raises OSError when that cannot be written, BadImage when the image is cut off."""
    packed, image, written, done = hashlib.sha256(), hashlib.sha256(), 0, 0
    with open(to, "wb") as file:
        for chunk in _chunks(there.read(path, 0, size)):
            image.update(chunk)
            member = _EMPTY_MEMBER if chunk == _EMPTY else gzip.compress(chunk, 1, mtime=0)
            packed.update(member)
            written += file.write(member)
            done += len(chunk)
            progress(done)
        file.flush()
        os.fsync(file.fileno())
    if done != size:
        raise BadImage(f"it has {done} bytes instead of {size}")
    return Saved(written, packed.hexdigest(), image.hexdigest())


def put(there: Session, packed: Path, path: str, size: int, sha256: str, progress: Progress) -> bool:
    """Bring the image to the storage server; whether it was not there. A half one is gone on with.

    It gets its name when what was written was read back. Raises DiffersThere, BadImage.
    """
    if found := there.facts(path):
        if found.size == size and checksum(there, path, size, progress) == sha256:
            return False
        raise DiffersThere
    half = path + HALF
    for _ in range(2):
        begun = there.facts(half) is not None
        wrote = _write(there, packed, half, size, progress)
        if wrote.image_sha256 != sha256:
            there.remove(half)
            raise BadImage(f"{packed} unpacks to another image than the one that was packed")
        # Of a new file the rest is holes; what is in one that was begun before must be looked at.
        if checksum(there, half, size, progress) == sha256 if begun else _reads_back(there, half, wrote):
            there.rename(half, path)
            return True
        there.remove(half)  # it was half of something else: once more from the beginning
    raise BadImage("what the storage server took is not what was sent")


def checksum(there: Session, path: str, size: int, progress: Progress) -> str:
    digest, done = hashlib.sha256(), 0
    for chunk in _chunks(there.read(path, 0, size)):
        digest.update(chunk)
        done += len(chunk)
        progress(done)
    return digest.hexdigest()


@dataclass
class _Wrote:
    """Of the whole image, and of those parts that were sent, which are (start, end)."""

    image_sha256: str
    parts: list[tuple[int, int]]
    parts_sha256: str


def _write(there: Session, packed: Path, path: str, size: int, progress: Progress) -> _Wrote:
    """In order, so that what is there of a half one is its beginning."""
    have = there.facts(path)
    skip = (have.size if have and have.size < size else 0) // CHUNK * CHUNK
    image, sent, parts, done = hashlib.sha256(), hashlib.sha256(), [(0, 0)], 0
    with there.writing(path) as file:
        for chunk in _unpacked(packed):
            image.update(chunk)
            end = done + len(chunk)
            if done >= skip and chunk != _EMPTY[: len(chunk)]:
                file.at(done, chunk)
                sent.update(chunk)
                parts[-1:] = [(parts[-1][0], end)] if parts[-1][1] == done else [parts[-1], (done, end)]
            done = end
            progress(done)
        if done != size:
            raise BadImage(f"{packed} unpacks to {done} bytes instead of {size}")
        file.size(size)
    return _Wrote(image.hexdigest(), parts, sent.hexdigest())


def _reads_back(there: Session, path: str, wrote: _Wrote) -> bool:
    digest = hashlib.sha256()
    for start, end in wrote.parts:
        for part in there.read(path, start, end):
            digest.update(part)
    return digest.hexdigest() == wrote.parts_sha256


def _unpacked(packed: Path) -> Iterator[bytes]:
    """Raises BadImage."""
    try:
        with gzip.open(packed, "rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk
    except (OSError, EOFError, zlib.error) as problem:
        raise BadImage(f"{packed} cannot be unpacked: {problem}") from None


def _chunks(parts: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of CHUNK; the last is what is left."""
    held = bytearray()
    for part in parts:
        held += part
        while len(held) >= CHUNK:
            yield bytes(held[:CHUNK])
            del held[:CHUNK]
    if held:
        yield bytes(held)
