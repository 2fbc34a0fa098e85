"""Answers the lower layers' question what something would cost, with today's rate."""

from datetime import datetime, timedelta
from decimal import Decimal

from django.conf import settings

from billing import pricing, statements
from reservations.models import Reservation


def quote(*, cores: Decimal, length: timedelta, rate: Decimal | None = None) -> Decimal:
    """The price of `cores` for `length`, to the cent: what is paid if all of it is served. `rate` None: today's."""
    return pricing.bill([length], cores, settings.BERTH_PRICE_PER_CORE_HOUR if rate is None else rate).amount


def per_hour(*, cores: Decimal) -> Decimal:
    """What one hour of `cores` adds, not rounded: a quarter of a core can cost a fraction of a cent."""
    return cores * settings.BERTH_PRICE_PER_CORE_HOUR


def cost_so_far(*, reservation_id: int, now: datetime) -> Decimal:
    """What the reservation has cost until `now`, from its served intervals."""
    return statements.row(Reservation.objects.get(pk=reservation_id), now).amount
