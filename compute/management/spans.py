"""Spans of time as people type them on the command line: 30m, 12h, 7d."""

import argparse
import re
from datetime import timedelta

_SPAN = re.compile(r"\A(\d{1,5})(m|h|d)\Z")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def span(text: str) -> timedelta:
    """For `type=`. Raises ArgumentTypeError, which the parser shows with the option's name."""
    found = _SPAN.match(text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no span of time: 30m, 12h or 7d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
