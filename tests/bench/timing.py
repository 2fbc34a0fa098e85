"""Times calls in this process: by the clock, and by the processor, which the load of others lengthens less."""

import gc
import time
from collections.abc import Callable
from typing import Any

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.bench.table import Row, median, quantile


def row(what: str, call: Callable[[], Any], *, bound_ms: float | None, times: int = 40, warm_up: int = 5) -> Row:
    """The median of so many calls, and beside it the 95th percentile and the processor's time."""
    took, busy = [], []
    gc.collect()
    gc.freeze()  # the rows that a bench has made are not the portal's to look through
    for number in range(warm_up + times):
        begun, begun_busy = time.perf_counter(), time.process_time()
        call()
        if number >= warm_up:
            took.append((time.perf_counter() - begun) * 1000)
            busy.append((time.process_time() - begun_busy) * 1000)
    shown = f"p95 {quantile(took, 0.95):.0f} ms; Python alone {median(busy):.0f} ms"
    return Row(f"{what}: median of {times}", median(took), "ms", bound_ms, shown)


def queries(call: Callable[[], Any]) -> int:
    with CaptureQueriesContext(connection) as asked:
        call()
    return len(asked)


def ask(
    client: Client, path: str, sent: dict[str, Any] | None = None, *, shows: str | tuple[str, ...] = ""
) -> Callable[[], bytes]:
    """A call that gets the page, or posts what is `sent` to it, and finds all that it `shows` in it."""
    wanted = (shows,) if isinstance(shows, str) else shows

    def call() -> bytes:
        answer = client.get(path) if sent is None else client.post(path, sent)
        if answer.status_code != 200 or not all(text.encode() in answer.content for text in wanted):
            raise AssertionError(f"{path}: {answer.status_code}, not all of {wanted}: {answer.content[:3000]!r}")
        return bytes(answer.content)

    return call
