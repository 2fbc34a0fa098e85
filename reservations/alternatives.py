"""What could be had instead of a booking that does not fit, or is dear: each is one click in the form.

The earliest start, the cheapest start within two days, the largest smaller size that fits at once, fewer copies.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from django.conf import settings

from accounts.models import Workspace
from compute import capacity, scheduler, slots
from compute.scheduler import Candidate, Request
from reservations import actions, quota
from reservations.actions import Booking
from reservations.models import Size, StorageProfile
from reservations.pricing import Course

AHEAD = timedelta(hours=48)
MOST_PRICES = 3  # changes of price that are looked at, each with a start at it and one that ends at it
MOST_TRIES = 4


@dataclass(frozen=True, slots=True)
class Offer:
    """`kind` is earliest, cheapest, smaller or fewer; of the rest only what would be changed is set."""

    kind: str
    start: datetime | None = None
    end: datetime | None = None
    size: Size | None = None
    copies: int | None = None
    price: Decimal | None = None
    saved: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Asking:
    """What was asked for, as a request and with its price (of one copy)."""

    booking: Booking
    workspace: Workspace
    request: Request
    price: Decimal
    now: datetime
    copies: int
    course: Course  # the prices from `now` on, as far as `reach`

    @property
    def length(self) -> timedelta:
        """How long a start at another time would last: up to a full step when the end was given exactly."""
        length = self.request.end - self.request.start
        return _up_to_step(length) if self.booking.end else length

    def at(self, start: datetime) -> Request:
        return replace(self.request, start=start, end=start + self.length)

    def of(self, size: Size) -> Request:
        return replace(self.request, ram_mib=size.ram_mib, cores=size.cores)

    def end_of(self, start: datetime) -> datetime | None:
        """The end to put into the form; None where the duration says it."""
        return start + self.length if self.booking.end else None


def reach(now: datetime, length: timedelta) -> datetime:
    """The last instant of which a price is asked for what could be had instead of something so long."""
    return now + AHEAD + _up_to_step(length)


def earliest(asking: Asking) -> Offer | None:
    """The earliest start from which it fits; None: never, as booked now.

    Of several copies a start from which all of them fit: of those that are looked at, a few hours of them.
    """
    start: datetime | None = asking.request.start
    for _ in range(MOST_TRIES):
        start = slots.next_slot(asking.at(start)) if start else None
        if start is None or start > asking.now + timedelta(days=asking.workspace.max_days_ahead):
            return None
        # An exact end is at a full step of the clock, and so its start.
        aligned = _next_step(start) if asking.booking.end else start
        is_known = aligned == start and asking.copies == 1
        if is_known or capacity.has_room(asking.at(aligned), asking.copies):
            return Offer("earliest", aligned, asking.end_of(aligned))
        start = aligned if asking.copies == 1 else aligned + slots.HOUR
    return None


def cheaper(asking: Asking, first: Offer | None) -> list[Offer]:
    """The cheapest start of the next two days, if one is cheaper than what was asked for. At most eight prices.

    A price changes at some instants only, so the least is found at the first start (`first`) or where one of these
    is at the start or at the end of it.
    """
    until = asking.now + AHEAD + asking.length
    changes = [at.astimezone(UTC) for at in asking.course.changes(until)[:MOST_PRICES]]
    starts = {*changes, *(change - asking.length for change in changes)}
    if asking.booking.end:
        starts = {_next_step(start) for start in starts}
    soon = first.start if first and first.start and first.start <= asking.now + AHEAD else None
    tried = [soon] if changes and soon else []
    tried += sorted(start for start in starts if asking.now < start <= asking.now + AHEAD)
    found = sorted((price, start) for start in tried if (price := _price(asking, start)) < asking.price)
    for price, start in found:
        if start == soon or capacity.has_room(asking.at(start), asking.copies):
            return [
                Offer(
                    "cheapest",
                    start,
                    asking.end_of(start),
                    price=price * asking.copies,
                    saved=(asking.price - price) * asking.copies,
                )
            ]
    return []


def smaller(asking: Asking, rows: Iterable[Candidate]) -> Offer | None:
    """The largest smaller size of the catalogue that fits at the time that was asked for; `rows` are its nodes."""
    rows = list(rows)
    for size in _smaller_sizes(asking.booking):
        if scheduler.have_room(asking.of(size), rows, asking.copies):
            return Offer("smaller", size=size)
    return None


def within_quota(asking: Asking) -> list[Offer]:
    """Where the quota refuses it: the earliest start, and the largest smaller size, that are within it and fit.

    One reservation of the workspace after the other is taken to be over, the first few that end. At a bound that no
    end moves (storage that is kept) there is nothing to offer.
    """
    booking, held = asking.booking, quota.Held.of(asking.workspace)
    keeps_new = booking.storage.code == StorageProfile.Code.C3 and booking.volume is None
    kept_more_gb = actions.size_gb(booking) if keeps_new else 0

    def allows(request: Request) -> bool:
        hold = actions.holds(booking, request.start, request.end)
        return not held.shortfall(hold._replace(ram_mib=request.ram_mib, cores=request.cores), kept_more_gb)

    offers = []
    for end in sorted({hold.end for hold in held.holds if hold.end > asking.request.start})[:MOST_TRIES]:
        if not allows(asking.at(end)):
            continue
        found = earliest(replace(asking, request=asking.at(end)))
        if found and found.start and allows(asking.at(found.start)):
            offers.append(found)
            break
    for size in _smaller_sizes(booking):
        if allows(asking.of(size)) and capacity.quickest(asking.of(size)):
            offers.append(Offer("smaller", size=size))
            break
    return offers


def _smaller_sizes(booking: Booking) -> list[Size]:
    """Those of the catalogue that the service can have, the largest first."""
    wanted = booking.size
    sizes = Size.objects.filter(
        active=True, ram_mib__gte=booking.service.min_ram_mib, ram_mib__lte=wanted.ram_mib, cores__lte=wanted.cores
    )
    return list(sizes.exclude(ram_mib=wanted.ram_mib, cores=wanted.cores).order_by("-ram_mib", "-cores"))


def fewer(copies: int) -> Offer:
    return Offer("fewer", copies=copies)


def _price(asking: Asking, start: datetime) -> Decimal:
    return asking.course.price(actions.wanted(asking.booking, asking.workspace, start, start + asking.length))


def _step() -> timedelta:
    return timedelta(minutes=settings.BERTH_STEP_MINUTES)


def _up_to_step(length: timedelta) -> timedelta:
    return -(-length // _step()) * _step()


def _next_step(at: datetime) -> datetime:
    """The first full step of the clock that is not before `at`."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return epoch + _up_to_step(at - epoch)
