"""What the charts of the monitor are drawn from, and the same as a table for whoever does not see them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from compute import fleet, series
from compute.models import Node
from compute.series import Series

SPANS = {"1h": timedelta(hours=1), "24h": timedelta(hours=24), "14d": timedelta(days=14)}
USUAL = "1h"
TABLE_ROWS = 12


class NoSuchSpan(ValueError):
    """Somebody asked for a span that there is none of; the sentence names those that there are."""

    def __init__(self, span: str) -> None:
        super().__init__(f"There is no span {span[:20]!r}; there are {', '.join(SPANS)}.")


def length_of(span: str) -> timedelta:
    """Raises NoSuchSpan."""
    if span not in SPANS:
        raise NoSuchSpan(span)
    return SPANS[span]


def of_node(node: Node, span: str, now: datetime) -> Series:
    """The node's readings with what was lent of it: cores_lent, ram_lent_mib. Raises NoSuchSpan."""
    found = series.of_node(node, now - length_of(span), now, now=now)
    lent = fleet.lent_over(node, found.at)
    values: dict[str, list[float | None]] = {
        **found.values,
        "cores_lent": list(lent.cores),
        "ram_lent_mib": list(lent.ram_mib),
    }
    return Series(found.step_s, found.at, _with_used_memory(values))


def of_reservation(reservation_id: int, span: str, now: datetime) -> Series:
    """Raises NoSuchSpan."""
    return series.of_reservation(reservation_id, now - length_of(span), now, now=now)


def _with_used_memory(values: dict[str, list[float | None]]) -> dict[str, list[float | None]]:
    """memory_used_mib, volumes_used and images_used (a share) in place of what is free."""

    def both(whole: str, free: str, join: Callable[[float, float], float]) -> list[float | None]:
        pairs = zip(values[whole], values[free], strict=True)
        return [None if a is None or b is None or not a else join(a, b) for a, b in pairs]

    return values | {
        "memory_used_mib": both("memory_total_mib", "memory_free_mib", lambda a, b: a - b),
        "volumes_used": both("volumes_size_mib", "volumes_free_mib", lambda a, b: 1 - b / a),
        "images_used": both("images_size_mib", "images_free_mib", lambda a, b: 1 - b / a),
    }


def as_json(found: Series) -> dict[str, Any]:
    """With four digits after the point, which is more than anybody sees."""
    values = {name: [None if v is None else round(v, 4) for v in line] for name, line in found.values.items()}
    return {"step_s": found.step_s, "at": found.at, "values": values}


def mean(line: list[float | None]) -> float | None:
    known = [value for value in line if value is not None]
    return sum(known) / len(known) if known else None


def most(line: list[float | None]) -> float | None:
    return max((value for value in line if value is not None), default=None)


@dataclass(frozen=True, slots=True)
class TableRow:
    """A part of the span: the mean of each value in it."""

    at: datetime
    values: dict[str, float | None]


def as_table(found: Series, names: list[str]) -> list[TableRow]:
    """The newest first, in a dozen parts; those of which nothing is known are left out."""
    size = max(1, -(-len(found.at) // TABLE_ROWS))
    rows = []
    for first in range(0, len(found.at), size):
        values = {name: mean(found.values[name][first : first + size]) for name in names}
        if any(value is not None for value in values.values()):
            rows.append(TableRow(datetime.fromtimestamp(found.at[first], UTC), values))
    return rows[::-1]
