"""The price of serving. Pure, and exact until a part of a bill is rounded to the cent.

Everything is *cumulative*: `cost` says what was served until an instant costs in all, and what a month or a day adds
is the difference of two of these. So the parts of a bill always add up to the whole, however it is split.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from itertools import pairwise
from typing import Any, Self
from zoneinfo import ZoneInfo

from billing import months

HOUR = timedelta(hours=1)
CENT = Decimal("0.01")
NOTHING = Decimal("0.00")
Interval = tuple[datetime, datetime]


class Rounding(StrEnum):
    """How served time is counted. Storage is always counted by the second."""

    HOUR = "hour"
    SECOND = "second"


@dataclass(frozen=True, slots=True)
class Price:
    """What a unit costs from `since` on; `discount_percent` is taken off all of it."""

    since: datetime
    per_core_hour: Decimal
    per_gib_hour: Decimal = Decimal(0)
    per_gb_month: Decimal = Decimal(0)
    discount_percent: Decimal = Decimal(0)

    @property
    def factor(self) -> Fraction:
        return 1 - Fraction(self.discount_percent) / 100


@dataclass(frozen=True, slots=True)
class Terms:
    """What a booking was promised: its prices, oldest first, and how time is counted.

    The first price holds from the beginning on, whatever its `since` says. `zone` is where months begin, which the
    price of storage needs. Currency is an ISO 4217 code. With `booked`, the window of a booking, nothing costs more
    than if all of it had been served: an hour that begins late, since we were, may have a dearer price than promised.
    """

    prices: tuple[Price, ...]
    rounding: Rounding = Rounding.HOUR
    zone: str = "UTC"
    currency: str = "USD"
    booked: Interval | None = None

    def as_json(self) -> dict[str, Any]:
        prices = [
            {
                "since": price.since.isoformat(),
                "per_core_hour": str(price.per_core_hour),
                "per_gib_hour": str(price.per_gib_hour),
                "per_gb_month": str(price.per_gb_month),
                "discount_percent": str(price.discount_percent),
            }
            for price in self.prices
        ]
        return {"prices": prices, "rounding": self.rounding, "zone": self.zone, "currency": self.currency}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Self:
        """As it was kept; what an older version did not know has its usual value."""
        prices = [
            Price(
                datetime.fromisoformat(price["since"]),
                *(Decimal(price.get(name, 0)) for name in Price.__slots__ if name != "since"),
            )
            for price in kept["prices"]
        ]
        return cls(
            tuple(prices), Rounding(kept.get("rounding", "hour")), kept.get("zone", "UTC"), kept.get("currency", "USD")
        )


@dataclass(frozen=True, slots=True)
class Size:
    """What is served at once. Storage that is charged by itself (kept volumes) counts as 0 here."""

    cores: Decimal
    ram_mib: int = 0
    storage_gb: int = 0


@dataclass(frozen=True, slots=True)
class Cost:
    """What served time costs; each part is rounded to the cent, and `amount` is their sum."""

    served: timedelta = timedelta(0)
    started_hours: int = 0
    cores: Decimal = NOTHING
    ram: Decimal = NOTHING
    storage: Decimal = NOTHING

    @property
    def amount(self) -> Decimal:
        return self.cores + self.ram + self.storage

    def __sub__(self, earlier: "Cost") -> "Cost":
        """What came after `earlier`."""
        return Cost(
            self.served - earlier.served,
            self.started_hours - earlier.started_hours,
            self.cores - earlier.cores,
            self.ram - earlier.ram,
            self.storage - earlier.storage,
        )

    def at_most(self, whole: "Cost") -> "Cost":
        """No part of it above the same part of `whole`."""
        parts = {name: min(getattr(self, name), getattr(whole, name)) for name in ("cores", "ram", "storage")}
        return replace(self, **parts)


def cost(served: Iterable[Interval], size: Size, terms: Terms, until: datetime | None = None) -> Cost:
    """What `served` (intervals that do not overlap) costs, as far as it lies before `until`.

    Started hours: ⌈served / 1 h⌉ over all intervals together; an hour has the price of the instant it begins at.
    A month of storage is the calendar month in the terms' zone: a whole one costs its price, be it February.
    """
    intervals = sorted(_clipped(served, until))
    cores = ram = storage = Fraction(0)
    for price, start, end in _spans(terms.prices, intervals):
        hours = _counted(intervals, end, terms.rounding) - _counted(intervals, start, terms.rounding)
        cores += hours * Fraction(size.cores) * Fraction(price.per_core_hour) * price.factor
        ram += hours * Fraction(size.ram_mib, 1024) * Fraction(price.per_gib_hour) * price.factor
        if size.storage_gb and price.per_gb_month:
            share = _months(_within(intervals, start, end), ZoneInfo(terms.zone))
            storage += share * size.storage_gb * Fraction(price.per_gb_month) * price.factor
    total = sum((end - start for start, end in intervals), timedelta(0))
    found = Cost(total, started_hours(total), to_cents(cores), to_cents(ram), to_cents(storage))
    if terms.booked is None or len(terms.prices) == 1:  # with one price less time never costs more
        return found
    return found.at_most(cost([terms.booked], size, replace(terms, booked=None)))


def by_month(served: Sequence[Interval], size: Size, terms: Terms, zone: ZoneInfo) -> dict[date, Cost]:
    """What each calendar month adds; the parts add up to the cost of the whole."""
    return _differences(served, size, terms, [(m, months.stretch(m, zone)[1]) for m in _touched(served, zone)])


def by_day(served: Sequence[Interval], size: Size, terms: Terms, zone: ZoneInfo) -> dict[date, Cost]:
    """What each day adds; the parts add up to the cost of the whole."""
    found = sorted({day for start, end in served for day in months.days(start, end, zone)})
    ends = [(day, months.begin(day + timedelta(days=1), zone)) for day in found]
    return _differences(served, size, terms, ends)


def started_hours(served: timedelta) -> int:
    """Hours counted in full once begun: ⌈served / 1 h⌉; nothing served is 0."""
    return -(-max(served, timedelta(0)) // HOUR)


def to_cents(exact: Fraction) -> Decimal:
    """Rounded half up, away from zero."""
    cents = abs(exact) * 100
    whole = (2 * cents.numerator + cents.denominator) // (2 * cents.denominator)
    return (Decimal(whole) * CENT).copy_sign(Decimal(1 if exact >= 0 else -1)) if whole else NOTHING


def percent_of(amount: Decimal, percent: Decimal) -> Decimal:
    """So many percent of an amount, to the cent."""
    return to_cents(Fraction(amount) * Fraction(percent) / 100)


def _differences(
    served: Sequence[Interval], size: Size, terms: Terms, ends: list[tuple[date, datetime]]
) -> dict[date, Cost]:
    parts, before = {}, Cost()
    for name, end in ends:
        until = cost(served, size, terms, end)
        parts[name], before = until - before, until
    return parts


def _touched(served: Sequence[Interval], zone: ZoneInfo) -> list[date]:
    return sorted({month for start, end in served for month in months.months(start, end, zone)})


def _clipped(served: Iterable[Interval], until: datetime | None) -> Iterator[Interval]:
    for start, end in served:
        stop = end if until is None else min(end, until)
        if start < stop:
            yield start, stop


def _spans(prices: Sequence[Price], intervals: Sequence[Interval]) -> Iterator[tuple[Price, datetime, datetime]]:
    """Each price with the stretch in which it holds, as far as something was served then."""
    if not intervals:
        return
    first, last = intervals[0][0], max(end for _, end in intervals)
    edges = [first, *(min(max(price.since, first), last) for price in prices[1:]), last]
    for price, (start, end) in zip(prices, pairwise(edges), strict=True):
        if start < end:
            yield price, start, end


def _counted(intervals: Sequence[Interval], before: datetime, rounding: Rounding) -> Fraction:
    """The hours to pay of what was served before an instant."""
    served = sum((min(end, before) - start for start, end in intervals if start < before), timedelta(0))
    return Fraction(started_hours(served)) if rounding == Rounding.HOUR else Fraction(served // _TICK, HOUR // _TICK)


def _within(intervals: Iterable[Interval], start: datetime, end: datetime) -> Iterator[Interval]:
    for opens, closes in intervals:
        if max(opens, start) < min(closes, end):
            yield max(opens, start), min(closes, end)


def _months(intervals: Iterable[Interval], zone: ZoneInfo) -> Fraction:
    """How many calendar months these are: each counts with the part of it that they cover."""
    share = Fraction(0)
    for start, end in intervals:
        for month in months.months(start, end, zone):
            opens, closes = months.stretch(month, zone)
            covered = min(end, closes) - max(start, opens)
            share += Fraction(covered // _TICK, (closes - opens) // _TICK)
    return share


_TICK = timedelta(microseconds=1)
