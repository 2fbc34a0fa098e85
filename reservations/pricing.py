"""What things cost and whether a workspace may spend it; settings name the module that answers (billing)."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from importlib import import_module
from typing import Any, Protocol, cast

from django.conf import settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What somebody asks the price of. `storage_gb` is 0 for a kept volume, which is charged by itself."""

    workspace_id: int
    cores: Decimal
    ram_mib: int
    storage_gb: int
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Quote:
    """What it costs if all of it is served, to the cent, and the terms that make it so.

    `per_hour` is the first hour's, not rounded: a quarter of a core can cost a fraction of a cent. `terms` are opaque
    here: a booking keeps them, and hands them back.
    """

    price: Decimal
    per_hour: Decimal
    terms: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What is behind a quote, for somebody who is choosing. Amounts are before tax, but for `with_tax`.

    `changes`: another price holds from some instant of it on. `kept_per_month` is None without a kept volume.
    `budget_left` is what nothing that is booked already takes, in the month in which it starts.
    """

    per_second: bool
    prices_ram: bool
    prices_storage: bool
    discount_percent: Decimal
    changes: bool
    kept_per_month: Decimal | None
    tax_label: str
    tax_percent: Decimal
    with_tax: Decimal
    budget: Decimal | None
    budget_left: Decimal | None


class Prolonged(Protocol):
    """A booking that would end later: answers for many ends from what was read once."""

    def price(self, end: datetime) -> Decimal:
        """Of the whole if it ends then, as `Prices.quote` says it."""

    def refusal(self, end: datetime) -> str:
        """Why this may not be spent, as `Prices.refusal` says it. What is refused is refused for later ends, too."""


class Course(Protocol):
    """The prices of a workspace over a time: answers for many starts from what was read once."""

    def changes(self, until: datetime) -> list[datetime]:
        """The instants after its start and before `until` at which another price begins to hold, in order."""

    def quote(self, wanted: Wanted) -> Quote:
        """Of what is wanted at some time within, as `Prices.quote` says it."""

    def price(self, wanted: Wanted) -> Decimal:
        """The price alone."""


class Prices(Protocol):
    """The questions that billing answers. Amounts are in the currency of the settings."""

    def per_hour(self, sizes: Iterable[tuple[Decimal, int]], *, now: datetime) -> list[Decimal]:
        """What one hour of each (cores, RAM in MiB) costs by today's list, not rounded."""

    def quote(self, wanted: Wanted, *, terms: dict[str, Any] | None = None, until: datetime | None = None) -> Quote:
        """The price of what is wanted, with today's rates.

        With the `terms` of a booking that ended `until`: of the whole, with these terms until then. One that is wanted
        until an earlier end has these terms only.
        """

    def course(self, workspace_id: int, start: datetime, end: datetime) -> Course:
        """The prices of a workspace over [start, end), to be asked about many starts in it."""

    def details(self, wanted: Wanted, quote: Quote, *, kept_gb: int, now: datetime) -> Details:
        """What is behind a quote; `kept_gb` is the size of the kept volume that it would use, 0 without one."""

    def cost_so_far(self, *, reservation_id: int, now: datetime) -> Decimal:
        """What a reservation has cost until `now`."""

    def refusal(self, wanted: Wanted, quote: Quote, *, reservation_id: int | None = None, now: datetime) -> str:
        """Why the workspace may not spend this, as a sentence; empty when it may.

        With `reservation_id` it is that booking which would become so. Asked in the transaction that books, with the
        workspace's row locked, so that two bookings cannot both spend the last cent.
        """

    def prolonged(
        self, wanted: Wanted, *, terms: dict[str, Any], until: datetime, reservation_id: int, now: datetime
    ) -> Prolonged:
        """What extending the booking with these terms, which ends `until`, comes to for ends up to that of `wanted`."""


def prices() -> Prices:
    return cast(Prices, import_module(settings.BERTH_PRICES))
