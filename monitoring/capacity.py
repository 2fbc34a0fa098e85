"""How full the fleet is and will be: what is lent against what is held, hour by hour, and when it is full. Pure.

Everything is computed from the step functions of `compute.room`, which are read with one query.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from compute.room import Line, Room
from compute.scheduler import Request
from reservations.models import Size

DAYS = 7
HOURS = DAYS * 24
LOOK_AHEAD = timedelta(days=30)
WIDTH, HEIGHT = 840, 60  # of a chart, in its own units: an hour is five wide
_HOUR_US = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Course:
    """What is held of a node, or of all together, in each of the next hours: the most of each."""

    name: str
    lent: int
    peaks: Sequence[int]
    what: str  # ram (MiB) or cores (hundredths)
    lends: bool = True

    @property
    def peak(self) -> int:
        return max(self.peaks)

    def words(self, amount: int) -> str:
        if self.what == "ram":
            return f"{amount / 1024:.1f} GiB" if amount >= 1024 else f"{amount} MiB"
        return f"{amount / 100:g} core{'' if amount == 100 else 's'}"

    @property
    def lent_words(self) -> str:
        return self.words(self.lent)

    @property
    def peak_words(self) -> str:
        return self.words(self.peak)

    @property
    def now_words(self) -> str:
        return self.words(self.peaks[0])

    @property
    def percent(self) -> int:
        return round(100 * self.peak / self.lent) if self.lent else 0

    @property
    def percent_now(self) -> int:
        return round(100 * self.peaks[0] / self.lent) if self.lent else 0

    @property
    def area(self) -> str:
        """An SVG path; equal hours are one step."""
        top = max(self.lent, self.peak, 1)
        parts, before = [f"M0 {HEIGHT}"], None
        for hour, held in enumerate(self.peaks):
            if held != before:
                y = round(HEIGHT * (1 - held / top), 1)
                parts.append(f"H{hour * WIDTH // HOURS}V{y:g}")
                before = held
        return "".join([*parts, f"H{WIDTH}V{HEIGHT}Z"])

    @property
    def lent_y(self) -> float:
        """Where the line of what is lent is: lower than the top when more is held than that."""
        return round(HEIGHT * (1 - self.lent / max(self.lent, self.peak, 1)), 1)


def course(line: Line, now: datetime, what: str) -> Course:
    """Of one node; `what` is ram (MiB) or cores (hundredths)."""
    held, lent = (line.ram_held, line.ram) if what == "ram" else (line.cores_held, line.cores)
    return Course(line.name, lent, _hourly(line.at, held, now), what, line.lends)


def in_sum(lines: Sequence[Line], now: datetime, what: str) -> Course:
    """Of all that lend, added up at each instant."""
    lending = [line for line in lines if line.lends]
    changes: dict[int, int] = {}
    for line in lending:
        before = 0
        for at, held in zip(line.at, line.ram_held if what == "ram" else line.cores_held, strict=True):
            changes[at] = changes.get(at, 0) + held - before
            before = held
    instants, sums, total = sorted(changes), [], 0
    for at in instants:
        total += changes[at]
        sums.append(total)
    lent = sum(line.ram if what == "ram" else line.cores for line in lending)
    return Course("all together", lent, _hourly(instants, sums, now), what)


def _hourly(at: Sequence[int], held: Sequence[int], now: datetime) -> list[int]:
    """The most that is held in each of the next hours, the first of which begins now."""
    start = int(now.timestamp()) * 1_000_000
    peaks, current, index = [], 0, 0
    for hour in range(HOURS):
        begin, end = start + hour * _HOUR_US, start + (hour + 1) * _HOUR_US
        while index < len(at) and at[index] <= begin:
            current = held[index]
            index += 1
        most = current
        while index < len(at) and at[index] < end:
            current = held[index]
            most = max(most, current)
            index += 1
        peaks.append(most)
    return peaks


@dataclass(frozen=True, slots=True)
class SizeRoom:
    """How many more of a size fit now, and from when on one more would fit nowhere."""

    size: Size
    now_for_1_h: int
    now_for_8_h: int
    full_for_1_h: datetime | None
    full_for_8_h: datetime | None


def room_of(sizes: Sequence[Size], lines: Sequence[Line], now: datetime) -> list[SizeRoom]:
    room = Room([line for line in lines if line.lends])
    return [_room_of(size, room, now) for size in sizes]


def _room_of(size: Size, room: Room, now: datetime) -> SizeRoom:
    hour, night = (_request(size.ram_mib, size.cores, now, hours) for hours in (1, 8))
    until = now + LOOK_AHEAD
    return SizeRoom(size, room.count(hour), room.count(night), room.full_at(hour, until), room.full_at(night, until))


def _request(ram_mib: int, cores: Decimal, now: datetime, hours: int) -> Request:
    return Request(ram_mib, cores, now, now + timedelta(hours=hours))
