"""The price of serving: started hours × cores × rate. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from decimal import ROUND_HALF_UP, Decimal

HOUR = timedelta(hours=1)
CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Bill:
    """What a served time costs."""

    started_hours: int
    amount: Decimal


def started_hours(served: timedelta) -> int:
    """Hours counted in full once begun: ⌈served / 1 h⌉; nothing served is 0."""
    return -(-max(served, timedelta(0)) // HOUR)


def bill(served: Iterable[timedelta], cores: Decimal, rate: Decimal) -> Bill:
    """⌈hours served⌉ × cores × rate, to the cent, over all intervals of one reservation together."""
    hours = started_hours(sum(served, timedelta(0)))
    return Bill(hours, (hours * cores * rate).quantize(CENT, ROUND_HALF_UP))
