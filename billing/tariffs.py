"""Which prices hold for a workspace over a time: its own rates before the list's, less its discount."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Protocol, TypeVar

from django.conf import settings
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange  # type: ignore[import-untyped]
from django.db.models import Q

from billing.accounts import account_of
from billing.models import Discount, Rate
from billing.pricing import Price, Rounding, Terms


class Dated(Protocol):
    during: DateTimeTZRange


Row = TypeVar("Row", bound=Dated)


def terms_for(workspace_id: int | None, start: datetime, end: datetime) -> Terms:
    """The terms for [start, end) as the rates stand now; `workspace_id` None: the list's, without any discount."""
    return Tariff.read(workspace_id, start, end).terms(start, end)


@dataclass(frozen=True, slots=True)
class Tariff:
    """All rates and discounts that hold for a workspace at some instant of a time, as they stand now: read once."""

    own: list[Rate]
    common: list[Rate]
    discounts: list[Discount]
    zone: str

    @classmethod
    def read(cls, workspace_id: int | None, start: datetime, end: datetime) -> "Tariff":
        during = DateTimeTZRange(start, end, "[)")
        holders = Q(workspace=None) | Q(workspace=workspace_id) if workspace_id else Q(workspace=None)
        rates = list(Rate.objects.filter(holders, currency=settings.BERTH_CURRENCY, during__overlap=during))
        return cls(
            own=[rate for rate in rates if rate.workspace_id],
            common=[rate for rate in rates if not rate.workspace_id],
            discounts=list(Discount.objects.filter(workspace=workspace_id, during__overlap=during))
            if workspace_id
            else [],
            zone=account_of(workspace_id).zone.key if workspace_id else settings.BERTH_BILLING_TIME_ZONE,
        )

    def terms(self, start: datetime, end: datetime) -> Terms:
        """For [start, end), which must be within the time that was read."""
        prices: list[Price] = []
        for instant in _changes([*self.own, *self.common, *self.discounts], start, end):
            price = _price(self._rate(instant), _holding(self.discounts, instant), instant)
            if not prices or replace(price, since=prices[-1].since) != prices[-1]:
                prices.append(price)
        first = self._rate(start)
        rounding = Rounding(first.rounding) if first else Rounding.HOUR
        return Terms(tuple(prices), rounding, self.zone, settings.BERTH_CURRENCY)

    def _rate(self, instant: datetime) -> Rate | None:
        return _holding(self.own, instant) or _holding(self.common, instant)


def extended(terms: Terms, workspace_id: int, old_end: datetime, new_end: datetime) -> Terms:
    """The terms of a booking that goes on: until its old end as they were, then as the rates stand now."""
    kept = tuple(price for price in terms.prices if price.since < old_end) or terms.prices[:1]
    added = list(terms_for(workspace_id, old_end, new_end).prices)
    if replace(added[0], since=kept[-1].since) == kept[-1]:
        added = added[1:]
    return replace(terms, prices=(*kept, *added))


def _changes(rows: Iterable[Dated], start: datetime, end: datetime) -> list[datetime]:
    """The start, and every instant within at which a row begins or ends to hold."""
    edges = {edge for row in rows for edge in (row.during.lower, row.during.upper) if edge and start < edge < end}
    return [start, *sorted(edges)]


def _holding(rows: Sequence[Row], instant: datetime) -> Row | None:
    return next((row for row in rows if instant in row.during), None)


def _price(rate: Rate | None, discount: Discount | None, since: datetime) -> Price:
    percent = discount.percent if discount else Decimal(0)
    if rate is None:
        return Price(since, settings.BERTH_PRICE_PER_CORE_HOUR, discount_percent=percent)
    return Price(since, rate.per_core_hour, rate.per_gib_hour, rate.per_gb_month, percent)
