"""What is done at a reservation's ports: who may connect, does it answer, show the credentials."""

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from accounts import audit
from reservations import access, reach
from reservations.actions import InvalidBooking
from reservations.models import Endpoint, Reservation
from reservations.views.common import actionable_reservation, visible_reservation, visitor
from reservations.views.detail import access_context, client_address, page

LONGEST_LIST = 4000  # characters that are read and shown again


@login_required
@require_GET
def cards(request: HttpRequest, pk: int) -> HttpResponse:
    """The ports anew, after something about them has changed."""
    reservation = visible_reservation(request, pk)
    if not _by_htmx(request):
        return redirect("reservations:detail", pk=pk)
    return _cards(request, reservation)


@login_required
@require_POST
def reveal(request: HttpRequest, pk: int) -> HttpResponse:
    """The credentials, and the commands with them in it. Who asked is in the audit log."""
    reservation = actionable_reservation(request, pk)
    audit.record(by=visitor(request), action="reservation.reveal", target=f"reservation:{pk}")
    if _by_htmx(request):
        return _cards(request, reservation, revealed=True)
    return page(request, reservation, **access_context(request, reservation, revealed=True))


@login_required
@require_POST
def allow(request: HttpRequest, pk: int, name: str) -> HttpResponse:
    """Who may connect to the port from now on. What cannot be is said at the field, with what was typed in it."""
    reservation = actionable_reservation(request, pk)
    _endpoint(reservation, name)
    typed = request.POST.get(f"sources-{name}", "")[:LONGEST_LIST]
    if "only_mine" in request.POST:
        typed = client_address(request)
    try:
        changed = access.allow(
            reservation=reservation,
            endpoint=name,
            sources=access.split(typed),
            by=visitor(request),
            now=timezone.now(),
        )
    except InvalidBooking as problem:
        sentence = problem.problems[access.FIELD]
    except access.CannotRestrict as problem:
        sentence = str(problem)
    else:
        said = "Saved: the gateway has it within a few seconds." if changed else "It was so already."
        if _by_htmx(request):
            return _cards(request, visible_reservation(request, pk), said=said, said_of=name)
        messages.success(request, said)
        return redirect("reservations:detail", pk=pk)
    more = access_context(request, reservation, typed={name: typed}, problem=sentence)
    if _by_htmx(request):
        return render(request, "_components/access.html", more)
    return page(request, reservation, status=422, **more)


@login_required
@require_POST
def test(request: HttpRequest, pk: int, name: str) -> HttpResponse:
    """Whether the port answers at its public address, through the gateway."""
    reservation = visible_reservation(request, pk)
    endpoint = _endpoint(reservation, name)
    try:
        found = reach.ask(reservation, endpoint, visitor(request).pk)
    except reach.TooOften as problem:
        found = reach.Found("amber", str(problem))
    context: dict[str, Any] = {"found": found, "at": timezone.now(), "found_of": name}
    if _by_htmx(request):
        return render(request, "_partials/reach.html", context)
    return page(request, reservation, **context)


def _endpoint(reservation: Reservation, name: str) -> Endpoint:
    """Raises Http404."""
    found = next((endpoint for endpoint in reservation.endpoints.all() if endpoint.name == name), None)
    if found is None:
        raise Http404
    return found


def _cards(request: HttpRequest, reservation: Reservation, *, revealed: bool = False, **more: Any) -> HttpResponse:
    context = access_context(request, reservation, revealed=revealed)
    return render(request, "_components/access.html", context | more)


def _by_htmx(request: HttpRequest) -> bool:
    return "HX-Request" in request.headers


urlpatterns = [
    path("<int:pk>/access/", cards, name="access"),
    path("<int:pk>/credentials/", reveal, name="reveal"),
    path("<int:pk>/ports/<str:name>/allow/", allow, name="allow"),
    path("<int:pk>/ports/<str:name>/test/", test, name="test"),
]
