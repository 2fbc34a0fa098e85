"""A reservation's page."""

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_GET

from reservations.permissions import user_can_act
from reservations.pricing import prices
from reservations.views.common import visible_reservation, visitor


@login_required
@require_GET
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    return render(request, "reservations/detail.html", _detail_context(request, pk))


@login_required
@require_GET
def state(request: HttpRequest, pk: int) -> HttpResponse:
    """The part of the page that changes; htmx asks for it."""
    return render(request, "_partials/reservation_state.html", _detail_context(request, pk))


def _detail_context(request: HttpRequest, pk: int) -> dict[str, Any]:
    reservation = visible_reservation(request, pk)
    now = timezone.now()
    cost = prices().cost_so_far(reservation_id=pk, now=now) if reservation.running_since else None
    may_act = user_can_act(visitor(request), reservation)
    return {
        "reservation": reservation,
        "may_act": may_act,
        "events": list(reservation.events.all()),
        "now": now,
        "cost_so_far": cost,
    }


urlpatterns = [
    path("<int:pk>/", detail, name="detail"),
    path("<int:pk>/state/", state, name="state"),
]
