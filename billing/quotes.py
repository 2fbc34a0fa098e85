"""Answers the lower layers' questions about money (reservations.pricing.Prices)."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from billing import pricing, tariffs, usage
from billing.affording import Prolonged, refusal
from billing.explaining import details
from billing.pricing import Size, Terms
from billing.tariffs import Tariff
from reservations.models import Reservation
from reservations.pricing import Quote, Wanted

__all__ = ["cost_so_far", "course", "details", "per_hour", "prolonged", "quote", "refusal"]


def per_hour(sizes: Iterable[tuple[Decimal, int]], *, now: datetime) -> list[Decimal]:
    """What one hour of each (cores, RAM in MiB) costs by today's list, not rounded."""
    terms = tariffs.terms_for(None, now, now + pricing.HOUR)
    return [_per_hour(terms, cores, ram_mib) for cores, ram_mib in sizes]


def quote(wanted: Wanted, *, terms: dict[str, Any] | None = None, until: datetime | None = None) -> Quote:
    """The price if all of [start, end) is served; with the `terms` of a booking that ended `until`, of it changed.

    Extended it has today's rates for what is added; shortened it keeps its terms as they are.
    """
    if terms is not None and until is not None and wanted.end <= until:
        holding = Terms.from_json(terms)
    elif terms is not None and until is not None:
        holding = tariffs.extended(Terms.from_json(terms), wanted.workspace_id, until, wanted.end)
    else:
        holding = tariffs.terms_for(wanted.workspace_id, wanted.start, wanted.end)
    return _quote(wanted, holding)


def _quote(wanted: Wanted, terms: Terms) -> Quote:
    return Quote(_price(wanted, terms), _per_hour(terms, wanted.cores, wanted.ram_mib), terms.as_json())


def _price(wanted: Wanted, terms: Terms) -> Decimal:
    size = Size(wanted.cores, wanted.ram_mib, wanted.storage_gb)
    return pricing.cost([(wanted.start, wanted.end)], size, terms).amount


@dataclass(frozen=True, slots=True)
class Course:
    """See reservations.pricing.Course."""

    tariff: Tariff
    start: datetime

    def changes(self, until: datetime) -> list[datetime]:
        return [price.since for price in self.tariff.terms(self.start, until).prices[1:]]

    def quote(self, wanted: Wanted) -> Quote:
        return _quote(wanted, self.tariff.terms(wanted.start, wanted.end))

    def price(self, wanted: Wanted) -> Decimal:
        return _price(wanted, self.tariff.terms(wanted.start, wanted.end))


def course(workspace_id: int, start: datetime, end: datetime) -> Course:
    """The workspace's prices over [start, end), read once."""
    return Course(Tariff.read(workspace_id, start, end), start)


def prolonged(
    wanted: Wanted, *, terms: dict[str, Any], until: datetime, reservation_id: int, now: datetime
) -> Prolonged:
    """What a booking that ends `until` would cost with later ends, and whether it may be spent; read once."""
    return Prolonged.of(wanted, Terms.from_json(terms), until, reservation_id=reservation_id, now=now)


def cost_so_far(*, reservation_id: int, now: datetime) -> Decimal:
    """What the reservation has cost until `now`, from its served intervals."""
    return usage.cost_of(usage.with_usage(Reservation.objects.all()).get(pk=reservation_id), now).amount


def _per_hour(terms: Terms, cores: Decimal, ram_mib: int) -> Decimal:
    price = terms.prices[0]
    whole = cores * price.per_core_hour + Decimal(ram_mib) / 1024 * price.per_gib_hour
    return whole * (1 - price.discount_percent / 100)
