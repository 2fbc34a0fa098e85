"""How full each node is and will be in the next week, and when nothing more fits: /monitor/capacity/."""

from datetime import timedelta

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_GET

from compute.room import read_lines
from monitoring import capacity
from monitoring.capacity import DAYS, HEIGHT, HOURS, WIDTH
from monitoring.views.guard import for_staff
from reservations.models import Size

PER_PAGE = 50


@require_GET
@for_staff
def index(request: HttpRequest) -> HttpResponse:
    now, what = timezone.now(), "cores" if request.GET.get("what") == "cores" else "ram"
    lines = read_lines()
    courses = sorted((capacity.course(line, now, what) for line in lines), key=lambda row: (-row.percent, row.name))
    page = Paginator(courses, PER_PAGE).get_page(request.GET.get("page"))
    context = {
        "section": "capacity",
        "what": what,
        "now": now,
        "total": capacity.in_sum(lines, now, what),
        "nodes": page,
        "sizes": capacity.room_of(list(Size.objects.filter(active=True)), lines, now),
        "days": _days(now),
        "width": WIDTH,
        "height": HEIGHT,
        "late": now + capacity.LOOK_AHEAD,
    }
    return render(request, "monitor/capacity.html", context)


def _days(now: object) -> list[dict[str, object]]:
    """Where each midnight of the reader's zone is on the time line, in the chart's units and in percent."""
    local = timezone.localtime()
    midnight = (local + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    found = []
    for day in range(DAYS):
        at = midnight + timedelta(days=day)
        share = (at - local).total_seconds() / (HOURS * 3600)
        if share < 1:
            found.append({"day": at, "x": round(share * WIDTH, 1), "percent": round(100 * share, 2)})
    return found


urlpatterns = [path("capacity/", index, name="capacity")]
