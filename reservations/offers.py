"""What a booking would cost and whether it would fit, without holding anything; and what could be had instead."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from accounts.models import Workspace
from compute import capacity, scheduler
from compute.capacity import NoCapacity
from compute.scheduler import Request, Short
from reservations import actions, alternatives, batches, pricing
from reservations.actions import Booking, Need
from reservations.alternatives import Offer
from reservations.booking_form import BookingForm
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
    """The answer while somebody is choosing; `sentence` says why it does not fit. The price is that of all copies."""

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
    offers: list[Offer] = field(default_factory=list)
    copies: int = 1

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

    @property
    def can_wait(self) -> bool:
        """Whether waiting for room would help: nothing is wrong with it but that it does not fit."""
        return self.refusal is not None and self.refusal.code == NO_CAPACITY and self.copies == 1


def quote(form: BookingForm, now: datetime) -> Quote:
    """The quote for what is in the form so far; incomplete or wrong fields give their sentences."""
    if not form.is_valid():
        problems = {name: str(errors[0]) for name, errors in form.errors.items() if name in form.data}
        return Quote(problems=problems, advice="Choose a service and a size.")
    return quote_booking(form.booking(), form.workspace, now, copies=form.how_many)


def quote_booking(booking: Booking, workspace: Workspace, now: datetime, *, copies: int = 1) -> Quote:
    """The quote of so many copies; of what could be had instead, everything is a bounded number of questions."""
    try:
        if problems := batches.check_copies(copies, booking, workspace):
            raise actions.InvalidBooking(problems)
        start, end = actions.check(booking, workspace, now)
    except actions.InvalidBooking as problem:
        return _wrong(booking, workspace, now, copies, problem.problems)
    asked = actions.wanted(booking, workspace, start, end)
    course = prices().course(workspace.pk, now, max(end, alternatives.reach(now, end - start)))
    found = course.quote(asked)
    price, per_hour, length = found.price * copies, found.per_hour * copies, end - start
    kept_gb = actions.size_gb(booking) if booking.storage.code == StorageProfile.Code.C3 else 0
    details = prices().details(asked, found, kept_gb=kept_gb, now=now)
    if copies > 1:
        details = replace(details, with_tax=details.with_tax * copies)
    refusal, offers = _fit(booking, workspace, start, end, now, copies, found, course)
    return Quote(price, per_hour, length, start, end, refusal, details, found.terms, offers=offers, copies=copies)


def _wrong(booking: Booking, workspace: Workspace, now: datetime, copies: int, problems: dict[str, str]) -> Quote:
    """With the price all the same, unless it is the time or the number of copies that makes no sense."""
    if problems.keys() & {"start", "end", "duration", "copies"}:
        return Quote(problems=problems, copies=copies)
    begin, length = booking.start or now, booking.lasts(now)
    found = prices().quote(actions.wanted(booking, workspace, begin, begin + length))
    return Quote(found.price * copies, found.per_hour * copies, length, problems=problems, copies=copies)


def _fit(
    booking: Booking,
    workspace: Workspace,
    start: datetime,
    end: datetime,
    now: datetime,
    copies: int,
    quote: pricing.Quote,
    course: pricing.Course,
) -> tuple[Refusal | None, list[Offer]]:
    """Why it does not fit, None when it does; and what could be had instead."""
    try:
        place = actions.need(booking, workspace, start, end, now, copies=copies, quote=quote)
        actions.check_volume(booking, start, end)
    except actions.CannotAfford as no:
        return Refusal(no.code, str(no)), []
    except actions.OverQuota as no:
        return _over_quota(no, booking, workspace, start, end, now, copies, course)
    except NoCapacity as no:
        return Refusal(NO_CAPACITY, str(no)), []
    except actions.VolumeTaken as no:
        return Refusal(no.code, str(no), no.next_slot), _when_free(booking, place.request, no.next_slot)
    asking = alternatives.Asking(booking, workspace, place.request, place.quote.price, now, copies, course)
    if copies == 1 and capacity.quickest(place.request):
        return None, alternatives.cheaper(asking, None)
    return _short(place, asking)


def _over_quota(
    no: actions.OverQuota,
    booking: Booking,
    workspace: Workspace,
    start: datetime,
    end: datetime,
    now: datetime,
    copies: int,
    course: pricing.Course,
) -> tuple[Refusal, list[Offer]]:
    if copies > 1:
        return Refusal(no.code, str(no)), []
    needs_host = actions.needs_host(booking.storage.code)
    request = Request(booking.size.ram_mib, booking.size.cores, start, end, needs_host)
    asking = alternatives.Asking(booking, workspace, request, Decimal(0), now, copies, course)
    offers = alternatives.within_quota(asking)
    next_slot = next((offer.start for offer in offers if offer.start), None)
    return Refusal(no.code, str(no), next_slot), offers


def _when_free(booking: Booking, request: Request, at: datetime | None) -> list[Offer]:
    """The start from which its volume is free, if there is a place for it, too."""
    if at is None or booking.end:
        return []
    later = replace(request, start=at, end=at + (request.end - request.start))
    return [Offer("earliest", at)] if capacity.quickest(later) else []


def _short(place: Need, asking: alternatives.Asking) -> tuple[Refusal | None, list[Offer]]:
    rows = capacity.peaks(place.request)
    choice = scheduler.choose(place.request, rows)
    if not isinstance(choice, Short):
        fitting = sum(scheduler.times(place.request, row) for row in rows)
        if fitting >= asking.copies:
            return None, alternatives.cheaper(asking, None)
        sentence = f"No resources available: only {fitting} of the {asking.copies} copies fit at that time."
        return Refusal(NO_CAPACITY, sentence), [alternatives.fewer(fitting)]
    earliest = alternatives.earliest(asking)
    offers = [*([earliest] if earliest else []), *alternatives.cheaper(asking, earliest)]
    if smaller := alternatives.smaller(asking, rows):
        offers.append(smaller)
    return Refusal(NO_CAPACITY, scheduler.SENTENCES[choice], earliest.start if earliest else None), offers
