"""A reservation's log: its last lines, searched, followed, as a file. For who may act on it: it may hold secrets."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_GET

from compute.log_lines import MOST_LINES
from reservations import logs
from reservations.views.common import actionable_reservation


@login_required
@require_GET
def index(request: HttpRequest, pk: int) -> HttpResponse:
    """The last lines: a part of the page for htmx, a page for whoever has no scripts."""
    reservation = actionable_reservation(request, pk)
    tail, search = _tail(request), _search(request)
    context = {
        "reservation": reservation,
        "log": logs.read(reservation, tail=tail, search=search),
        "tails": logs.TAILS,
        "tail": tail,
        "search": search,
        "follow": "follow" in request.GET,
        "may_act": True,
    }
    partial = request.headers.get("HX-Target") == "log-view"
    return render(request, "_partials/log_view.html" if partial else "reservations/logs.html", context)


@login_required
@require_GET
def more(request: HttpRequest, pk: int) -> HttpResponse:
    """What was written since, and where to ask from next. One that asks with nonsense is told nothing new."""
    reservation = actionable_reservation(request, pk)
    try:
        after = logs.cursor_of(request.GET.get("after", ""))
    except ValueError:
        after = None
    search = _search(request)
    found = logs.read(reservation, tail=logs.USUAL, after_ns=after, search=search)
    context = {"reservation": reservation, "log": found, "search": search, "follow": True}
    return render(request, "_partials/log_more.html", context)


@login_required
@require_GET
def download(request: HttpRequest, pk: int) -> HttpResponse | StreamingHttpResponse:
    """All that its node keeps of it, within limits, as plain text; or a page with why there is none."""
    reservation = actionable_reservation(request, pk)
    search = _search(request)
    found = logs.read(reservation, tail=MOST_LINES, search=search)
    if found.problem:
        context = {"reservation": reservation, "log": found, "tails": logs.TAILS, "tail": logs.USUAL, "search": search}
        return render(request, "reservations/logs.html", context)
    answer = StreamingHttpResponse(logs.as_text(found.lines), content_type="text/plain; charset=utf-8")
    name = f"{reservation.service.slug}-{reservation.pk}-{timezone.now():%Y%m%d-%H%M%S}.log"
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


def _tail(request: HttpRequest) -> int:
    """One that the page offers; anything else is the usual one."""
    asked = request.GET.get("tail", "")
    return int(asked) if asked in {str(tail) for tail in logs.TAILS} else logs.USUAL


def _search(request: HttpRequest) -> str:
    return request.GET.get("search", "")[: logs.MOST_SEARCHED]


urlpatterns = [
    path("<int:pk>/logs/", index, name="logs"),
    path("<int:pk>/logs/more/", more, name="logs-more"),
    path("<int:pk>/logs/download/", download, name="logs-download"),
]
