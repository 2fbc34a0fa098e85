"""What a container wrote, read from an engine's stream of frames: bounded in lines and bytes, fit to be shown. Pure.

The Docker Engine API frames what a container without a terminal writes: one byte for the stream (1 is its standard
output, 2 its errors), three of nothing, four for the length, then the text; each line begins with its time.
"""

import re
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

MOST_LINES = 20_000
MOST_BYTES = 4_000_000  # of all lines together
MOST_CHARACTERS = 4000  # of one line
MOST_READ = 24_000_000  # of the stream: the engine keeps 10 MiB of a container's log, and frames each line
_FRAME = struct.Struct(">BxxxL")
_STAMPED = re.compile(rb"\A(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|\+00:00) ?")
# What tells a terminal to do something: CSI, OSC and the other strings, two-character escapes, in both their forms.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ufeff]")


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line without its end, without what a terminal would obey. `ns` is when: nanoseconds since 1970."""

    ns: int
    text: str
    error: bool = False

    @property
    def at(self) -> datetime:
        return datetime.fromtimestamp(self.ns // 1_000 / 1_000_000, UTC)


@dataclass(frozen=True, slots=True)
class Log:
    """The newest lines, the oldest first. `older`: there were more, which are left out."""

    lines: tuple[LogLine, ...] = ()
    older: bool = False


def read(pieces: Iterable[bytes], most: int) -> Log:
    """The last `most` lines of a stream of frames that comes in pieces of any size."""
    kept: deque[LogLine] = deque()
    size, older = 0, False
    for line in _lines(_frames(pieces)):
        kept.append(line)
        size += len(line.text)
        while len(kept) > most or size > MOST_BYTES:
            size -= len(kept.popleft().text)
            older = True
    return Log(tuple(kept), older)


def _frames(pieces: Iterable[bytes]) -> Iterator[tuple[bool, bytes]]:
    """Whether it is of the errors, and the text; the last frame may be cut off."""
    buffer, taken = bytearray(), 0
    for piece in pieces:
        buffer += piece
        taken += len(piece)
        while len(buffer) >= _FRAME.size:
            stream, length = _FRAME.unpack_from(buffer)
            if len(buffer) < _FRAME.size + length:
                break
            yield stream == 2, bytes(buffer[_FRAME.size : _FRAME.size + length])
            del buffer[: _FRAME.size + length]
        if taken > MOST_READ:
            return


def _lines(frames: Iterable[tuple[bool, bytes]]) -> Iterator[LogLine]:
    """A frame is a line or, of a very long one, a part of it: it ends with the frame that ends with its end."""
    begun: dict[bool, tuple[int, bytes]] = {}
    for error, text in frames:
        found = _STAMPED.match(text)
        ns, rest = (_nanoseconds(found), text[found.end() :]) if found else (0, text)
        first, before = begun.pop(error, (ns, b""))
        whole = before[: 4 * MOST_CHARACTERS + 4] + rest
        if whole.endswith(b"\n"):
            yield LogLine(first, clean(whole[:-1]), error)
        else:
            begun[error] = first, whole
    for error, (ns, whole) in begun.items():
        if whole:
            yield LogLine(ns, clean(whole), error)


def _nanoseconds(found: re.Match[bytes]) -> int:
    try:
        whole = datetime.strptime(found[1].decode(), "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return 0
    return int(whole.timestamp()) * 1_000_000_000 + int((found[2] or b"0").decode().ljust(9, "0"))


def clean(raw: bytes) -> str:
    """As text that does nothing: no colours, no cursor, no bells, no turned direction; what was overwritten is gone."""
    text = raw[: 4 * MOST_CHARACTERS + 4].decode(errors="replace").rstrip("\r")
    text = _ESCAPES.sub("", text.rpartition("\r")[2])  # a progress bar begins its line anew with each step
    text = _UNSEEN.sub("", text)
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"
