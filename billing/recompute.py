"""What served time costs, computed a second time and in another way, to check the first (billing.pricing). Pure.

Nothing is shared with the code that makes the bills: the kept terms are read here again, time is counted in whole
microseconds since 1970, started hours are walked one by one, months begin where the clock of their zone says so, and
money is whole numbers until it is rounded to the cent.
"""

import calendar
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
_PRICE, _PERCENT, _CORES = 10**8, 10**4, 10**2  # a price of 1, all of it to pay, one core
_BEGIN = datetime(1970, 1, 1, tzinfo=UTC)

Span = tuple[int, int]  # [from, until) in microseconds
Month = tuple[int, int]  # year and number
Cents = tuple[int, ...]  # for cores, RAM and storage


@dataclass(frozen=True, slots=True)
class Tariff:
    """Prices of the units from `since` on, in 1/100,000,000 of the currency; `pays` are 1/10,000 of them."""

    since: int
    core_hour: int
    gib_hour: int
    gb_month: int
    pays: int


@dataclass(frozen=True, slots=True)
class Deal:
    """What was promised: tariffs in order of time; the first holds from the beginning on.

    Neither cores nor RAM nor storage cost more than in `window`, the booked time, served whole.
    """

    tariffs: tuple[Tariff, ...]
    by_second: bool
    zone: str
    currency: str
    window: Span | None = None


@dataclass(frozen=True, slots=True)
class Thing:
    """What is served: 1/100 cores, MiB, GB."""

    cores: int
    ram_mib: int
    storage_gb: int


def micros(instant: datetime) -> int:
    passed = instant - _BEGIN
    return passed.days * DAY + passed.seconds * SECOND + passed.microseconds


def whole(value: object, unit: int) -> int:
    """A decimal number in 1/unit; raises ValueError when it is finer than that."""
    scaled = Decimal(str(value)) * unit
    if scaled != scaled.to_integral_value():
        raise ValueError(f"{value} is finer than 1/{unit}")
    return int(scaled)


def deal(kept: Mapping[str, Any]) -> Deal:
    """The terms as a booking keeps them. Raises KeyError or ValueError when they cannot be read."""
    tariffs = [
        Tariff(
            micros(datetime.fromisoformat(line["since"])),
            whole(line["per_core_hour"], _PRICE),
            whole(line.get("per_gib_hour", 0), _PRICE),
            whole(line.get("per_gb_month", 0), _PRICE),
            _PERCENT - whole(line.get("discount_percent", 0), _PERCENT // 100),
        )
        for line in kept["prices"]
    ]
    if not tariffs or any(later.since < earlier.since for earlier, later in pairwise(tariffs)):
        raise ValueError("prices are missing or not in order of time")
    mode = kept.get("rounding", "hour")
    if mode not in {"hour", "second"}:
        raise ValueError(f"time is counted by the {mode}")
    return Deal(tuple(tariffs), mode == "second", kept.get("zone", "UTC"), kept.get("currency", "USD"))


@lru_cache(maxsize=20_000)
def month_begins(month: Month, zone: str) -> int:
    """The first instant that the zone's clock shows this month (or a later one, if midnight is skipped)."""
    name = date(month[0], month[1], 1)
    there = ZoneInfo(zone)
    as_utc = calendar.timegm(name.timetuple())
    found = []
    for near in (as_utc - 86_400, as_utc + 86_400):
        offset = datetime.fromtimestamp(near, there).utcoffset()
        at = as_utc - int(offset.total_seconds() if offset else 0)
        if datetime.fromtimestamp(at, there).date() >= name:
            found.append(at)
    return min(found) * SECOND


def month_at(instant: int, zone: str) -> Month:
    local = datetime.fromtimestamp(instant // SECOND, ZoneInfo(zone))
    return local.year, local.month


def after(month: Month) -> Month:
    return (month[0] + 1, 1) if month[1] == 12 else (month[0], month[1] + 1)


def months_of(spans: Sequence[Span], zone: str) -> list[Month]:
    """All months from the first that was served in to the last."""
    if not spans:
        return []
    found, last = [month_at(spans[0][0], zone)], spans[-1][1]
    while month_begins(after(found[-1]), zone) < last:
        found.append(after(found[-1]))
    return found


def due_through(spans: Iterable[Span], thing: Thing, holding: Deal, zone: str) -> dict[Month, Decimal]:
    """For each month what everything that was served until its end costs in all."""
    return {month: as_money(sum(cents)) for month, cents in due_in_parts(spans, thing, holding, zone).items()}


def due_in_parts(spans: Iterable[Span], thing: Thing, holding: Deal, zone: str) -> dict[Month, Cents]:
    """The same in cents, for cores, RAM and storage."""
    served = sorted(span for span in spans if span[1] > span[0])
    found = months_of(served, zone)
    edges = [month_begins(after(month), zone) for month in found]
    parts = _Parts(thing, holding, [tariff.since for tariff in holding.tariffs[1:]])
    # For each month and tariff: how many hours, or microseconds, were begun in it.
    counted: dict[tuple[int, int], int] = defaultdict(int)
    if holding.by_second:
        for opens, closes in cut(served, sorted({*edges, *parts.changes})):
            counted[bisect_right(edges, opens), parts.tariff_at(opens)] += closes - opens
    else:
        for at in started_hours(served):
            counted[bisect_right(edges, at), parts.tariff_at(at)] += 1
    stored = parts.stored(served, edges)
    most = _most(thing, holding, zone)
    due = {}
    for index, month in enumerate(found):
        cents = parts.cost(counted, stored, index)
        due[month] = tuple(map(min, cents, most)) if most else cents
    return due


def _most(thing: Thing, holding: Deal, zone: str) -> Cents | None:
    """What the booked time costs if all of it is served; None where no window is known."""
    if holding.window is None:
        return None
    whole_window = due_in_parts([holding.window], thing, replace(holding, window=None), zone)
    return whole_window[max(whole_window)]


@dataclass(frozen=True, slots=True)
class _Parts:
    thing: Thing
    holding: Deal
    changes: list[int]

    def tariff_at(self, instant: int) -> int:
        return bisect_right(self.changes, instant)

    def stored(self, served: list[Span], edges: list[int]) -> dict[int, Fraction]:
        """For each month what its storage costs, in cents and not rounded."""
        costs: dict[int, Fraction] = defaultdict(Fraction)
        if not self.thing.storage_gb or not any(tariff.gb_month for tariff in self.holding.tariffs):
            return costs
        zone = self.holding.zone
        own = [month_begins(after(month), zone) for month in months_of(served, zone)]
        for opens, closes in cut(served, sorted({*edges, *own, *self.changes})):
            tariff = self.holding.tariffs[self.tariff_at(opens)]
            month = month_at(opens, zone)
            length = month_begins(after(month), zone) - month_begins(month, zone)
            price = self.thing.storage_gb * tariff.gb_month * tariff.pays
            costs[bisect_right(edges, opens)] += Fraction((closes - opens) * price * 100, length * _PRICE * _PERCENT)
        return costs

    def cost(self, counted: Mapping[tuple[int, int], int], stored: Mapping[int, Fraction], last: int) -> Cents:
        """Of all months up to the one with this index; cores, RAM and storage are rounded each by itself."""
        cores = ram = 0
        for (month, number), amount in counted.items():
            if month <= last:
                tariff = self.holding.tariffs[number]
                cores += amount * self.thing.cores * tariff.core_hour * tariff.pays
                ram += amount * self.thing.ram_mib * tariff.gib_hour * tariff.pays
        unit = _PRICE * _PERCENT * (HOUR if self.holding.by_second else 1)
        storage = sum((cost for month, cost in stored.items() if month <= last), Fraction(0))
        on_disk = half_up(storage.numerator, storage.denominator)
        return half_up(cores * 100, unit * _CORES), half_up(ram * 100, unit * 1024), on_disk


def started_hours(served: Iterable[Span]) -> Iterator[int]:
    """When each hour began; what is left of one at a period's end is still paid for in the next."""
    paid = 0
    for opens, closes in served:
        at = opens + paid
        while at < closes:
            yield at
            at += HOUR
        paid = at - closes


def cut(spans: Iterable[Span], edges: Sequence[int]) -> Iterator[Span]:
    """The same time in pieces, none of which has an edge within it."""
    for opens, closes in spans:
        for edge in edges[bisect_right(edges, opens) :]:
            if edge >= closes:
                break
            yield opens, edge
            opens = edge
        yield opens, closes


def half_up(top: int, bottom: int) -> int:
    """A fraction as a whole number; nothing here is negative."""
    return (2 * top + bottom) // (2 * bottom)


def as_money(cents: int) -> Decimal:
    return Decimal(cents).scaleb(-2)
