"""What a container wrote, asked of the Docker Engine API: over the SDK's own connections, bounded in bytes and time."""

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from compute import log_lines
from compute.log_lines import Log

PIECE = 65_536
PIECE_LIMIT_S = 4.0  # for the connection, and for the next piece: who asks is looking at the page
TIME_LIMIT_S = 8.0  # for all of it; what was read until then is told


def read(client: Any, name: str, tail: int, since_ns: int | None) -> Log:
    """Raises the SDK's NotFound when there is no such container."""
    query: dict[str, str | int] = {"stdout": 1, "stderr": 1, "timestamps": 1, "tail": tail}
    if since_ns is not None:
        seconds, rest = divmod(since_ns + 1, 1_000_000_000)  # the engine tells what is of this instant, too
        query["since"] = f"{seconds}.{rest:09d}"
    address = client._url("/containers/{0}/logs", quote(name, safe=""))
    with client._get(address, params=query, stream=True) as answer:
        client._raise_for_status(answer)
        return log_lines.read(_in_time(answer.iter_content(PIECE)), tail)


def _in_time(pieces: Iterator[bytes]) -> Iterator[bytes]:
    until = time.monotonic() + TIME_LIMIT_S
    for piece in pieces:
        yield piece
        if time.monotonic() > until:
            return
