"""Charts as shapes that a template draws as SVG. Pure: values in, shapes out.

Lengths across are percent of the drawing's width and lengths down are pixels, so a chart has the width of its place and
its words keep their size. Every chart also has its rows for a table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_CEILING, Decimal

from billing.pricing import NOTHING

HEIGHT = 176  # of the bars by day, from the highest line to the ground
TOP, BOTTOM = 10, 24  # above it for half a word, below it for the days
ROW = 44  # of a bar by service
GAP = Decimal("0.28")  # of a day's width
MOST_SERVICES = 6
STEPS = (Decimal(1), Decimal(2), Decimal("2.5"), Decimal(5))
LEAST_HEIGHT = Decimal("1.5")  # what cost anything at all can be seen
MARKS_PERCENT = (50, 80, 100)


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle; `x` and `width` in percent, `y` and `height` in pixels."""

    x: str
    width: str
    y: str = "0"
    height: str = "0"


@dataclass(frozen=True, slots=True)
class Line:
    """A line across with its amount."""

    y: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Day:
    """A day's bar: what was spent, and above it what is booked; `at` is its middle in percent."""

    day: date
    spent: Decimal
    to_come: Decimal
    at: str
    all: Box
    spent_box: Box | None
    to_come_box: Box | None
    labelled: bool


@dataclass(frozen=True, slots=True)
class ByDay:
    days: Sequence[Day]
    lines: Sequence[Line]
    height: int
    ground: str
    label_y: str

    @property
    def any_to_come(self) -> bool:
        return any(day.to_come for day in self.days)


@dataclass(frozen=True, slots=True)
class Service:
    """A service's bar; `y` is where its row begins, and the others follow from it."""

    name: str
    amount: Decimal
    share: int  # percent of all
    word_y: str
    bar: Box


@dataclass(frozen=True, slots=True)
class ByService:
    rows: Sequence[Service]
    height: int


@dataclass(frozen=True, slots=True)
class Mark:
    percent: int
    x: str
    reached: bool


@dataclass(frozen=True, slots=True)
class Budget:
    """How much of a budget is spent, in whole percent (rounded down: 100 is all of it), and what it will come to."""

    spent: Box
    forecast: Box | None
    marks: Sequence[Mark]
    spent_percent: int
    forecast_percent: int

    @property
    def level(self) -> str:
        """How much of it is spent, as the last mark that was reached."""
        if self.spent_percent >= 100:
            return "is-full"
        return "is-high" if self.spent_percent >= 80 else ""

    @property
    def will_be_over(self) -> bool:
        return self.forecast_percent > 100


def by_day(month_days: Sequence[date], spent: Mapping[date, Decimal], to_come: Mapping[date, Decimal]) -> ByDay:
    """A bar for each day. What was given back on a day (a correction) has no bar, but is in the table."""
    highest = max((_up(spent, day) + _up(to_come, day) for day in month_days), default=NOTHING)
    top, lines = _scale(highest)
    slot = Decimal(100) / max(len(month_days), 1)
    days = []
    for number, day in enumerate(month_days):
        left, across = slot * (number + GAP / 2), slot * (1 - GAP)
        spent_high, more_high = _high(_up(spent, day), top), _high(_up(to_come, day), top)
        ground = Decimal(TOP + HEIGHT)
        days.append(
            Day(
                day,
                spent.get(day, NOTHING),
                to_come.get(day, NOTHING),
                _text(slot * number + slot / 2),
                Box(_text(slot * number), _text(slot), "0", str(TOP + HEIGHT)),
                _bar(left, across, ground - spent_high, spent_high),
                _bar(left, across, ground - spent_high - more_high, more_high),
                number % 7 == 0,
            )
        )
    return ByDay(days, lines, TOP + HEIGHT + BOTTOM, str(TOP + HEIGHT), str(TOP + HEIGHT + 17))


def by_service(amounts: Mapping[str, Decimal]) -> ByService:
    """The largest first; from the seventh on they are one row."""
    ordered = sorted(amounts.items(), key=lambda item: (-item[1], item[0]))
    if len(ordered) > MOST_SERVICES:
        rest = sum((amount for _, amount in ordered[MOST_SERVICES - 1 :]), NOTHING)
        ordered = [*ordered[: MOST_SERVICES - 1], (f"{len(ordered) - MOST_SERVICES + 1} others", rest)]
    longest = max((amount for _, amount in ordered), default=NOTHING)
    whole = sum((amount for _, amount in ordered if amount > 0), NOTHING)
    rows = []
    for number, (name, amount) in enumerate(ordered):
        width = max(amount, NOTHING) / longest * 100 if longest > 0 else NOTHING
        share = int((max(amount, NOTHING) / whole * 100).to_integral_value()) if whole else 0
        rows.append(Service(name, amount, share, str(number * ROW + 16), _row(width, number)))
    return ByService(rows, len(rows) * ROW)


def budget(spent: Decimal, forecast: Decimal, whole: Decimal) -> Budget:
    """The bar is as long as the budget, or as the forecast when that is more."""
    length = max(whole, spent, forecast)
    shown, coming = max(spent, NOTHING) / length * 100, max(forecast, NOTHING) / length * 100
    marks = [Mark(p, _text(whole * p / length), spent >= whole * p / 100) for p in MARKS_PERCENT]
    more = Box(_text(shown), _text(coming - shown)) if coming > shown else None
    return Budget(Box("0", _text(shown)), more, marks, int(spent * 100 // whole), int(forecast * 100 // whole))


def _scale(highest: Decimal) -> tuple[Decimal, list[Line]]:
    """A round amount at or over the highest bar, and about four lines up to it."""
    if highest <= 0:
        highest = Decimal(1)
    rough = highest / 4
    unit = Decimal(10) ** rough.adjusted()
    step = max(next((unit * s for s in STEPS if unit * s >= rough), unit * 10), Decimal("0.01"))
    count = int((highest / step).to_integral_value(ROUND_CEILING))
    return step * count, [Line(_text(TOP + HEIGHT - _high(step * n, step * count)), step * n) for n in range(count + 1)]


def _high(amount: Decimal, top: Decimal) -> Decimal:
    return max(amount / top * HEIGHT, LEAST_HEIGHT) if amount > 0 else NOTHING


def _up(amounts: Mapping[date, Decimal], day: date) -> Decimal:
    return max(amounts.get(day, NOTHING), NOTHING)


def _bar(x: Decimal, width: Decimal, y: Decimal, height: Decimal) -> Box | None:
    return Box(_text(x), _text(width), _text(y), _text(height)) if height else None


def _row(width: Decimal, number: int) -> Box:
    return Box("0", _text(width), str(number * ROW + 24), "8")


def _text(number: Decimal | int) -> str:
    """With two digits, as SVG reads it in every language."""
    return f"{number:.2f}"
