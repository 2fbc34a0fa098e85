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
    return _answer(request, reservation, access_context(request, reservation))


@login_required
@require_POST
def reveal(request: HttpRequest, pk: int) -> HttpResponse:
    """The credentials, and the commands with them in it. Who asked is in the audit log. Or hide them again."""
    reservation = actionable_reservation(request, pk)
    revealed = "hide" not in request.POST
    if revealed:
        audit.record(by=visitor(request), action="reservation.reveal", target=f"reservation:{pk}")
    context = access_context(request, reservation, revealed=revealed, typed=_unsaved(request, reservation))
    return _answer(request, reservation, context)


@login_required
@require_POST
def allow(request: HttpRequest, pk: int, name: str) -> HttpResponse:
    """Who may connect to the port from now on. What cannot be is said at the field, with what was typed in it.

    What was typed and is not what was saved now (at another port, or when only one's own address was asked for) stays.
    """
    reservation = actionable_reservation(request, pk)
    _endpoint(reservation, name)
    unsaved, only_mine = _unsaved(request, reservation), "only_mine" in request.POST
    wanted = client_address(request) if only_mine else request.POST.get(f"sources-{name}", "")[:LONGEST_LIST]
    try:
        changed = access.allow(
            reservation=reservation,
            endpoint=name,
            sources=access.split(wanted),
            by=visitor(request),
            now=timezone.now(),
        )
    except InvalidBooking as problem:
        sentence = problem.problems[access.FIELD]
    except access.CannotRestrict as problem:
        sentence = str(problem)
    else:
        said = "Saved: the gateway has it within a few seconds." if changed else "It was so already."
        if not only_mine:
            unsaved.pop(name, None)
        if not unsaved and not _by_htmx(request):
            messages.success(request, said)
            return redirect("reservations:detail", pk=pk)
        reservation = visible_reservation(request, pk)
        context = access_context(request, reservation, typed=unsaved)
        return _answer(request, reservation, context | {"said": said, "said_of": name})
    context = access_context(request, reservation, typed=unsaved, problems={name: sentence})
    return _answer(request, reservation, context, status=422)


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
    context |= access_context(request, reservation, typed=_unsaved(request, reservation))
    return page(request, reservation, **context)


def _endpoint(reservation: Reservation, name: str) -> Endpoint:
    """Raises Http404."""
    found = next((endpoint for endpoint in reservation.endpoints.all() if endpoint.name == name), None)
    if found is None:
        raise Http404
    return found


def _unsaved(request: HttpRequest, reservation: Reservation) -> dict[str, str]:
    """What stands in the ports' fields, by the port's name, where it is not the list that was saved."""
    found = {}
    for endpoint in reservation.endpoints.all():
        text = request.POST.get(f"sources-{endpoint.name}")
        saved = [access.plain(source) for source in endpoint.forward.allowed_sources]
        if text is not None and access.split(text) != saved:
            found[endpoint.name] = text[:LONGEST_LIST]
    return found


def _answer(
    request: HttpRequest, reservation: Reservation, context: dict[str, Any], *, status: int = 200
) -> HttpResponse:
    """The cards alone for htmx, or else the whole page."""
    if _by_htmx(request):
        return render(request, "_components/access.html", context, status=status)
    return page(request, reservation, status=status, **context)


def _by_htmx(request: HttpRequest) -> bool:
    return "HX-Request" in request.headers


urlpatterns = [
    path("<int:pk>/access/", cards, name="access"),
    path("<int:pk>/credentials/", reveal, name="reveal"),
    path("<int:pk>/ports/<str:name>/allow/", allow, name="allow"),
    path("<int:pk>/ports/<str:name>/test/", test, name="test"),
]
