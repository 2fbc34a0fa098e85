"""The admin's pages for the machines. What the portal itself keeps true is shown and not changed here."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from compute import actions
from compute.models import Allocation, Forward, Gateway, LoadStep, Node, StorageServer, Volume


class ReadOnlyAdmin(admin.ModelAdmin[Any]):
    """For rows that only the portal writes: to change one by hand would break a promise."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(Gateway)
class GatewayAdmin(admin.ModelAdmin[Gateway]):
    list_display = ["name", "driver", "public_address", "port_first", "port_last", "drift", "checked_at", "problem"]
    list_filter = ["driver"]
    search_fields = ["name", "public_address"]
    readonly_fields = ["applied_at", "checked_at", "drift", "drift_total", "problem"]


@admin.register(StorageServer)
class StorageServerAdmin(admin.ModelAdmin[StorageServer]):
    list_display = ["name", "address", "account", "path", "capacity_gb", "active", "last_seen_at", "problem"]
    list_filter = ["active"]
    search_fields = ["name", "address"]
    readonly_fields = ["last_seen_at", "problem"]


@admin.register(Node)
class NodeAdmin(admin.ModelAdmin[Node]):
    list_display = [
        "name",
        "address",
        "gateway",
        "state",
        "health",
        "ram_mib",
        "cores",
        "engine_version",
        "last_seen_at",
    ]
    list_filter = ["state", "health", "gateway"]
    list_select_related = ["gateway"]
    search_fields = ["name", "address", "engine_url"]
    readonly_fields = [
        "state",
        "health",
        "health_reason",
        "failures",
        "last_seen_at",
        "engine_version",
        "containers_found",
    ]
    actions = ["cordon", "uncordon", "drain"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # manage.py add_node asks the engine first

    def has_delete_permission(self, request: HttpRequest, obj: Node | None = None) -> bool:
        return False  # manage.py remove_node looks at what is on it

    @admin.action(description="Cordon: give them nothing new")
    def cordon(self, request: HttpRequest, queryset: QuerySet[Node]) -> None:
        self._set(request, queryset, Node.State.CORDONED)

    @admin.action(description="Uncordon: put them back into service")
    def uncordon(self, request: HttpRequest, queryset: QuerySet[Node]) -> None:
        self._set(request, queryset, Node.State.ACTIVE)

    @admin.action(description="Drain: nothing new, wait for what is there to end")
    def drain(self, request: HttpRequest, queryset: QuerySet[Node]) -> None:
        self._set(request, queryset, Node.State.DRAINING)

    def _set(self, request: HttpRequest, queryset: QuerySet[Node], state: Node.State) -> None:
        for node in queryset.exclude(state=Node.State.REMOVED):
            actions.set_node_state(node=node, state=state, by=request.user)
            messages.success(request, f"{node.name} is {state}.")


@admin.register(Allocation)
class AllocationAdmin(ReadOnlyAdmin):
    list_display = ["id", "node", "ram_mib", "cores", "during", "taken_at", "released_at"]
    list_filter = ["node", ("released_at", admin.EmptyFieldListFilter)]
    list_select_related = ["node"]
    search_fields = ["node__name"]


@admin.register(LoadStep)
class LoadStepAdmin(ReadOnlyAdmin):
    list_display = ["node", "at", "ram_mib", "cores"]
    list_filter = ["node"]
    list_select_related = ["node"]
    search_fields = ["node__name"]
    ordering = ["node", "at"]


@admin.register(Forward)
class ForwardAdmin(ReadOnlyAdmin):
    list_display = [
        "public_port",
        "gateway",
        "node",
        "node_port",
        "container_port",
        "name",
        "wanted",
        "applied",
        "during",
    ]
    list_filter = ["wanted", "applied", "gateway", "node", "kind"]
    list_select_related = ["gateway", "node"]
    search_fields = ["=public_port", "node__name"]


@admin.register(Volume)
class VolumeAdmin(ReadOnlyAdmin):
    list_display = ["__str__", "size_gb", "kept", "state", "problem", "node", "server", "created_at"]
    list_filter = ["state", "kept", "server", "node"]
    list_select_related = ["node", "server"]
    search_fields = ["=id", "owned__name"]
