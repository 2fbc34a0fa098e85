"""What a booking would cost and whether it would fit, without holding anything."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from accounts.models import Workspace
from compute import capacity, scheduler
from compute.capacity import NoCapacity
from compute.scheduler import Short
from reservations import actions
from reservations.actions import Booking
from reservations.forms import BookingForm
from reservations.pricing import prices


@dataclass(frozen=True, slots=True)
class Quote:
    """The answer while somebody is choosing; `sentence` says why it does not fit."""

    price: Decimal | None = None
    per_hour: Decimal | None = None
    length: timedelta | None = None
    start: datetime | None = None
    end: datetime | None = None
    fits: bool = False
    sentence: str = ""
    next_slot: datetime | None = None
    problems: dict[str, str] = field(default_factory=dict)


def quote(form: BookingForm, now: datetime) -> Quote:
    """The quote for what is in the form so far; incomplete or wrong fields give their sentences."""
    if not form.is_valid():
        problems = {name: str(errors[0]) for name, errors in form.errors.items() if name in form.data}
        return Quote(problems=problems, sentence=next(iter(problems.values()), "Choose a service and a size."))
    return quote_booking(form.booking(), form.workspace, now)


def quote_booking(booking: Booking, workspace: Workspace, now: datetime) -> Quote:
    begin = booking.start or now
    asked = actions.wanted(booking, workspace, begin, begin + max(booking.length, timedelta(0)))
    found = prices().quote(asked)
    price, per_hour = found.price, found.per_hour
    try:
        start, end = actions.check(booking, workspace, now)
    except actions.InvalidBooking as problem:
        return Quote(price, per_hour, booking.length, problems=problem.problems, sentence=str(problem))
    sentence, next_slot = _why_not(booking, workspace, start, end, now)
    return Quote(price, per_hour, booking.length, start, end, not sentence, sentence, next_slot)


def _why_not(
    booking: Booking, workspace: Workspace, start: datetime, end: datetime, now: datetime
) -> tuple[str, datetime | None]:
    try:
        request = actions.need(booking, workspace, start, end, now).request
    except (actions.OverQuota, actions.CannotAfford, NoCapacity) as no:
        return str(no), None
    choice = capacity.choose(request)
    if isinstance(choice, Short):
        return scheduler.SENTENCES[choice], capacity.next_slot(request)
    return "", None
