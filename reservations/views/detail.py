"""A reservation's page."""

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from allauth.account.adapter import get_adapter
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_GET

from compute.charts import SPANS, USUAL
from reservations import logs, ports, steps
from reservations.models import Reservation
from reservations.permissions import user_can_act
from reservations.pricing import prices
from reservations.states import State
from reservations.views.common import visible_reservation, visitor


@login_required
@require_GET
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    return page(request, visible_reservation(request, pk))


@login_required
@require_GET
def state(request: HttpRequest, pk: int) -> HttpResponse:
    """The part of the page that changes; htmx asks for it. What somebody may be typing into is left out."""
    context = context_of(request, visible_reservation(request, pk)) | {"refresh": True}
    return render(request, "_partials/reservation_state.html", context)


def page(request: HttpRequest, reservation: Reservation, /, *, status: int = 200, **more: Any) -> HttpResponse:
    """The whole page; `more` is what a deed on it has found, for whoever has no scripts."""
    return render(request, "reservations/detail.html", context_of(request, reservation) | more, status=status)


def context_of(request: HttpRequest, reservation: Reservation) -> dict[str, Any]:
    now = timezone.now()
    cost = None
    if reservation.running_since:
        cost = prices().cost_so_far(reservation_id=reservation.pk, now=now)
    span = request.GET.get("span", USUAL)
    access = access_context(request, reservation)
    has_log = access["may_act"] and reservation.is_live and reservation.state not in {State.OFFERED, State.BOOKED}
    return access | {
        "events": list(reservation.events.all()),
        "steps": steps.of(reservation),
        "now": now,
        "cost_so_far": cost,
        "spans": SPANS,
        "span": span if span in SPANS else USUAL,
        "tails": logs.TAILS,
        "tail": logs.USUAL,
        "has_log": has_log,
        "parts": " ".join(["charts"] * bool(reservation.running_since) + ["log"] * has_log),
    }


def access_context(
    request: HttpRequest,
    reservation: Reservation,
    *,
    revealed: bool = False,
    typed: Mapping[str, str] = MappingProxyType({}),
    problems: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """What the cards of the ports show."""
    may_act = user_can_act(visitor(request), reservation)
    client = client_address(request)
    cards = ports.cards(reservation, revealed=revealed and may_act, typed=typed, problems=problems)
    return {
        "reservation": reservation,
        "may_act": may_act,
        "revealed": revealed and may_act,
        "cards": cards,
        "client": client,
        "client_is_v4": bool(client) and ":" not in client,
        "shut_out": {card.endpoint.name for card in cards if client and not card.lets_in(client)},
        "has_secrets": any(command.secret for card in cards for command in card.commands)
        or bool(reservation.credentials),
        "access_version": _version(reservation, cards),
    }


def _version(reservation: Reservation, cards: list[ports.Card]) -> str:
    """Changes with what the cards show; the page then has them anew."""
    shown = [str(reservation.state in {State.RUNNING, State.ENDING}), str(reservation.is_live)]
    shown += [f"{card.endpoint.address} {','.join(card.sources)}" for card in cards]
    return hashlib.sha256("|".join(shown).encode()).hexdigest()[:12]


def client_address(request: HttpRequest) -> str:
    """Where the visitor comes from, as the log-in sees it; empty when a proxy does not say."""
    try:
        address = str(get_adapter(request).get_client_ip(request))
    except PermissionDenied:
        return ""
    return address.removeprefix("::ffff:")


urlpatterns = [
    path("<int:pk>/", detail, name="detail"),
    path("<int:pk>/state/", state, name="state"),
]
