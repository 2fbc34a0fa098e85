"""The calendar: a week or a month of reservations in the reader's zone, and the feed for other calendars."""

from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from accounts import limits
from reservations import calendar_feed, calendar_layout
from reservations.calendar_layout import DAY
from reservations.models import Reservation
from reservations.views.common import visitor

MOST = 400  # reservations in one picture
WEEK_LANES, MONTH_LANES = 60, 5
AGENDA_LINES = 20  # of a day
FEED_DEEDS = {
    "open": "Your calendar has an address now.",
    "renew": "Your calendar has a new address; the old one stops to answer.",
    "close": "The address of your calendar answers no more.",
}
FETCHES_A_MINUTE = 30  # of one feed: programs fetch it every few minutes
GUESSES_A_MINUTE = 30  # wrong addresses, from one place


@login_required
@require_GET
def calendar(request: HttpRequest) -> HttpResponse:
    """A week, or with ?view=month the weeks of a month; ?day=2026-11-28 is a day in it."""
    now, zone = timezone.now(), _zone()
    view = "month" if request.GET.get("view") == "month" else "week"
    day = _day(request.GET.get("day", "")) or now.astimezone(zone).date()
    first, weeks = _month(day) if view == "month" else (calendar_layout.monday(day), 1)
    last = first + timedelta(weeks=weeks)
    rows = _rows(request, first, last, zone)
    shown, month = rows[:MOST], day.month if view == "month" else 0
    lanes = MONTH_LANES if view == "month" else WEEK_LANES
    context: dict[str, Any] = {
        "view": view,
        "day": day,
        "first": first,
        "last_day": last - DAY,
        "today": now.astimezone(zone).date(),
        "weeks": calendar_layout.weeks(shown, first, weeks, zone, now, most_lanes=lanes, month=month),
        "agenda": calendar_layout.agenda(shown, first, 7 * weeks, zone, most=AGENDA_LINES),
        "lines": [f"{100 * edge / 7:.3f}%" for edge in range(1, 7)],
        "too_many": MOST if len(rows) > MOST else 0,
        **_neighbours(day, first, view),
    }
    return render(request, "reservations/calendar.html", context)


def _zone() -> ZoneInfo:
    """The reader's, which the middleware has set. Its name will not do: that of Etc/GMT+5 is -05, which is no zone."""
    zone = timezone.get_current_timezone()
    assert isinstance(zone, ZoneInfo)  # noqa: S101 - Django's own default is one, too
    return zone


def _rows(request: HttpRequest, first: date, last: date, zone: ZoneInfo) -> list[Reservation]:
    """One more than are shown, to know that there are more."""
    opens, closes = calendar_layout.midnight(first, zone), calendar_layout.midnight(last, zone)
    found = Reservation.objects.visible_to(visitor(request)).filter(start__lt=closes, end__gt=opens)
    slim = found.select_related("service").only("name", "state", "start", "end", "ended_at", "service__name")
    return list(slim.order_by("start", "pk")[: MOST + 1])


def _day(text: str) -> date | None:
    """A day that a calendar can show with the weeks around it; None for everything else that can be typed."""
    try:
        found = date.fromisoformat(text[:10])
    except ValueError:
        return None
    return found if 1971 <= found.year <= 2200 else None


def _month(day: date) -> tuple[date, int]:
    """The Monday on or before its first day, and how many weeks it touches."""
    first = calendar_layout.monday(day.replace(day=1))
    following = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    return first, -(-(following - first).days // 7)


def _neighbours(day: date, first: date, view: str) -> dict[str, date]:
    if view == "week":
        return {"before": first - timedelta(weeks=1), "after": first + timedelta(weeks=1)}
    start = day.replace(day=1)
    return {"before": (start - DAY).replace(day=1), "after": (start + timedelta(days=32)).replace(day=1)}


# ---- the feed ---------------------------------------------------------------------------------------------


@require_GET
def feed(request: HttpRequest, secret: str) -> HttpResponse:
    """What other calendars fetch. Nobody is logged in there: who knows the address may read it."""
    if limits.was_over_here(request, "wrong-calendar", GUESSES_A_MINUTE):
        return _too_often()
    user = calendar_feed.owner_of(secret)
    if user is None:
        limits.is_over_here(request, "wrong-calendar", GUESSES_A_MINUTE)
        raise Http404("There is no calendar at this address.")
    if limits.is_over(f"calendar:{user.pk}", FETCHES_A_MINUTE):
        return _too_often()
    answer = HttpResponse(calendar_feed.render(user, timezone.now()), content_type="text/calendar; charset=utf-8")
    answer["Content-Disposition"] = 'inline; filename="berth.ics"'
    answer["X-Robots-Tag"] = "noindex, nofollow"
    return answer


def _too_often() -> HttpResponse:
    answer = HttpResponse("Too many requests; try again in a minute.\n", content_type="text/plain", status=429)
    answer["Retry-After"] = str(limits.WINDOW_S)
    return answer


@login_required
@require_http_methods(["GET", "POST"])
def feed_page(request: HttpRequest) -> HttpResponse:
    """Shows the address; opens, renews and closes it."""
    user = visitor(request)
    if request.method == "POST":
        deed = request.POST.get("deed", "")
        if deed not in FEED_DEEDS:
            messages.error(request, "Choose what to do with the address.")
        else:
            {"open": calendar_feed.open_, "renew": calendar_feed.renew, "close": calendar_feed.close}[deed](user=user)
            messages.success(request, FEED_DEEDS[deed])
        return redirect("reservations:calendar-feed")
    address = ""
    if user.calendar_key:
        where = reverse("reservations:feed", args=[calendar_feed.secret_of(user.calendar_key)])
        address = f"{settings.BERTH_BASE_URL}{where}"
    return render(request, "reservations/calendar_feed.html", {"address": address, "days": calendar_feed.PAST.days})


urlpatterns = [
    path("calendar/", calendar, name="calendar"),
    path("calendar/feed/", feed_page, name="calendar-feed"),
    path("calendar/<str:secret>.ics", feed, name="feed"),
]
