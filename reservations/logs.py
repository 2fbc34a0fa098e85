"""A reservation's log: the last lines that its container wrote, searched, or why there are none."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from compute import drivers
from compute.engine import EngineRefused, NoAnswer
from compute.log_lines import MOST_LINES, Log, LogLine
from reservations.models import Reservation
from reservations.states import State

USUAL = 200
TAILS = (100, 200, 1000, 3000)  # that the page offers; a browser shows more only with pain
MOST_SEARCHED = 200  # characters
GONE = "Its container was removed, and its log with it."


@dataclass(frozen=True, slots=True)
class Found:
    """`lines` are the oldest first; `problem` says why there are none to be had.

    `cursor` is what to ask with for what is written later; `looked_at` is how many lines were searched.
    """

    lines: tuple[LogLine, ...] = ()
    problem: str = ""
    older: bool = False
    cursor: int | None = None
    looked_at: int = 0


def read(reservation: Reservation, *, tail: int = USUAL, after_ns: int | None = None, search: str = "") -> Found:
    """The last `tail` lines, of those that hold `search` (in any case), written after `after_ns`. Never raises."""
    container = reservation.current_container
    if container is None or container.gone_at is not None or not reservation.is_live:
        return Found(problem=GONE)
    if not container.touched or reservation.state in {State.BOOKED, State.OFFERED}:
        return Found(problem="It has not been started yet.", cursor=after_ns)
    if not container.node.answers:
        return Found(problem="Its node gives no answer at the moment.", cursor=after_ns)
    try:
        log = drivers.engine(container.node).logs(
            container.machine_name, tail=MOST_LINES if search else tail, since_ns=after_ns
        )
    except (NoAnswer, EngineRefused):
        return Found(problem="Its node gives no answer at the moment.", cursor=after_ns)
    if log is None:
        starting = reservation.state == State.STARTING
        return Found(problem="Its container has not been made yet." if starting else GONE, cursor=after_ns)
    return _searched(log, tail, after_ns, search)


def _searched(log: Log, tail: int, after_ns: int | None, search: str) -> Found:
    lines, word = log.lines, search.casefold()
    if word:
        lines = tuple(line for line in lines if word in line.text.casefold())
    cursor = max((line.ns for line in log.lines), default=after_ns)
    return Found(lines[-tail:], older=log.older or len(lines) > tail, cursor=cursor, looked_at=len(log.lines))


def as_text(lines: tuple[LogLine, ...]) -> Iterator[str]:
    """For a file: each line with its time (UTC) and, of the errors, a mark."""
    for line in lines:
        yield f"{line.at.isoformat(timespec='microseconds')} {'E ' if line.error else '  '}{line.text}\n"


def cursor_of(text: str) -> int | None:
    """A cursor (a number) or a time with its zone, as nanoseconds; None for nothing. Raises ValueError."""
    if not text:
        return None
    if re.fullmatch(r"[0-9]{1,20}", text):
        return min(int(text), 2**62)
    try:
        at = datetime.fromisoformat(text[:40])
    except ValueError:
        raise ValueError("This is no time, and no cursor of an earlier answer") from None
    if at.tzinfo is None:
        raise ValueError("A time needs its zone, as in 2026-12-01T09:00:00Z")
    return max(0, int(at.timestamp() * 1_000_000)) * 1000
