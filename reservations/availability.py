"""A week's room for a size, hour by hour in the reader's zone: the picture that a start is clicked in.

Nothing is cached: the picture of a thousand nodes is one query of the load steps (compute/slots.py). An hour is free
when nodes have room all through it, which says nothing of a longer time: the quote of a start says that.
"""

from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal

from compute import slots
from compute.scheduler import Request
from compute.slots import HOUR

DAYS = 7
FREE, TIGHT, FULL, PAST = "free", "tight", "full", "past"


@dataclass(frozen=True, slots=True)
class Hour:
    """One hour of a day: its instant, and how much room there is."""

    start: datetime
    room: str
    fitting: int = 0
    has_begun: bool = False

    @property
    def can_start(self) -> bool:
        return self.room in {FREE, TIGHT}


@dataclass(frozen=True, slots=True)
class Day:
    """A day of the reader's calendar: 24 places, None for an hour that this day does not have (summer time begins)."""

    day: date
    hours: list[Hour | None]


@dataclass(frozen=True, slots=True)
class Week:
    days: list[Day]
    nodes: int
    clock: range = range(24)

    @property
    def is_empty(self) -> bool:
        """Whether no hour of it has room."""
        return not any(hour and hour.can_start for day in self.days for hour in day.hours)


def hours_from(
    *, ram_mib: int, cores: Decimal, needs_host: bool, start: datetime, hours: int
) -> tuple[int, list[Hour]]:
    """How many nodes are big enough, and the room in so many hours from `start` on."""
    found = slots.week(Request(ram_mib, cores, start, start + HOUR, needs_host), hours)
    rooms = [(fitting, _room(fitting, found.nodes)) for fitting in found.fitting]
    return found.nodes, [Hour(start + number * HOUR, room, many) for number, (many, room) in enumerate(rooms)]


def week(*, ram_mib: int, cores: Decimal, needs_host: bool, now: datetime, zone: tzinfo) -> Week:
    """The seven days from today on in `zone`. When an hour comes twice (summer time ends), its first is shown."""
    today = now.astimezone(zone).date()
    begin = datetime.combine(today, time(), zone).astimezone(now.tzinfo)
    end = datetime.combine(today + timedelta(days=DAYS), time(), zone)
    nodes, hours = hours_from(
        ram_mib=ram_mib, cores=cores, needs_host=needs_host, start=begin, hours=int((end - begin) / HOUR)
    )
    places: dict[tuple[date, int], Hour] = {}
    for hour in hours:
        local = hour.start.astimezone(zone)
        over = hour.start + HOUR <= now
        shown = Hour(hour.start, PAST) if over else replace(hour, has_begun=hour.start <= now)
        places.setdefault((local.date(), local.hour), shown)
    days = [today + timedelta(days=number) for number in range(DAYS)]
    return Week([Day(day, [places.get((day, hour)) for hour in range(24)]) for day in days], nodes)


def _room(fitting: int, nodes: int) -> str:
    """Tight is a tenth of the nodes or less, but not all of them."""
    if fitting == 0:
        return FULL
    return TIGHT if fitting < nodes and fitting <= -(-nodes // 10) else FREE
