"""What things cost; settings name the functions that answer (billing)."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Protocol, cast

from django.conf import settings
from django.utils.module_loading import import_string


class PriceFunction(Protocol):
    def __call__(self, *, cores: Decimal, length: timedelta, rate: Decimal | None = None) -> Decimal:
        """The price of `cores` for `length`, in the currency of the settings, to the cent; `rate` None: today's."""


class CostFunction(Protocol):
    def __call__(self, *, reservation_id: int, now: datetime) -> Decimal:
        """What a reservation has cost until `now`."""


class RateFunction(Protocol):
    def __call__(self, *, cores: Decimal) -> Decimal:
        """What an hour of `cores` adds, not rounded."""


def per_hour(*, cores: Decimal) -> Decimal:
    return cast(RateFunction, import_string(settings.BERTH_RATE_FUNCTION))(cores=cores)


def cost_so_far(*, reservation_id: int, now: datetime) -> Decimal:
    return cast(CostFunction, import_string(settings.BERTH_COST_FUNCTION))(reservation_id=reservation_id, now=now)


def quote(*, cores: Decimal, length: timedelta, rate: Decimal | None = None) -> Decimal:
    answer = cast(PriceFunction, import_string(settings.BERTH_PRICE_FUNCTION))
    return answer(cores=cores, length=length, rate=rate)
