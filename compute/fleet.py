"""Reads over the whole fleet, for pages and commands: a constant number of queries."""

from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import Count, F, OuterRef, Q, Subquery, Sum

from compute.models import Node, Sample


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A node with what is held of it now and what its last probe saw."""

    name: str
    address: str
    gateway_name: str
    state: str
    health: str
    health_reason: str
    ram_mib: int
    cores: Decimal
    held_ram_mib: int
    held_cores: Decimal
    held_count: int
    last_seen_at: datetime | None
    engine_version: str
    containers_found: int | None
    memory_free_mib: int | None
    load_1: float | None
    uptime_s: int | None
    guard_problem: str
    disk_problem: str
    tls_expires_at: datetime | None

    def as_json(self) -> dict[str, Any]:
        values = asdict(self) | {"cores": str(self.cores), "held_cores": str(self.held_cores)}
        times = {"last_seen_at": self.last_seen_at, "tls_expires_at": self.tls_expires_at}
        return values | {name: at.isoformat() if at else None for name, at in times.items()}


def node_rows(now: datetime) -> list[NodeRow]:
    held = Q(allocations__released_at=None, allocations__during__contains=now)
    last = Sample.objects.filter(node=OuterRef("pk"), reachable=True).order_by("-at")
    rows = Node.objects.present().values(
        "name",
        "address",
        "state",
        "health",
        "health_reason",
        "ram_mib",
        "cores",
        "last_seen_at",
        "engine_version",
        "containers_found",
        "guard_problem",
        "disk_problem",
        "tls_expires_at",
        gateway_name=F("gateway__name"),
        held_ram_mib=Sum("allocations__ram_mib", filter=held, default=0),
        held_cores=Sum("allocations__cores", filter=held, default=Decimal(0)),
        held_count=Count("allocations", filter=Q(allocations__released_at=None)),
        memory_free_mib=Subquery(last.values("memory_free_mib")[:1]),
        load_1=Subquery(last.values("load_1")[:1]),
        uptime_s=Subquery(last.values("uptime_s")[:1]),
    )
    return [NodeRow(**row) for row in rows.order_by("name")]
