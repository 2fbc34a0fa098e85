"""The list of reservations: by tab, filtered, a page at a time."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_GET

from reservations import kept_volumes, list_filter
from reservations.list_filter import SORTS, TABS, ListFilter
from reservations.models import Reservation
from reservations.permissions import actionable
from reservations.states import State
from reservations.views import bulk
from reservations.views.common import visitor

PER_PAGE = 25
SOON = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Row:
    """A reservation as the list shows it. `share_left` of its time, from 1 to 0, is that of one that has begun."""

    reservation: Reservation
    can_act: bool
    share_left: float | None
    ends_soon: bool
    ticked: bool

    @classmethod
    def of(cls, reservation: Reservation, can_act: bool, now: datetime, *, ticked: bool) -> "Row":
        begun = reservation.is_live and reservation.start <= now
        left = max(reservation.end - now, timedelta(0))
        share = min(left / reservation.length, 1.0) if begun else None
        return cls(reservation, can_act, share, begun and left < SOON, ticked)


@login_required
@require_GET
def reservation_list(request: HttpRequest) -> HttpResponse:
    user, now = visitor(request), timezone.now()
    asked = ListFilter.of(request.GET)
    rows = asked.rows(user)
    counts = list_filter.counts(rows, now)
    paginator = Paginator(asked.ordered(rows, now).values_list("pk", flat=True), PER_PAGE)
    paginator.count = counts[asked.tab]
    page = paginator.get_page(request.GET.get("page"))
    found = _whole(list(page.object_list))
    mine = actionable(user, found)
    ticked = bulk.numbers(request.GET)
    context: dict[str, Any] = {
        "page_obj": page,
        "rows": [Row.of(row, row.pk in mine, now, ticked=row.pk in ticked) for row in found],
        "asked": asked,
        "tabs": [(tab, text, counts[tab]) for tab, text in TABS.items()],
        "any_moving": any(reservation.is_changing for reservation in found),
        "deeds": bulk.DEEDS,
        "can_pick": bool(mine) and asked.tab != "past",
        "back": list_filter.query_of(request.GET),
        "minutes": request.GET.get("minutes", "")[:8],
    }
    if request.headers.get("HX-Target") == "reservation-list":
        return render(request, "_partials/reservation_list.html", context)
    context |= {
        "sorts": [(name, text) for name, (text, _) in SORTS.items()],
        "states": [state.value for state in State],
        "services": list_filter.services(),
        "workspaces": list_filter.workspaces(user),
        "kept_volumes": kept_volumes.visible_to(user),
    }
    return render(request, "reservations/list.html", context)


def _whole(numbers: list[int]) -> list[Reservation]:
    """The rows of these numbers, in their order: only what is shown is joined with all that belongs to it."""
    found = Reservation.objects.filter(pk__in=numbers).order_by().for_lists().in_bulk()
    return [found[number] for number in numbers if number in found]


urlpatterns = [path("", reservation_list, name="list")]
