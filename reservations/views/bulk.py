"""One deed on the reservations that were ticked: first what happens to each, then it happens."""

from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from accounts.models import User
from reservations.bulk import MOST, Deed, Outcome, carry_out, plan
from reservations.forms import duration_choices
from reservations.list_filter import number, query_back
from reservations.models import Reservation
from reservations.permissions import actionable
from reservations.views.common import visitor

HOUR_MINUTES = 60
DEEDS = [  # for the list: the deed, its word, its icon
    (Deed.EXTEND, "Extend", "clock-plus"),
    ("shorten", "Shorten", "clock-minus"),
    (Deed.STOP, "Stop", "player-stop"),
    (Deed.START, "Start", "player-play"),
    (Deed.RESTART, "Restart", "refresh"),
    (Deed.DELETE, "Delete", "trash"),
]
ASKED = {
    Deed.EXTEND: "Extend",
    Deed.STOP: "Stop",
    Deed.START: "Start",
    Deed.RESTART: "Restart",
    Deed.DELETE: "Delete",
}
DONE = {
    Deed.EXTEND: ("was extended", "were extended"),
    Deed.STOP: ("is being stopped", "are being stopped"),
    Deed.START: ("is being started", "are being started"),
    Deed.RESTART: ("is being restarted", "are being restarted"),
    Deed.DELETE: ("is being taken down", "are being taken down"),
}


@login_required
@require_http_methods(["GET", "POST"])
def bulk(request: HttpRequest) -> HttpResponse:
    """GET says what would happen to each; POST does it, and says of each what could not be."""
    asked, user, now = request.POST if request.method == "POST" else request.GET, visitor(request), timezone.now()
    picked = _picked(asked, user)
    if asked.get("deed") == "shorten" and len(picked) == 1:
        return redirect("reservations:shorten", pk=picked[0].pk)
    if problem := _cannot(asked, picked):
        messages.error(request, problem)
        return redirect(_list(asked, numbers(asked)))
    deed, length = Deed(asked["deed"]), timedelta(minutes=_minutes(asked))
    if request.method == "POST":
        ends = _seen_ends(asked, picked)
        outcomes = carry_out(deed, picked, length=length, by=user, now=now, seen_ends=ends)
        _say(request, deed, outcomes)
        return redirect(_list(asked, [outcome.reservation.pk for outcome in outcomes if not outcome.done]))
    plans = [plan(deed, reservation, length=length, now=now) for reservation in picked]
    most_hours = max(reservation.workspace.max_hours for reservation in picked)
    context = {
        "deed": deed,
        "word": ASKED[deed],
        "plans": plans,
        "count": sum(planned.does for planned in plans),
        "minutes": _minutes(asked),
        "back": query_back(asked.get("back", "")),
        "back_to": _list(asked, [reservation.pk for reservation in picked]),
        "lengths": duration_choices(most_hours) if deed == Deed.EXTEND else [],
    }
    return render(request, "reservations/bulk.html", context)


def _picked(asked: QueryDict, user: User) -> list[Reservation]:
    """Those that were ticked, that exist, and that the visitor may act on; each once, the newest first."""
    found = Reservation.objects.visible_to(user).for_pages().filter(pk__in=numbers(asked))
    rows = list(found.order_by("-created_at", "-pk"))
    mine = actionable(user, rows)
    return [row for row in rows if row.pk in mine]


def numbers(asked: QueryDict) -> set[int]:
    """Those that were ticked, whether or not there are such reservations."""
    return {found for text in asked.getlist("pick")[: 4 * MOST] if (found := number(text)) is not None}


def _list(asked: QueryDict, picked: Iterable[int]) -> str:
    """The list as it was left: filtered, on its page, with these ticked, and the length that was chosen for them."""
    chosen = [("pick", str(pk)) for pk in sorted(picked)]
    if chosen and asked.get("minutes"):
        chosen.append(("minutes", str(_minutes(asked))))
    query = "&".join(filter(None, [query_back(asked.get("back", "")), urlencode(chosen)]))
    return f"{reverse('reservations:list')}?{query}" if query else reverse("reservations:list")


def _seen_ends(asked: QueryDict, picked: list[Reservation]) -> dict[int, datetime]:
    """The ends that the page showed, in seconds since 1970; without one it is extended from the end that it has."""
    found = {}
    for row in picked:
        with suppress(ValueError, OverflowError):
            found[row.pk] = datetime.fromtimestamp(float(asked.get(f"end-{row.pk}", "")), UTC)
    return found


def _cannot(asked: QueryDict, picked: list[Reservation]) -> str:
    """Why nothing can be done at all; empty when something can."""
    if asked.get("deed") == "shorten" and picked:
        return "Only one reservation can be shortened at a time: tick one."
    if asked.get("deed") not in set(Deed) and asked.get("deed") != "shorten":
        return "Choose what to do with the reservations that you tick."
    if not picked:
        return "Tick the reservations first that you want to do this to."
    if len(picked) > MOST:
        return f"At most {MOST} reservations can be chosen at once."
    return ""


def _minutes(asked: QueryDict) -> int:
    """By how much to extend: a multiple of the step, an hour if nothing sensible was asked for."""
    step = settings.BERTH_STEP_MINUTES
    text = asked.get("minutes", "")
    minutes = int(text) if text.isascii() and text.isdecimal() and len(text) < 8 else 0
    return minutes if minutes and not minutes % step else -(-HOUR_MINUTES // step) * step


def _say(request: HttpRequest, deed: Deed, outcomes: list[Outcome]) -> None:
    done = [outcome.reservation.title for outcome in outcomes if outcome.done]
    one, many = DONE[deed]
    if len(done) == 1:
        messages.success(request, f"{done[0]} {one}.")
    elif done:
        messages.success(request, f"{len(done)} reservations {many}.")
    for outcome in outcomes:
        if not outcome.done:
            row = outcome.reservation
            messages.error(request, f"{row.title} (no. {row.pk}) was left as it is. {outcome.sentence}")


urlpatterns = [path("bulk/", bulk, name="bulk")]
