"""What a bench found, as a table in the terminal, as markdown and as JSON."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

HEADINGS = ("what", "Berth", "compared with", "ratio or value", "bound", "")


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `value` is compared with `bound`; without a bound it is there to be read."""

    what: str
    value: float
    unit: str = ""  # of `value`: "×", "s", "ms", "MiB"
    bound: float | None = None
    berth: str = ""
    compared: str = ""

    @property
    def verdict(self) -> str:
        if self.bound is None:
            return ""
        return "ok" if self.value <= self.bound else "over"

    @property
    def cells(self) -> tuple[str, ...]:
        bound = "" if self.bound is None else f"≤ {self.bound:g} {self.unit}"
        return self.what, self.berth, self.compared, f"{self.value:.3g} {self.unit}".strip(), bound, self.verdict


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that one bench found; `notes` say how it was measured and what else was seen."""

    name: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        rows = [asdict(row) | {"verdict": row.verdict} for row in self.rows]
        return {"name": self.name, "rows": rows, "notes": self.notes}


def text(outcome: Outcome) -> str:
    """Columns under each other, then the notes."""
    lines = [f"== {outcome.name}"]
    if outcome.rows:
        lines += columns([HEADINGS, *(row.cells for row in outcome.rows)])
    return "\n".join([*lines, *(f"   {note}" for note in outcome.notes)])


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["   " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def markdown(outcomes: Iterable[Outcome]) -> str:
    """One table over all benches, for the README."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|" + " --- |" * len(HEADINGS)]
    lines += ["| " + " | ".join(row.cells) + " |" for outcome in outcomes for row in outcome.rows]
    return "\n".join(lines) + "\n"


def quantile(values: Sequence[float], part: float) -> float:
    """The smallest value that at least `part` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * part // 1) - 1)]


def median(values: Sequence[float]) -> float:
    return quantile(values, 0.5)
