"""What a booking would cost and whether it would fit, without holding anything."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from accounts.models import Workspace
from compute import capacity, scheduler, slots
from compute.capacity import NoCapacity
from compute.scheduler import Short
from reservations import actions
from reservations.actions import Booking
from reservations.forms import BookingForm
from reservations.models import StorageProfile
from reservations.pricing import Details, prices

NO_CAPACITY = "no_capacity"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why it cannot be booked as it is: the code of the error that booking it would be, a sentence, when it would."""

    code: str
    sentence: str
    next_slot: datetime | None = None


@dataclass(frozen=True, slots=True)
class Quote:
    """The answer while somebody is choosing; `sentence` says why it does not fit."""

    price: Decimal | None = None
    per_hour: Decimal | None = None
    length: timedelta | None = None
    start: datetime | None = None
    end: datetime | None = None
    refusal: Refusal | None = None
    details: Details | None = None
    terms: dict[str, Any] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    advice: str = ""  # what is to be chosen first

    @property
    def fits(self) -> bool:
        return self.start is not None and self.refusal is None

    @property
    def sentence(self) -> str:
        """Why it is not to be had; empty when it is."""
        return self.refusal.sentence if self.refusal else " ".join(self.problems.values()) or self.advice

    @property
    def next_slot(self) -> datetime | None:
        return self.refusal.next_slot if self.refusal else None

    @property
    def is_too_dear(self) -> bool:
        return self.refusal is not None and self.refusal.code == actions.CannotAfford.code


def quote(form: BookingForm, now: datetime) -> Quote:
    """The quote for what is in the form so far; incomplete or wrong fields give their sentences."""
    if not form.is_valid():
        problems = {name: str(errors[0]) for name, errors in form.errors.items() if name in form.data}
        return Quote(problems=problems, advice="Choose a service and a size.")
    return quote_booking(form.booking(), form.workspace, now)


def quote_booking(booking: Booking, workspace: Workspace, now: datetime) -> Quote:
    begin = booking.start or now
    asked = actions.wanted(booking, workspace, begin, begin + max(booking.length, timedelta(0)))
    found = prices().quote(asked)
    price, per_hour = found.price, found.per_hour
    try:
        start, end = actions.check(booking, workspace, now)
    except actions.InvalidBooking as problem:
        return Quote(price, per_hour, booking.length, problems=problem.problems)
    kept_gb = actions.size_gb(booking) if booking.storage.code == StorageProfile.Code.C3 else 0
    details = prices().details(asked, found, kept_gb=kept_gb, now=now)
    refusal = _why_not(booking, workspace, start, end, now)
    return Quote(price, per_hour, booking.length, start, end, refusal, details, found.terms)


def _why_not(booking: Booking, workspace: Workspace, start: datetime, end: datetime, now: datetime) -> Refusal | None:
    try:
        request = actions.need(booking, workspace, start, end, now).request
    except (actions.OverQuota, actions.CannotAfford) as no:
        return Refusal(no.code, str(no))
    except NoCapacity as no:
        return Refusal(NO_CAPACITY, str(no))
    choice = capacity.choose(request)
    if isinstance(choice, Short):
        return Refusal(NO_CAPACITY, scheduler.SENTENCES[choice], slots.next_slot(request))
    return None
