"""The admin's pages for the catalogue and for what was booked."""

from functools import partial

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from administration.base import BerthAdmin, Link, ReadOnlyAdmin, ReadOnlyInline, coloured
from administration.deeds import ask_reason
from administration.links import address
from reservations import actions
from reservations.models import (
    Container,
    Endpoint,
    Event,
    IdempotencyKey,
    Orphan,
    Reservation,
    Service,
    ServiceVersion,
    Size,
    StorageProfile,
    UsagePeriod,
    WaitingEntry,
    WorkspaceVolume,
)

NOT_OFFERED = "Switch it off instead: take away “Active”."


@admin.register(Size)
class SizeAdmin(BerthAdmin):
    list_display = ["name", "slug", "cores", "ram_mib", "active"]
    list_filter = ["active"]
    search_fields = ["name", "slug"]
    instead_of_deleting = NOT_OFFERED


@admin.register(StorageProfile)
class StorageProfileAdmin(BerthAdmin):
    list_display = ["code", "name", "default_gb", "max_gb", "active"]
    list_filter = ["active"]
    search_fields = ["code", "name"]
    instead_of_deleting = NOT_OFFERED


@admin.register(Service)
class ServiceAdmin(BerthAdmin):
    list_display = ["name", "slug", "image", "default_size", "active", "digest", "mirrored_at"]
    list_filter = ["active", ("digest", admin.EmptyFieldListFilter)]
    list_select_related = ["default_size"]
    search_fields = ["name", "slug", "image"]
    readonly_fields = ["digest", "upstream_digest", "mirrored_at"]
    instead_of_deleting = NOT_OFFERED

    def audit_targets(self, row: Service) -> list[str]:
        return [f"service:{row.slug}"]


@admin.register(ServiceVersion)
class ServiceVersionAdmin(BerthAdmin):
    list_display = ["name", "service", "image", "active", "digest", "mirrored_at"]
    list_filter = ["active", "service", ("digest", admin.EmptyFieldListFilter)]
    list_select_related = ["service"]
    search_fields = ["name", "image", "service__name", "service__slug"]
    readonly_fields = ["digest", "upstream_digest", "mirrored_at"]
    instead_of_deleting = NOT_OFFERED

    def audit_targets(self, row: ServiceVersion) -> list[str]:
        return [f"service:{row.service.slug}"]


@admin.register(WorkspaceVolume)
class WorkspaceVolumeAdmin(ReadOnlyAdmin):
    list_display = ["name", "workspace", "service", "volume", "created_at"]
    list_filter = ["service", "created_at"]
    list_select_related = ["workspace", "service", "volume"]
    search_fields = ["name", "workspace__name"]

    def audit_targets(self, row: WorkspaceVolume) -> list[str]:
        return [f"volume:{row.volume_id}"]


class EventInline(ReadOnlyInline):
    model = Event
    fields = ["at", "old_state", "new_state", "text", "by"]
    verbose_name_plural = "its history"


class ContainerInline(ReadOnlyInline):
    model = Container
    fields = ["generation", "node", "presence", "exit_code", "observed_at", "gone_at"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Container]:
        rows: QuerySet[Container] = super().get_queryset(request)
        return rows.select_related("node")


@admin.register(Reservation)
class ReservationAdmin(ReadOnlyAdmin):
    list_display = [
        "id",
        "title",
        "workspace",
        "state_badge",
        "reason",
        "start",
        "end",
        "generation",
        "price",
        "see_also",
    ]
    list_display_links = ["id", "title"]
    list_filter = ["state", "start", "service", "storage"]
    list_select_related = ["workspace", "service"]
    search_fields = ["=id", "name", "workspace__name", "created_by__username"]
    date_hierarchy = "start"
    exclude = ["credentials", "claim_token"]
    readonly_fields = ["see_also"]
    inlines = [ContainerInline, EventInline]
    actions = ["end_now"]
    state_badge = coloured(
        "state",
        {
            "offered": "info",
            "booked": "info",
            "starting": "info",
            "running": "success",
            "ending": "warning",
            "failed": "danger",
        },
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Reservation]:
        rows: QuerySet[Reservation] = super().get_queryset(request)
        return rows.defer("credentials")

    def links(self, row: Reservation) -> list[Link]:
        return [("Live", address("monitor:containers", q=f"berth-{row.pk}-"))]

    def has_end_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("reservations.change_reservation"))

    @admin.action(description="End them now, with a reason", permissions=["end"])
    def end_now(self, request: HttpRequest, queryset: QuerySet[Reservation]) -> HttpResponse | None:
        return ask_reason(
            request,
            queryset,
            page=self,
            action="end_now",
            title="End reservations now",
            about="Their containers are taken down at once. What the customers did not put onto a kept volume is lost.",
            told="The customers read it, in the history of their reservation.",
            do=partial(self._end, request, queryset),
        )

    def _end(self, request: HttpRequest, queryset: QuerySet[Reservation], reason: str) -> None:
        text = f"Ended by the administrator {request.user}: {reason}"
        for reservation in queryset:
            if actions.end(reservation=reservation, text=text, by=request.user, now=timezone.now()):
                messages.success(request, f"{reservation} is being taken down.")
            else:
                messages.info(request, f"{reservation} is over already.")


@admin.register(Container)
class ContainerAdmin(ReadOnlyAdmin):
    list_display = ["machine_name", "node", "generation", "presence", "exit_code", "observed_at", "gone_at", "see_also"]
    list_filter = ["presence", ("gone_at", admin.EmptyFieldListFilter), "node"]
    list_select_related = ["node"]
    search_fields = ["=reservation__id", "engine_id", "node__name"]
    readonly_fields = ["see_also"]

    def links(self, row: Container) -> list[Link]:
        return [
            ("Live", address("monitor:containers", q=row.machine_name)),
            ("Node", address("monitor:node", row.node.name)),
        ]

    def audit_targets(self, row: Container) -> list[str]:
        return [f"reservation:{row.reservation_id}"]


@admin.register(WaitingEntry)
class WaitingEntryAdmin(ReadOnlyAdmin):
    list_display = ["id", "title", "workspace", "place_at", "start", "offer", "offers_lapsed", "reason", "outcome"]
    list_display_links = ["id", "title"]
    list_filter = [("closed_at", admin.EmptyFieldListFilter), "outcome", "service"]
    list_select_related = ["service", "workspace", "offer__service"]
    search_fields = ["=id", "name", "workspace__name", "created_by__username"]

    def audit_targets(self, row: WaitingEntry) -> list[str]:
        return [f"waiting:{row.pk}"]


@admin.register(Endpoint)
class EndpointAdmin(ReadOnlyAdmin):
    list_display = ["reservation", "name", "address"]
    list_filter = ["forward__kind", "forward__gateway"]
    list_select_related = ["reservation__service", "forward__gateway"]
    search_fields = ["=reservation__id", "=forward__public_port"]


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    list_display = ["at", "reservation", "old_state", "new_state", "text", "by"]
    list_filter = ["new_state", "at"]
    list_select_related = ["reservation__service"]
    search_fields = ["=reservation__id", "text", "by"]
    date_hierarchy = "at"


@admin.register(UsagePeriod)
class UsagePeriodAdmin(ReadOnlyAdmin):
    list_display = ["reservation", "generation", "cores", "during"]
    list_filter = ["generation"]
    list_select_related = ["reservation__service"]
    search_fields = ["=reservation__id"]


@admin.register(Orphan)
class OrphanAdmin(ReadOnlyAdmin):
    list_display = ["name", "node", "first_seen_at", "quarantined_at", "see_also"]
    list_filter = [("quarantined_at", admin.EmptyFieldListFilter), "node"]
    list_select_related = ["node"]
    search_fields = ["name"]
    readonly_fields = ["see_also"]

    def links(self, row: Orphan) -> list[Link]:
        return [("Drift", address("monitor:drift")), ("Node", address("monitor:node", row.node.name))]


@admin.register(IdempotencyKey)
class IdempotencyKeyAdmin(ReadOnlyAdmin):
    list_display = ["key", "user", "reservation", "created_at"]
    list_filter = ["created_at"]
    list_select_related = ["user", "reservation__service"]
    search_fields = ["key", "user__username", "=reservation__id"]
    exclude = ["answer", "fingerprint"]  # the answer holds the credentials
