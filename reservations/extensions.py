"""How much later a booking could end, and what that would cost: only what fits is offered.

A preview from a constant number of queries. Nothing is held by it; `extending.extend` looks again when it is taken.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.conf import settings

from compute import outlook
from compute.models import Forward
from reservations import actions, extending, quota
from reservations.forms import COMMON_MINUTES
from reservations.models import Container, Reservation
from reservations.pricing import Prolonged, prices


@dataclass(frozen=True, slots=True)
class Limit:
    """No later end than this, and why."""

    at: datetime
    why: str


@dataclass(frozen=True, slots=True)
class Extension:
    """One that fits: `price` is that of the whole, `more` what is added."""

    length: timedelta
    end: datetime
    price: Decimal
    more: Decimal

    @property
    def minutes(self) -> int:
        return self.length // timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Offers:
    """The extensions that fit, shortest first. `latest` is today's end when there is none; `why` not later."""

    extensions: list[Extension]
    latest: datetime
    why: str

    def lasting(self, length: timedelta) -> Extension | None:
        return next((found for found in self.extensions if found.length == length), None)


def offers(reservation: Reservation, now: datetime) -> Offers:
    """What fits, among the common lengths, and the longest that does if something but the quota's time is in the way.

    The reservation must have its workspace.
    """
    row, end = reservation, reservation.end
    if problem := extending.refusal(row, now):
        return Offers([], end, problem)
    hours = row.workspace.max_hours
    longest = Limit(max(now, row.start) + timedelta(hours=hours), f"At most {hours} hours can be booked ahead.")
    if _steps(row, longest.at) < 1:
        return Offers([], end, longest.why)
    limit = min([longest, *_limits(row, longest.at)], key=lambda found: found.at)
    latest = end + max(_steps(row, limit.at), 0) * _step()
    if latest <= end:
        return Offers([], end, limit.why)
    asked = extending.wanted(row, latest)
    later = prices().prolonged(asked, terms=row.terms, until=end, reservation_id=row.pk, now=now)
    if problem := later.refusal(latest):
        latest = _latest_to_afford(row, latest, later)
        limit = Limit(latest, later.refusal(latest + _step()) or problem)
    lengths = {timedelta(minutes=m) for m in COMMON_MINUTES if not timedelta(minutes=m) % _step()}
    if limit is not longest:
        lengths.add(latest - end)
    fitting = sorted(length for length in lengths if timedelta(0) < length <= latest - end)
    found = []
    for length in fitting:
        price = later.price(end + length)
        found.append(Extension(length, end + length, price, price - row.price))
    return Offers(found, latest, limit.why)


def _limits(row: Reservation, latest: datetime) -> Iterator[Limit]:
    """What is in the way before `latest`, each in the order in which an extension would come to it."""
    if row.kept_volume_id:
        others = Reservation.objects.with_volume(row.kept_volume_id, row.end, latest).exclude(pk=row.pk)
        if first := others.order_by("start").values_list("start", flat=True).first():
            yield Limit(max(first, row.end), "Its volume is booked by another reservation from then on.")
    own_gb = 0 if row.kept_volume_id else row.storage_gb
    over = quota.first_shortfall(row.workspace, quota.Hold(row.end, latest, row.ram_mib, row.cores, own_gb))
    if over:
        yield Limit(*over)
    containers = Container.objects.select_related("allocation__node")
    allocation = containers.get(reservation=row, generation=row.generation).allocation
    yield Limit(outlook.place_free_until(allocation, latest), "Its place is booked by somebody else from then on.")
    rest = actions.port_rest()
    forwards = list(Forward.objects.filter(endpoint__reservation=row))
    free_until = outlook.ports_free_until(forwards, latest + rest) - rest
    yield Limit(max(free_until, row.end), "Its address is promised to somebody else from then on.")


def _latest_to_afford(row: Reservation, latest: datetime, later: Prolonged) -> datetime:
    """The last end on the grid before `latest` that is not refused; today's when none is. By halving."""
    good, bad = 0, _steps(row, latest)
    while bad - good > 1:
        middle = (good + bad) // 2
        if later.refusal(row.end + middle * _step()):
            bad = middle
        else:
            good = middle
    return row.end + good * _step()


def _steps(row: Reservation, at: datetime) -> int:
    return (at - row.end) // _step()


def _step() -> timedelta:
    return timedelta(minutes=settings.BERTH_STEP_MINUTES)
