"""From a commit to 500 open pages: all of one workspace, the worst case, while a hundred reservations change."""

import selectors
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from tests.bench.ground import BenchError, Ground, booking
from tests.bench.table import Outcome, Row, quantile

VIEWERS, PER_USER, CHANGES = 500, 50, 100
PAUSE_S = 0.05
BOUND_S = 1.0
GIVE_UP_S = 20.0


def measure(ground: Ground) -> Outcome:
    from django.utils import timezone

    with _users(VIEWERS // PER_USER) as users, ExitStack() as open_pages:
        crowd = _Crowd(open_pages, [users[k % len(users)] for k in range(VIEWERS)])
        crowd.wait_until_all_hear()
        tomorrow = (timezone.now() + timedelta(days=1)).isoformat()
        row = ground.api().call("POST", "/reservations", booking() | {"start": tomorrow})  # no machine is busy with it
        change = partial(_change, row["id"])
        took = [delay for number in range(CHANGES) for delay in crowd.time_one(change, f"step {number}")]
    rows = [
        Row(
            f"a change of state until {VIEWERS} open pages know of it; the slowest of {CHANGES} changes",
            max(took),
            "s",
            BOUND_S,
            f"p50 {quantile(took, 0.5) * 1000:.0f} ms, p99 {quantile(took, 0.99) * 1000:.0f} ms",
        )
    ]
    return Outcome("live", rows, ["until the bytes are there; a browser paints the word in the same turn of its loop"])


@contextmanager
def _users(count: int) -> Iterator[list[int]]:
    """Members of the bench's own workspace, gone afterwards."""
    from accounts.models import Membership, User
    from accounts.workspaces import personal_workspace

    workspace = personal_workspace(User.objects.get(username="bench"))
    mark = uuid.uuid4().hex[:8]
    users = [User.objects.create_user(f"bench-{mark}-{n}") for n in range(count)]
    try:
        Membership.objects.bulk_create(Membership(workspace=workspace, user=user) for user in users)
        yield [user.pk for user in users]
    finally:
        User.objects.filter(pk__in=[user.pk for user in users]).delete()


def _change(number: int, reason: str) -> float:
    """Change the row that everybody looks at, and no other: older benches have booked, too. When it was committed."""
    from reservations.models import Reservation

    Reservation.objects.filter(pk=number).update(reason=reason)
    return time.perf_counter()


class _Crowd:
    """Streams of events over raw sockets, read by one thread."""

    def __init__(self, closing: ExitStack, users: list[int]) -> None:
        from django.conf import settings

        from portal.live import tickets

        self._selector = closing.enter_context(selectors.DefaultSelector())
        self._heard: dict[int, bytes] = {}
        address = urlsplit(settings.BERTH_LIVE_URL)
        if not address.hostname or not address.port:
            raise BenchError("BERTH_LIVE_URL is not set: nothing tells pages of changes")
        for user in users:
            stream = closing.enter_context(socket.create_connection((address.hostname, address.port), timeout=10))
            path = f"{address.path.rstrip('/')}/events?ticket={tickets.ticket(user)}"
            stream.sendall(f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
            stream.setblocking(False)
            self._selector.register(stream, selectors.EVENT_READ)
            self._heard[stream.fileno()] = b""
        self.count = len(users)

    def wait_until_all_hear(self) -> None:
        self._read(b"event: hello", time.perf_counter())

    def time_one(self, change: Any, what: str) -> list[float]:
        """Seconds from the commit until each page was told."""
        for number in self._heard:
            self._heard[number] = b""
        delays = self._read(b"event: reservation", change(what))
        time.sleep(PAUSE_S)
        return delays

    def _read(self, wanted: bytes, since: float) -> list[float]:
        found: list[float] = []
        while len(found) < self.count:
            if time.perf_counter() - since > GIVE_UP_S:
                raise BenchError(f"{self.count - len(found)} of {self.count} pages were not told")
            for key, _ in self._selector.select(0.1):
                before = self._heard[key.fd]
                try:
                    got = key.fileobj.recv(65_536)  # type: ignore[union-attr]  # only sockets are registered
                except BlockingIOError:
                    continue
                if not got or (not before and b" 503 " in got[:20]):
                    raise BenchError(f"a stream was ended: {got[:200]!r}")
                self._heard[key.fd] = before + got
                if wanted in self._heard[key.fd] and wanted not in before:
                    found.append(max(time.perf_counter() - since, 0.0))
        return found
