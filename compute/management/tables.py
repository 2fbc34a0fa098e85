"""Tables for people, and words for times and sizes, as the commands print them."""

import sys
from collections.abc import Sequence
from datetime import datetime


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Columns as wide as their longest word; those of `right` (numbers) end in line."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    return "\n".join(_line(row, widths, right) for row in [heads, *rows])


def _line(row: Sequence[str], widths: Sequence[int], right: Sequence[int]) -> str:
    words = [
        word.rjust(width) if place in right else word.ljust(width)
        for place, (word, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(words).rstrip()


def moment(at: datetime | None, *, otherwise: str = "–") -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else otherwise


def percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"


def lasting(seconds: int | None) -> str:
    """ "3 d 4 h", "2 h 5 min", "40 s"."""
    if seconds is None:
        return "–"
    for size, name, below, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            return f"{seconds // size} {name} {seconds % size // below} {part}"
    return f"{seconds} s"


def agreed(question: str) -> bool:
    """Whether somebody at the keyboard says yes; False where nobody is."""
    if not sys.stdin.isatty():
        return False
    return input(f"{question} [y/N] ").strip().lower() in {"y", "yes"}
