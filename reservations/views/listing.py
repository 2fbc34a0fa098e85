"""The list of reservations."""

from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.views.decorators.http import require_GET

from reservations import kept_volumes
from reservations.models import Reservation
from reservations.views.common import visitor

PER_PAGE = 25


@login_required
@require_GET
def reservation_list(request: HttpRequest) -> HttpResponse:
    rows = Reservation.objects.visible_to(visitor(request)).for_pages()
    show = "past" if request.GET.get("show") == "past" else "live"
    shown = rows.past() if show == "past" else rows.live()
    page = Paginator(shown.order_by("-created_at", "-pk"), PER_PAGE).get_page(request.GET.get("page"))
    context = {"page_obj": page, "show": show, "live_count": rows.live().count()}
    context["any_moving"] = any(reservation.is_changing for reservation in page)
    partial = request.headers.get("HX-Target") == "reservation-list"
    if not partial:
        context["kept_volumes"] = kept_volumes.visible_to(visitor(request))
    return render(request, "_partials/reservation_list.html" if partial else "reservations/list.html", context)


urlpatterns = [path("", reservation_list, name="list")]
