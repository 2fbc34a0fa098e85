"""The admin's pages for the catalogue and for what was booked."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from compute.admin import ReadOnlyAdmin
from reservations import actions
from reservations.models import (
    Container,
    Endpoint,
    Event,
    IdempotencyKey,
    Orphan,
    Reservation,
    Service,
    Size,
    StorageProfile,
    UsagePeriod,
    WorkspaceVolume,
)


@admin.register(Size)
class SizeAdmin(admin.ModelAdmin[Size]):
    list_display = ["name", "slug", "cores", "ram_mib", "active"]
    list_filter = ["active"]
    search_fields = ["name", "slug"]


@admin.register(StorageProfile)
class StorageProfileAdmin(admin.ModelAdmin[StorageProfile]):
    list_display = ["code", "name", "default_gb", "max_gb", "active"]
    list_filter = ["active"]
    search_fields = ["code", "name"]


@admin.register(Service)
class ServiceAdmin(admin.ModelAdmin[Service]):
    list_display = ["name", "slug", "image", "default_size", "active", "digest", "mirrored_at"]
    list_filter = ["active", ("digest", admin.EmptyFieldListFilter)]
    list_select_related = ["default_size"]
    search_fields = ["name", "slug", "image"]
    readonly_fields = ["digest", "upstream_digest", "mirrored_at"]


@admin.register(WorkspaceVolume)
class WorkspaceVolumeAdmin(ReadOnlyAdmin):
    list_display = ["name", "workspace", "service", "volume", "created_at"]
    list_filter = ["service", "created_at"]
    list_select_related = ["workspace", "service", "volume"]
    search_fields = ["name", "workspace__name"]


@admin.register(Reservation)
class ReservationAdmin(ReadOnlyAdmin):
    list_display = ["id", "title", "workspace", "state", "reason", "start", "end", "generation", "price"]
    list_filter = ["state", "service", "storage", "start"]
    list_select_related = ["workspace", "service"]
    search_fields = ["=id", "name", "workspace__name", "created_by__username"]
    date_hierarchy = "start"
    exclude = ["credentials", "claim_token"]
    actions = ["end_now"]

    @admin.action(description="End them now", permissions=["view"])
    def end_now(self, request: HttpRequest, queryset: QuerySet[Reservation]) -> None:
        if not request.user.is_superuser:
            messages.error(request, "Only an admin can end somebody's reservation.")
            return
        for reservation in queryset:
            text = f"Ended by the administrator {request.user}."
            if actions.end(reservation=reservation, text=text, by=request.user, now=timezone.now()):
                messages.success(request, f"{reservation} is being taken down.")


@admin.register(Container)
class ContainerAdmin(ReadOnlyAdmin):
    list_display = ["machine_name", "node", "generation", "presence", "exit_code", "observed_at", "gone_at"]
    list_filter = ["presence", "node", ("gone_at", admin.EmptyFieldListFilter)]
    list_select_related = ["node"]
    search_fields = ["=reservation__id", "engine_id", "node__name"]


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
    list_display = ["name", "node", "first_seen_at"]
    list_filter = ["node"]
    list_select_related = ["node"]
    search_fields = ["name"]


@admin.register(IdempotencyKey)
class IdempotencyKeyAdmin(ReadOnlyAdmin):
    list_display = ["key", "user", "reservation", "created_at"]
    list_filter = ["created_at"]
    list_select_related = ["user", "reservation__service"]
    search_fields = ["key", "user__username", "=reservation__id"]
