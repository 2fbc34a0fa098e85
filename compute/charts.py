"""Series as pages show them: the spans that there are, figures for charts, and the same as a table."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

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


def as_json(found: Series) -> dict[str, Any]:
    """With four digits after the point, which is more than anybody sees."""
    values = {name: [None if v is None else round(v, 4) for v in line] for name, line in found.values.items()}
    return {"step_s": found.step_s, "at": found.at, "values": values}


def mean(line: list[float | None]) -> float | None:
    known = [value for value in line if value is not None]
    return sum(known) / len(known) if known else None


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
