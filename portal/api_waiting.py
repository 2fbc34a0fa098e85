"""The API's waiting list."""

from datetime import datetime
from decimal import Decimal
from typing import Any, Self

from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from django.utils import timezone
from ninja import Router, Schema, Status
from pydantic import ConfigDict

from accounts.models import User
from portal.api_reservations import BookingIn, ReservationOut, booking_of, workspace_for
from portal.problems import Problem
from reservations import waiting
from reservations.hours import hours_of
from reservations.models import Reservation, WaitingEntry
from reservations.permissions import check_user_can_act_for
from reservations.states import State

router = Router(tags=["waiting list"])


class WaitingOut(Schema):
    """What waits for room. `place` is 1 for the first of the whole line, and null with an offer or once it is closed.

    `offer` is the reservation that is held for it until `offer_until`.
    """

    id: int
    name: str
    service: str
    cores: Decimal
    ram_mib: int
    storage: str
    storage_gb: int | None
    volume: str | None
    start: datetime | None
    hours: Decimal
    created_at: datetime
    place: int | None
    reason: str
    offer: int | None
    offer_until: datetime | None
    offers_lapsed: int
    outcome: str

    @classmethod
    def of(cls, row: WaitingEntry) -> Self:
        offer = row.offer if row.offer and row.offer.state == State.OFFERED else None
        return cls(
            id=row.pk,
            name=row.name,
            service=row.service.slug,
            cores=row.cores,
            ram_mib=row.ram_mib,
            storage=row.storage,
            storage_gb=row.storage_gb,
            volume=row.kept_volume.name if row.kept_volume else None,
            start=row.start,
            hours=hours_of(row.length),
            created_at=row.created_at,
            place=row.place,
            reason=row.reason,
            offer=offer.pk if offer else None,
            offer_until=offer.deadline if offer else None,
            offers_lapsed=row.offers_lapsed,
            outcome=row.outcome,
        )


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # noqa: S101 - the bearer token has seen to it
    return request.user


@router.post(
    "",
    response={201: WaitingOut, 403: Problem, 409: Problem, 422: Problem, 401: Problem},
    summary="Join the waiting list with what does not fit now",
)
def join(request: HttpRequest, payload: BookingIn) -> Any:
    user = _user(request)
    workspace = workspace_for(user, payload.workspace)
    booking = booking_of(payload, workspace.pk)
    entry = waiting.join(booking=booking, workspace=workspace, by=user, now=timezone.now())
    return Status(201, WaitingOut.of(_get(request, entry.pk)))


@router.get("", response={200: list[WaitingOut], 401: Problem}, summary="What waits, the first in line first")
def read_all(request: HttpRequest) -> Any:
    return [WaitingOut.of(row) for row in waiting.shown_to(_user(request))]


@router.get("/{int:pk}", response={200: WaitingOut, 404: Problem, 401: Problem}, summary="One entry, closed ones too")
def read(request: HttpRequest, pk: int) -> Any:
    return WaitingOut.of(_get(request, pk))


@router.delete(
    "/{int:pk}",
    response={200: WaitingOut, 403: Problem, 404: Problem, 401: Problem},
    summary="Leave the line; an offer that it has goes to the next",
)
def cancel(request: HttpRequest, pk: int) -> Any:
    waiting.cancel(entry=_actionable(request, pk), by=_user(request), now=timezone.now())
    return WaitingOut.of(_get(request, pk))


@router.post(
    "/{int:pk}/take",
    response={200: ReservationOut, 403: Problem, 404: Problem, 409: Problem, 401: Problem},
    summary="Book what is offered",
)
def take(request: HttpRequest, pk: int) -> Any:
    reservation = waiting.take(entry=_actionable(request, pk), by=_user(request), now=timezone.now())
    row = Reservation.objects.for_pages().get(pk=reservation.pk)
    return ReservationOut.of(row, request, may_act=True)


class DeclineIn(Schema):
    """`stay`: it goes to the end of the line instead of leaving it."""

    model_config = ConfigDict(extra="forbid")

    stay: bool = False


@router.post(
    "/{int:pk}/decline",
    response={200: WaitingOut, 403: Problem, 404: Problem, 409: Problem, 422: Problem, 401: Problem},
    summary="Give the offer to the next in line",
)
def decline(request: HttpRequest, pk: int, payload: DeclineIn) -> Any:
    entry = _actionable(request, pk)
    waiting.decline(entry=entry, stay=payload.stay, by=_user(request), now=timezone.now())
    return WaitingOut.of(_get(request, pk))


def _get(request: HttpRequest, pk: int) -> WaitingEntry:
    rows = WaitingEntry.objects.visible_to(_user(request)).with_place()
    return get_object_or_404(rows.select_related("service", "workspace", "created_by", "offer", "kept_volume"), pk=pk)


def _actionable(request: HttpRequest, pk: int) -> WaitingEntry:
    entry = _get(request, pk)
    check_user_can_act_for(_user(request), entry)
    return entry
