"""The API's price quotes: what a booking would cost and whether it would be taken. Nothing is held."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone
from ninja import Field, Router, Schema

from accounts.models import User
from portal.api_reservations import BookingIn, booking_of, workspace_for
from portal.problems import Problem
from reservations import offers
from reservations.actions import InvalidBooking

router = Router(tags=["billing"])


class RefusalOut(Schema):
    """The error that booking it would be now."""

    code: str
    detail: str
    next_slot: datetime | None


class OfferOut(Schema):
    """What could be had instead. `kind`: earliest, cheapest (of two days), smaller (fits at once), fewer (copies)."""

    kind: str
    start: datetime | None
    end: datetime | None
    size: str | None
    copies: int | None
    price: Decimal | None


class QuoteOut(Schema):
    """What it costs if all of it is served, before tax but for `with_tax`.

    `per_hour` is the first hour's and can be a part of a cent. `kept_per_month` is what its kept volume costs until it
    is deleted. `budget_left` is null without a budget. `fits` is whether it would be booked now; if not, `refusal` has
    the `code` and the sentence of the 409 that `POST /reservations` would answer.
    """

    price: Decimal
    with_tax: Decimal
    tax_percent: Decimal
    currency: str
    per_hour: Decimal
    rounding: str
    discount_percent: Decimal
    kept_per_month: Decimal | None
    budget_left: Decimal | None
    start: datetime
    end: datetime
    fits: bool
    refusal: RefusalOut | None
    copies: int
    offers: list[OfferOut]


class QuoteIn(BookingIn):
    """A booking, or so many copies of it."""

    copies: int = Field(1, ge=1, le=1000)


@router.post(
    "",
    response={200: QuoteOut, 422: Problem, 401: Problem},
    summary="What a booking would cost",
    openapi_extra={"description": "The body is that of a booking. Nothing is held, so a token that may read suffices."},
)
def quote(request: HttpRequest, payload: QuoteIn) -> Any:
    assert isinstance(request.user, User)  # noqa: S101 - the bearer token has seen to it
    workspace = workspace_for(request.user, payload.workspace)
    found = offers.quote_booking(booking_of(payload, workspace.pk), workspace, timezone.now(), copies=payload.copies)
    if found.problems or found.details is None:
        raise InvalidBooking(found.problems)
    no, details = found.refusal, found.details
    return {
        "price": found.price,
        "with_tax": details.with_tax,
        "tax_percent": details.tax_percent,
        "currency": settings.BERTH_CURRENCY,
        "per_hour": found.per_hour,
        "rounding": "second" if details.per_second else "hour",
        "discount_percent": details.discount_percent,
        "kept_per_month": details.kept_per_month,
        "budget_left": details.budget_left,
        "start": found.start,
        "end": found.end,
        "fits": found.fits,
        "refusal": RefusalOut(code=no.code, detail=no.sentence, next_slot=no.next_slot) if no else None,
        "copies": found.copies,
        "offers": [
            OfferOut(
                kind=offer.kind,
                start=offer.start,
                end=offer.end,
                size=offer.size.slug if offer.size else None,
                copies=offer.copies,
                price=offer.price,
            )
            for offer in found.offers
        ],
    }
