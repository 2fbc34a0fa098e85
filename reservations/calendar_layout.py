"""Where reservations lie in weeks of the reader's zone. Pure but for reading the rows that it is given.

A day is from one midnight of the zone to the next, be it 23, 24 or 25 hours long; each day is as wide as the others.
Places are percentages of a week's width, since nothing may be said in a style attribute.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import pairwise
from zoneinfo import ZoneInfo

from reservations.models import Reservation

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
LABEL = 14.0  # % of a week: the room that a label gets at least
LETTERS = 1.25  # in a percent of a week, on a page that is narrow but no phone's
LANE = 30  # px
OPENS_AT = time(9)  # when a day that is chosen whole is booked from


@dataclass(frozen=True, slots=True)
class Bar:
    """A reservation as a stretch of one week. `before` and `after`: it goes on there."""

    reservation: Reservation
    lane: int
    left: float
    width: float
    before: bool
    after: bool

    @property
    def y(self) -> int:
        return self.lane * LANE + 4

    @property
    def x(self) -> str:
        return f"{self.left:.3f}%"

    @property
    def wide(self) -> str:
        return f"{self.width:.3f}%"

    @property
    def label_x(self) -> str:
        """Beginning with the bar, or moved so far that it ends with the week."""
        return f"{min(self.left, 100 - LABEL):.3f}%"

    @property
    def label(self) -> str:
        """As much of the title as there is room for; arrows where it goes on before or after the week."""
        most, title = int(max(self.width, LABEL) * LETTERS), self.reservation.title
        title = title if len(title) <= most else f"{title[: most - 1].rstrip()}…"
        return f"{'‹ ' if self.before else ''}{title}{' ›' if self.after else ''}"


@dataclass(frozen=True, slots=True)
class Slot:
    """A stretch that is still to come, to be booked from `start` on, as the booking form reads it."""

    left: float
    width: float
    start: datetime

    @property
    def x(self) -> str:
        return f"{self.left:.3f}%"

    @property
    def wide(self) -> str:
        return f"{self.width:.3f}%"


@dataclass(frozen=True, slots=True)
class Day:
    """`book_from` is None for one that is over; `other`: of another month than the one that is shown."""

    day: date
    is_today: bool
    other: bool
    book_from: datetime | None


@dataclass(slots=True)
class Week:
    """Seven days; `more` is how many reservations found no lane."""

    days: list[Day]
    bars: list[Bar] = field(default_factory=list)
    slots: list[Slot] = field(default_factory=list)
    now: float | None = None
    more: int = 0
    lanes: int = 1

    @property
    def height(self) -> int:
        return self.lanes * LANE + 8

    @property
    def now_x(self) -> str:
        return "" if self.now is None else f"{self.now:.3f}%"


@dataclass(frozen=True, slots=True)
class Entry:
    """A reservation on one day of the agenda, with its hours there. `whole`: all of the day."""

    reservation: Reservation
    begins: datetime
    ends: datetime
    whole: bool


@dataclass(frozen=True, slots=True)
class AgendaDay:
    """What there is on a day; `more` is how many are not among the entries."""

    day: date
    entries: list[Entry]
    more: int


def midnight(day: date, zone: tzinfo) -> datetime:
    """The first instant of the day. Where a clock skips midnight, that is the instant of the skip."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


def monday(day: date) -> date:
    return day - timedelta(days=day.weekday())


def span(reservation: Reservation) -> tuple[datetime, datetime] | None:
    """From when to when it had its place; None: it was cancelled before it began."""
    end = reservation.end
    if reservation.ended_at and not reservation.is_live:
        end = min(end, reservation.ended_at)
    return (reservation.start, end) if end > reservation.start else None


def weeks(
    rows: Sequence[Reservation],
    first: date,
    count: int,
    zone: ZoneInfo,
    now: datetime,
    *,
    most_lanes: int,
    month: int = 0,
) -> list[Week]:
    """So many weeks from a Monday on. With `month` days of other months are told apart."""
    spans = _spans(rows)
    return [_week(spans, first + timedelta(weeks=number), zone, now, most_lanes, month) for number in range(count)]


def agenda(
    rows: Sequence[Reservation], first: date, days: int, zone: ZoneInfo, *, most: int | None = None
) -> list[AgendaDay]:
    """Day by day, without those on which there is nothing. At most so many entries of each day: its first."""
    spans, found = _spans(rows), []
    for day in (first + timedelta(days=number) for number in range(days)):
        opens, closes = midnight(day, zone), midnight(day + DAY, zone)
        entries = [
            Entry(row, max(begins, opens), min(ends, closes), begins <= opens and ends >= closes)
            for row, begins, ends in spans
            if begins < closes and ends > opens
        ]
        if entries:
            shown = sorted(entries, key=lambda entry: (entry.begins, entry.ends))[:most]
            found.append(AgendaDay(day, shown, len(entries) - len(shown)))
    return found


Span = tuple[Reservation, datetime, datetime]


def _spans(rows: Sequence[Reservation]) -> list[Span]:
    return [(row, *found) for row in rows if (found := span(row))]


def _week(spans: Sequence[Span], first: date, zone: ZoneInfo, now: datetime, most_lanes: int, month: int) -> Week:
    dates = [first + timedelta(days=number) for number in range(8)]
    edges = [midnight(day, zone) for day in dates]
    today = now.astimezone(zone).date()
    made = Week([_day(day, opens, zone, now, today, month) for day, opens in zip(dates[:7], edges, strict=False)])
    ends: list[float] = []  # of each lane: where the last label in it ends
    inside = [(row, b, e) for row, b, e in spans if b < edges[-1] and e > edges[0]]
    for row, begins, closes in sorted(inside, key=lambda found: (found[1], -found[2].timestamp(), found[0].pk)):
        left, right = _place(max(begins, edges[0]), edges), _place(min(closes, edges[-1]), edges)
        label = min(left, 100 - LABEL)
        lane = next((number for number, end in enumerate(ends) if end <= label), len(ends))
        if lane >= most_lanes:
            made.more += 1
            continue
        ends[lane : lane + 1] = [max(right, label + LABEL)]
        made.bars.append(Bar(row, lane, left, max(right - left, 0.3), begins < edges[0], closes > edges[-1]))
    made.lanes = max(len(ends), 1) + (1 if most_lanes > len(ends) else 0)
    made.slots = list(_slots(edges, now))
    if edges[0] <= now < edges[-1]:
        made.now = _place(now, edges)
    return made


def _place(at: datetime, edges: Sequence[datetime]) -> float:
    """In percent of the week: by the day, and within it by the time that has really passed."""
    index = min(bisect_right(edges, at) - 1, 6)
    return (index + (at - edges[index]) / (edges[index + 1] - edges[index])) * 100 / 7


def _day(day: date, opens: datetime, zone: ZoneInfo, now: datetime, today: date, month: int) -> Day:
    book_from: datetime | None = datetime.combine(day, OPENS_AT, zone)
    if day < today:
        book_from = None
    elif day == today:
        book_from = _next_hour(now).astimezone(zone)
    return Day(day, day == today, bool(month) and day.month != month, book_from)


def _slots(edges: Sequence[datetime], now: datetime) -> Iterator[Slot]:
    """Hour by hour of what really passes: a day on which the clock is changed has 23 or 25 of them."""
    for opens, closes in pairwise(edges):
        at = opens
        while at < closes:
            until = min(at + HOUR, closes)
            if until > now:
                yield Slot(_place(at, edges), (until - at) / (closes - opens) * 100 / 7, max(at, _up(now)))
            at = until


def _up(now: datetime) -> datetime:
    """The next full minute, which is what can be typed."""
    return now.replace(second=0, microsecond=0) + timedelta(minutes=1)


def _next_hour(now: datetime) -> datetime:
    return now.replace(minute=0, second=0, microsecond=0) + HOUR
