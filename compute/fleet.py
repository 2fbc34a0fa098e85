"""Reads over the whole fleet, for pages and commands: a constant number of queries."""

from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import Count, OuterRef, Q, Subquery, Sum

from compute.models import Node, Sample


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A node with what is held of it now and what its last probe saw."""

    name: str
    address: str
    gateway: str
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

    def as_json(self) -> dict[str, Any]:
        values = asdict(self) | {"cores": str(self.cores), "held_cores": str(self.held_cores)}
        return values | {"last_seen_at": self.last_seen_at.isoformat() if self.last_seen_at else None}


def node_rows(now: datetime) -> list[NodeRow]:
    held = Q(allocations__released_at=None, allocations__during__contains=now)
    last = Sample.objects.filter(node=OuterRef("pk"), reachable=True).order_by("-at")
    nodes = Node.objects.select_related("gateway").annotate(
        held_ram=Sum("allocations__ram_mib", filter=held, default=0),
        held_core=Sum("allocations__cores", filter=held, default=Decimal(0)),
        held_number=Count("allocations", filter=Q(allocations__id__isnull=False, allocations__released_at=None)),
        sample_memory=Subquery(last.values("memory_free_mib")[:1]),
        sample_load=Subquery(last.values("load_1")[:1]),
        sample_uptime=Subquery(last.values("uptime_s")[:1]),
    )
    return [
        NodeRow(
            name=node.name,
            address=node.address,
            gateway=node.gateway.name,
            state=node.state,
            health=node.health,
            health_reason=node.health_reason,
            ram_mib=node.ram_mib,
            cores=node.cores,
            held_ram_mib=node.held_ram,
            held_cores=node.held_core,
            held_count=node.held_number,
            last_seen_at=node.last_seen_at,
            engine_version=node.engine_version,
            containers_found=node.containers_found,
            memory_free_mib=node.sample_memory,
            load_1=node.sample_load,
            uptime_s=node.sample_uptime,
        )
        for node in nodes
    ]
