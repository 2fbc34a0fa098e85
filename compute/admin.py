"""The admin's pages for the machines. What the portal itself keeps true is shown and not changed here."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from administration.base import BerthAdmin, Link, ReadOnlyAdmin, coloured
from administration.links import address
from compute import actions
from compute.models import (
    Allocation,
    Forward,
    Gateway,
    LoadStep,
    Node,
    ObservedContainer,
    SamplingMark,
    StorageServer,
    Volume,
)

_IS_REMOVED = "{} is removed; manage.py add_node takes it in again."
SEEN_OF_A_NODE: list[Any] = [
    "state",
    "health",
    "health_reason",
    "failures",
    "last_seen_at",
    "lost_at",
    "engine_version",
    "containers_found",
    "guard_checked_at",
    "guard_problem",
    "disk_problem",
    "tls_expires_at",
]


@admin.register(Gateway)
class GatewayAdmin(BerthAdmin):
    list_display = ["name", "driver", "public_address", "port_first", "port_last", "drift", "checked_at", "problem"]
    list_filter = ["driver", ("problem", admin.EmptyFieldListFilter)]
    search_fields = ["name", "public_address"]
    readonly_fields = ["applied_at", "checked_at", "drift", "drift_total", "problem", "see_also"]
    instead_of_deleting = "Remove its nodes first."

    def links(self, row: Gateway) -> list[Link]:
        return [("Drift", address("monitor:drift"))]


@admin.register(StorageServer)
class StorageServerAdmin(BerthAdmin):
    list_display = ["name", "address", "account", "path", "capacity_gb", "active", "last_seen_at", "problem"]
    list_filter = ["active", ("problem", admin.EmptyFieldListFilter)]
    search_fields = ["name", "address"]
    readonly_fields = ["last_seen_at", "problem"]
    instead_of_deleting = "Switch it off instead: take away “Active”, and it gets no new volumes."

    def audit_targets(self, row: StorageServer) -> list[str]:
        return [f"storage:{row.pk}"]


@admin.register(Node)
class NodeAdmin(BerthAdmin):
    """Taken in with manage.py add_node, which asks the engine, and out with remove_node, which looks what is on it."""

    list_display = [
        "name",
        "state_badge",
        "health_badge",
        "address",
        "gateway",
        "ram_mib",
        "cores",
        "engine_version",
        "last_seen_at",
        "see_also",
    ]
    list_filter = ["state", "health", "gateway", ("disk_problem", admin.EmptyFieldListFilter)]
    list_select_related = ["gateway"]
    search_fields = ["name", "address", "engine_url"]
    readonly_fields = ["name", *SEEN_OF_A_NODE, "see_also"]
    fieldsets = [
        (
            None,
            {"fields": ["name", "address", "engine_url", "ssh", "gateway", "ram_mib", "cores", "runtime", "see_also"]},
        ),
        ("What the probes saw", {"fields": SEEN_OF_A_NODE}),
    ]
    actions = ["cordon", "uncordon", "drain"]
    state_badge = coloured("state", {"active": "success", "cordoned": "warning", "draining": "warning"})
    health_badge = coloured("health", {"ok": "success", "unknown": "warning", "returning": "info", "lost": "danger"})

    def links(self, row: Node) -> list[Link]:
        return [("Live", address("monitor:node", row.name)), ("Incidents", address("monitor:incidents"))]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Node | None = None) -> bool:
        return False

    @admin.action(description="Cordon: give them nothing new", permissions=["change"])
    def cordon(self, request: HttpRequest, queryset: QuerySet[Node]) -> None:
        self._set(request, queryset, Node.State.CORDONED)

    @admin.action(description="Uncordon: put them back into service", permissions=["change"])
    def uncordon(self, request: HttpRequest, queryset: QuerySet[Node]) -> None:
        self._set(request, queryset, Node.State.ACTIVE)

    @admin.action(description="Drain: see first what would become of what is there", permissions=["change"])
    def drain(self, request: HttpRequest, queryset: QuerySet[Node]) -> HttpResponse | None:
        """The monitor's page does it, after it has shown what cannot leave."""
        nodes = list(queryset[:2])
        if len(nodes) > 1:
            messages.error(request, "Drain one node at a time: what is on it needs a place on the others.")
            return None
        if nodes[0].state == Node.State.REMOVED:
            messages.warning(request, _IS_REMOVED.format(nodes[0].name))
            return None
        return redirect("monitor:node-drain", name=nodes[0].name)

    def _set(self, request: HttpRequest, queryset: QuerySet[Node], state: Node.State) -> None:
        for node in queryset:
            if node.state == Node.State.REMOVED:
                messages.warning(request, _IS_REMOVED.format(node.name))
                continue
            actions.set_node_state(node=node, state=state, by=request.user)
            messages.success(request, f"{node.name} is {state}.")


@admin.register(Allocation)
class AllocationAdmin(ReadOnlyAdmin):
    list_display = ["id", "node", "ram_mib", "cores", "during", "taken_at", "released_at"]
    list_filter = [("released_at", admin.EmptyFieldListFilter), "node"]
    list_select_related = ["node"]
    search_fields = ["=id", "node__name"]


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
    list_filter = ["wanted", "applied", ("released_at", admin.EmptyFieldListFilter), "kind", "gateway", "node"]
    list_select_related = ["gateway", "node"]
    search_fields = ["=public_port", "node__name"]


@admin.register(Volume)
class VolumeAdmin(ReadOnlyAdmin):
    list_display = ["__str__", "size_gb", "kept", "state", "problem", "node", "server", "created_at"]
    list_filter = ["state", "kept", ("problem", admin.EmptyFieldListFilter), "server", "node"]
    list_select_related = ["node", "server"]
    search_fields = ["=id", "owned__name"]


@admin.register(ObservedContainer)
class ObservedContainerAdmin(ReadOnlyAdmin):
    """What the engines say. Its readings are in partitioned tables, which the charts of the monitor show."""

    list_display = [
        "name",
        "node",
        "reservation_id",
        "state",
        "health",
        "exit_code",
        "out_of_memory",
        "restarts",
        "changed_at",
    ]
    list_filter = ["state", "health", "out_of_memory", "node"]
    list_select_related = ["node"]
    search_fields = ["name", "=reservation_id", "engine_id"]
    ordering = ["-pk"]
    readonly_fields = ["see_also"]

    def links(self, row: ObservedContainer) -> list[Link]:
        return [("Live", address("monitor:container", row.pk)), ("Node", address("monitor:node", row.node.name))]


@admin.register(SamplingMark)
class SamplingMarkAdmin(ReadOnlyAdmin):
    list_display = ["name", "at"]
