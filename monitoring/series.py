"""What the charts of the monitor are drawn from, and the same as a table for whoever does not see them."""

from collections.abc import Callable
from datetime import datetime

from compute import fleet, series
from compute.charts import SPANS, USUAL, NoSuchSpan, TableRow, as_json, as_table, length_of, mean
from compute.models import Node
from compute.series import Series

__all__ = [
    "SPANS",
    "USUAL",
    "NoSuchSpan",
    "TableRow",
    "as_json",
    "as_table",
    "length_of",
    "mean",
    "most",
    "of_node",
    "of_reservation",
]


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


def most(line: list[float | None]) -> float | None:
    return max((value for value in line if value is not None), default=None)
