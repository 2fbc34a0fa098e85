"""Who asks, and for what: a reservation that the visitor may see."""

from django.http import HttpRequest
from django.shortcuts import get_object_or_404

from accounts.models import User
from reservations.models import Reservation
from reservations.permissions import check_user_can_act


def visitor(request: HttpRequest) -> User:
    """The visitor of a page behind login_required."""
    assert isinstance(request.user, User)  # noqa: S101 - login_required has seen to it
    return request.user


def visible_reservation(request: HttpRequest, pk: int) -> Reservation:
    """One that the visitor may see; anybody else's does not exist."""
    return get_object_or_404(Reservation.objects.visible_to(visitor(request)).for_pages(), pk=pk)


def actionable_reservation(request: HttpRequest, pk: int) -> Reservation:
    """One that the visitor may act on. Raises NotAllowed for one that they only see."""
    reservation = visible_reservation(request, pk)
    check_user_can_act(visitor(request), reservation)
    return reservation
