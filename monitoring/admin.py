"""The admin's pages for what the monitor remembers. It is all written by the portal; the deeds are on /monitor/."""

from typing import cast

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts.models import User
from administration.base import Link, ReadOnlyAdmin, ReadOnlyInline, coloured
from administration.links import address
from monitoring.alerts import incidents
from monitoring.models import Delivery, DriftLook, Heartbeat, Incident


@admin.register(Heartbeat)
class HeartbeatAdmin(ReadOnlyAdmin):
    list_display = ["name", "kind", "started_at", "at"]
    list_filter = ["kind"]
    search_fields = ["name"]


class DeliveryInline(ReadOnlyInline):
    model = Delivery
    fields = ["about", "channel", "recipient", "created_at", "sent_at", "attempts", "problem"]


@admin.register(Incident)
class IncidentAdmin(ReadOnlyAdmin):
    list_display = [
        "kind",
        "name",
        "severity_badge",
        "sentence",
        "opened_at",
        "closed_at",
        "acknowledged_by",
        "see_also",
    ]
    list_filter = [
        "severity",
        ("closed_at", admin.EmptyFieldListFilter),
        ("acknowledged_at", admin.EmptyFieldListFilter),
        "opened_at",
        "kind",
    ]
    list_select_related = ["acknowledged_by"]
    search_fields = ["kind", "name", "sentence", "subject"]
    date_hierarchy = "first_seen_at"
    readonly_fields = ["see_also"]
    inlines = [DeliveryInline]
    actions = ["acknowledge"]
    severity_badge = coloured("severity", {"critical": "danger", "warning": "warning", "info": "info"})

    def links(self, row: Incident) -> list[Link]:
        """`path` is written by the portal alone; what does not begin with one slash is none of its pages."""
        ours = row.path if row.path.startswith("/") and not row.path.startswith("//") else ""
        return [("What it is about", ours), ("Incidents now", address("monitor:incidents"))]

    def has_acknowledge_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("monitoring.change_incident"))

    @admin.action(description="Acknowledge: you look after them", permissions=["acknowledge"])
    def acknowledge(self, request: HttpRequest, queryset: QuerySet[Incident]) -> None:
        for incident in queryset:
            try:
                incidents.acknowledge(incident=incident, by=cast(User, request.user))
                messages.success(request, f"{incident} is yours.")
            except incidents.IsOver as problem:
                messages.info(request, f"{incident}: {problem}")


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    list_display = ["incident", "about", "channel", "recipient", "created_at", "sent_at", "attempts", "problem"]
    list_filter = ["channel", "about", ("sent_at", admin.EmptyFieldListFilter), "created_at"]
    list_select_related = ["incident"]
    search_fields = ["recipient", "incident__name", "incident__kind"]
    ordering = ["-pk"]


@admin.register(DriftLook)
class DriftLookAdmin(ReadOnlyAdmin):
    list_display = ["asked_at", "asked_by", "machines", "looked_at", "started_at", "finished_at"]
    list_filter = ["asked_at", ("finished_at", admin.EmptyFieldListFilter)]
    search_fields = ["asked_by"]

    def links(self, row: DriftLook) -> list[Link]:
        return [("Drift", address("monitor:drift"))]
