"""Answers the lower layers' question what something would cost, with today's rate."""

from datetime import timedelta
from decimal import Decimal

from django.conf import settings

from billing import pricing


def quote(*, cores: Decimal, length: timedelta) -> Decimal:
    """The price of `cores` for `length`, to the cent: what is paid if all of it is served."""
    return pricing.bill([length], cores, settings.BERTH_PRICE_PER_CORE_HOUR).amount
