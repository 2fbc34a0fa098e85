"""Lengths as the API has them: a decimal number of hours."""

from datetime import timedelta
from decimal import Decimal

_HOUR_S = 3600
_FINE = Decimal("0.0001")


def hours_of(length: timedelta) -> Decimal:
    """With at most four decimals: 0.3333 for 20 minutes, 2 for two hours."""
    rounded = (Decimal(int(length.total_seconds())) / _HOUR_S).quantize(_FINE)
    return rounded.normalize() if rounded % 1 else rounded.to_integral_value()


def length_of(hours: Decimal) -> timedelta:
    """To the second, so that what `hours_of` has rounded is the length that it was."""
    return timedelta(seconds=int((hours * _HOUR_S).to_integral_value()))
