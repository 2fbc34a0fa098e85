"""The fleet at a glance: /monitor/."""

from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_GET

from billing.models import LedgerAudit
from compute.fleet import node_rows
from compute.health import brake
from compute.models import Gateway, StorageServer
from monitoring.views.guard import for_staff
from reservations.models import Reservation, Service
from reservations.tasks import last_sweep


@require_GET
@for_staff
def index(request: HttpRequest) -> HttpResponse:
    now = timezone.now()
    due = Reservation.objects.due(now)
    oldest = due.order_by("look_at").values_list("look_at", flat=True).first()
    context = {
        "section": "fleet",
        "nodes": node_rows(now),
        "gateways": Gateway.objects.annotate(rules_wanted=Count("forwards", filter=Q(forwards__wanted=True))),
        "storage_servers": StorageServer.objects.all(),
        "services": Service.objects.all(),
        "queue": {
            "due_count": due.count(),
            "oldest_due_s": int((now - oldest).total_seconds()) if oldest else 0,
            "beat_seen_at": last_sweep(),
        },
        "brake": brake(now),
        "audit": LedgerAudit.objects.first(),
        "now": now,
    }
    partial = request.headers.get("HX-Target") == "monitor"
    return render(request, "_partials/monitor.html" if partial else "monitor/index.html", context)


urlpatterns = [path("", index, name="index")]
