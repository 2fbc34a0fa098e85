"""What a reservation used over time: figures for its charts, and a table."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_GET

from compute import charts, series
from compute.charts import SPANS, USUAL, NoSuchSpan
from compute.series import Series
from reservations import stops
from reservations.views.common import visible_reservation

TABLE = ["cores_used", "memory_mib", "received_per_s", "sent_per_s"]


@login_required
@require_GET
def readings(request: HttpRequest, pk: int) -> HttpResponse:
    reservation = visible_reservation(request, pk)
    try:
        found = _series(reservation.pk, request.GET.get("span", USUAL))
    except NoSuchSpan as problem:
        return JsonResponse({"detail": str(problem)}, status=422)
    return JsonResponse(charts.as_json(stops.excused(found, reservation.pk)))


@login_required
@require_GET
def table(request: HttpRequest, pk: int) -> HttpResponse:
    """The same figures in a dozen rows, for whoever sees no charts."""
    reservation = visible_reservation(request, pk)
    span = request.GET.get("span", USUAL)
    span = span if span in SPANS else USUAL
    rows = charts.as_table(_series(reservation.pk, span), TABLE)
    context = {"reservation": reservation, "rows": rows, "span": span, "spans": SPANS}
    return render(request, "reservations/usage.html", context)


def _series(pk: int, span: str) -> Series:
    """Raises NoSuchSpan."""
    now = timezone.now()
    return series.of_reservation(pk, now - charts.length_of(span), now, now=now)


urlpatterns = [
    path("<int:pk>/readings", readings, name="readings"),
    path("<int:pk>/usage/", table, name="usage"),
]
