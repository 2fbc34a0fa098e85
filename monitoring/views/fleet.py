"""The fleet at a glance: /monitor/. Up to twelve nodes are cards; more are a table to be sorted, filtered and paged."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.core.paginator import Paginator
from django.db.models import BooleanField, Count, ExpressionWrapper, OuterRef, Q, Subquery, Sum
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_GET

from billing.models import LedgerAudit
from compute.fleet import NodeRow, node_rows
from compute.health import brake
from compute.models import Forward, Gateway, Node, StorageServer, Volume
from compute.series import LATEST
from monitoring import heartbeats
from monitoring.alerts import incidents
from monitoring.models import Heartbeat
from monitoring.views.guard import for_staff
from reservations.models import Reservation, Service
from reservations.tasks import last_sweep

MOST_CARDS = 12
PER_PAGE = 100
LATE_SWEEP_S = 10
SORTS: dict[str, Callable[[NodeRow], Any]] = {
    "trouble": lambda row: row.is_well and not row.problems,
    "name": lambda row: row.in_order,
    "lent": lambda row: -row.lent_share,
    "used": lambda row: -row.used_share,
    "load": lambda row: -(row.load_1 or 0) / (row.machine_cores or 1),
    "disk": lambda row: -(row.disk_share or 0),
    "containers": lambda row: -(row.containers_running or row.containers_found or 0),
    "seen": lambda row: row.last_seen_at.timestamp() if row.last_seen_at else 0.0,
}
STATES = [state.value for state in Node.State if state != Node.State.REMOVED]


@dataclass(frozen=True, slots=True)
class Wish:
    """Which nodes somebody wants to see, and in which order; what makes no sense is not asked for."""

    state: str = ""
    health: str = ""
    zone: str = ""
    q: str = ""
    sort: str = "trouble"

    @classmethod
    def of(cls, asked: QueryDict) -> "Wish":
        def one_of(name: str, known: list[str], usual: str = "") -> str:
            value = asked.get(name, "")
            return value if value in known else usual

        return cls(
            one_of("state", STATES),
            one_of("health", [*Node.Health.values, "trouble"]),
            asked.get("zone", "")[:63],
            asked.get("q", "").strip().lower()[:63],
            one_of("sort", list(SORTS), "trouble"),
        )

    @property
    def narrows(self) -> bool:
        return bool(self.state or self.health or self.zone or self.q)

    def takes(self, row: NodeRow) -> bool:
        if self.state and row.state != self.state:
            return False
        if self.health == "trouble" and row.is_well and not row.problems:
            return False
        if self.health not in {"", "trouble"} and row.health != self.health:
            return False
        return (not self.zone or row.gateway_name == self.zone) and (not self.q or self.q in row.name)

    def chosen(self, rows: list[NodeRow]) -> list[NodeRow]:
        return sorted(filter(self.takes, rows), key=lambda row: (SORTS[self.sort](row), row.in_order))


@dataclass(frozen=True, slots=True)
class Column:
    """Of the table; `sort` is what it is sorted by when its head is clicked."""

    name: str
    sort: str = ""
    direction: str = "descending"
    is_sorted: bool = False


COLUMNS = (
    Column("Node", "name", "ascending"),
    Column("State", "trouble", "ascending"),
    Column("RAM lent and used", "lent"),
    Column("Cores lent and used", "used"),
    Column("Load", "load"),
    Column("Disk", "disk"),
    Column("Containers", "containers"),
    Column("Up for"),
    Column("Seen", "seen", "ascending"),
)


@dataclass(frozen=True, slots=True)
class Sums:
    """Over all nodes that were not removed."""

    count: int = 0
    well: int = 0
    troubled: int = 0
    resting: int = 0
    ram_mib: int = 0
    cores: float = 0
    held_ram_mib: int = 0
    held_cores: float = 0
    zones: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, rows: list[NodeRow]) -> "Sums":
        return cls(
            len(rows),
            sum(row.is_well for row in rows),
            sum(not row.is_well or bool(row.problems) for row in rows),
            sum(row.state != Node.State.ACTIVE for row in rows),
            sum(row.ram_mib for row in rows),
            float(sum(row.cores for row in rows)),
            sum(row.held_ram_mib for row in rows),
            float(sum(row.held_cores for row in rows)),
            sorted({row.gateway_name for row in rows}),
        )

    @property
    def ram_share(self) -> float | None:
        return self.held_ram_mib / self.ram_mib if self.ram_mib else None

    @property
    def core_share(self) -> float | None:
        return self.held_cores / self.cores if self.cores else None


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits, and who works on it."""

    due: int
    oldest_s: int
    swept_at: datetime | None
    sweep_is_late: bool
    workers: list[Heartbeat]
    beats: list[Heartbeat]
    silent: list[Heartbeat]


@require_GET
@for_staff
def index(request: HttpRequest) -> HttpResponse:
    now = timezone.now()
    rows, wish = node_rows(now), Wish.of(request.GET)
    sums, as_cards = Sums.of(rows), len(rows) <= MOST_CARDS
    chosen = (Wish() if as_cards else wish).chosen(rows)
    context = {
        "section": "fleet",
        "sums": sums,
        "wish": wish,
        "as_cards": as_cards,
        "page_obj": Paginator(chosen, PER_PAGE).get_page(request.GET.get("page")),
        "columns": [replace(column, is_sorted=column.sort == wish.sort) for column in COLUMNS],
        "several_zones": len(sums.zones) > 1,
        "states": STATES,
        "healths": Node.Health.values,
        "queue": _queue(now),
        "gateways": gateways(now),
        "storage_servers": storage_servers(now),
        "services": Service.objects.all(),
        "incidents": incidents.open_now(),
        "brake": brake(now),
        "audit": LedgerAudit.objects.first(),
        "now": now,
    }
    partial = request.headers.get("HX-Target") == "monitor"
    return render(request, "_partials/monitor.html" if partial else "monitor/index.html", context)


def _queue(now: datetime) -> Queue:
    backlog = Reservation.objects.backlog(now)
    swept = last_sweep()
    processes = heartbeats.processes(now)
    return Queue(
        due=backlog.count,
        oldest_s=int(backlog.oldest_s),
        swept_at=swept,
        sweep_is_late=swept is None or (now - swept).total_seconds() > LATE_SWEEP_S,
        workers=[one for one in processes.alive if one.kind == Heartbeat.Kind.WORKER],
        beats=[one for one in processes.alive if one.kind == Heartbeat.Kind.BEAT],
        silent=processes.silent,
    )


def gateways(now: datetime) -> Any:
    """With `rules_wanted`, by the index of the rules that are wanted now; `is_known` where it was checked lately."""
    wanted = Forward.objects.wanted().filter(gateway=OuterRef("pk")).order_by().values("gateway")
    many = Coalesce(Subquery(wanted.annotate(many=Count("*")).values("many")), 0)
    return Gateway.objects.annotate(rules_wanted=many, is_known=_since("checked_at", now))


def storage_servers(now: datetime) -> Any:
    """With `promised_gb`: the sizes of the volumes that are on it, or will be; `is_known` where it was seen lately."""
    there = Volume.objects.exclude(state=Volume.State.REMOVED).filter(server=OuterRef("pk")).order_by()
    sizes = there.values("server").annotate(many=Sum("size_gb")).values("many")
    return StorageServer.objects.annotate(
        promised_gb=Coalesce(Subquery(sizes), 0), is_known=_since("last_seen_at", now)
    )


def _since(field_name: str, now: datetime) -> "ExpressionWrapper[Q]":
    return ExpressionWrapper(Q(**{f"{field_name}__gte": now - LATEST}), output_field=BooleanField())


urlpatterns = [path("", index, name="index")]
