"""What a booking would cost; settings name the function that answers (billing)."""

from datetime import timedelta
from decimal import Decimal
from typing import Protocol, cast

from django.conf import settings
from django.utils.module_loading import import_string


class PriceFunction(Protocol):
    def __call__(self, *, cores: Decimal, length: timedelta) -> Decimal:
        """The price of `cores` for `length`, in the currency of the settings, to the cent."""


def quote(*, cores: Decimal, length: timedelta) -> Decimal:
    answer = cast(PriceFunction, import_string(settings.BERTH_PRICE_FUNCTION))
    return answer(cores=cores, length=length)
