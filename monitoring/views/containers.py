"""Containers as their engines show them, over all nodes: /monitor/containers/."""

from dataclasses import dataclass
from typing import Any

from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_GET

from accounts.models import Workspace
from compute.models import ContainerSample, Node, ObservedContainer
from compute.series import latest_of_containers
from monitoring.views.guard import for_staff
from reservations.models import Reservation, Service

PER_PAGE = 50
MOST_ID = 2**63 - 1
State, Health = ObservedContainer.State, ObservedContainer.Health
TROUBLE = (
    Q(state__in=[State.EXITED, State.DEAD, State.RESTARTING])
    | Q(health=Health.UNHEALTHY)
    | Q(out_of_memory=True)
    | Q(oom_kills__gt=0)
)


@dataclass(frozen=True, slots=True)
class Wish:
    """Which containers somebody wants to see; what makes no sense is not asked for."""

    state: str = ""
    health: str = ""
    node: str = ""
    service: str = ""
    q: str = ""

    @classmethod
    def of(cls, asked: QueryDict) -> "Wish":
        def text(name: str) -> str:
            return asked.get(name, "").replace("\0", "").strip()[:80]

        state, health = text("state"), text("health")
        return cls(
            state if state in {*State.values, "trouble"} else "",
            health if health in {*Health.values, "none"} else "",
            text("node"),
            text("service"),
            text("q"),
        )

    @property
    def narrows(self) -> bool:
        return bool(self.state or self.health or self.node or self.service or self.q)

    def chosen(self) -> "QuerySet[ObservedContainer]":
        """Those that are there, unless the gone ones are asked for."""
        rows = ObservedContainer.objects.all()
        if self.state == "trouble":
            rows = rows.exclude(state=State.GONE).filter(TROUBLE)
        elif self.state:
            rows = rows.filter(state=self.state)
        else:
            rows = rows.exclude(state=State.GONE)
        if self.health:
            rows = rows.filter(health="" if self.health == "none" else self.health)
        if self.node:
            rows = rows.filter(node__name=self.node)
        if self.service:
            rows = rows.filter(reservation_id__in=Reservation.objects.filter(service__slug=self.service).values("pk"))
        return rows.filter(self._of_customer()) if self.q else rows

    def _of_customer(self) -> Q:
        """Of a reservation by its number, of a workspace or a person by a part of the name, or by its own name."""
        workspaces = Workspace.objects.filter(
            Q(name__icontains=self.q)
            | Q(memberships__user__username__icontains=self.q)
            | Q(memberships__user__email__icontains=self.q)
        )
        asked = Q(reservation_id__in=Reservation.objects.filter(workspace__in=workspaces).values("pk"))
        number = self.q.removeprefix("#")
        if number.isascii() and number.isdigit() and int(number) <= MOST_ID:
            asked |= Q(reservation_id=int(number))
        return asked | Q(name__icontains=self.q)


@dataclass(frozen=True, slots=True)
class Row:
    """A container, whose it is, and its latest reading."""

    container: ObservedContainer
    reservation: Reservation | None
    reading: ContainerSample | None

    @property
    def memory_share(self) -> float | None:
        if self.reading is None or self.reading.memory_mib is None or not self.container.memory_limit_mib:
            return None
        return self.reading.memory_mib / self.container.memory_limit_mib


def rows_of(containers: list[ObservedContainer]) -> list[Row]:
    """Two queries, however many there are."""
    wanted = {container.reservation_id for container in containers if container.reservation_id is not None}
    reservations = Reservation.objects.select_related("service", "workspace").in_bulk(wanted)
    readings = latest_of_containers([container.pk for container in containers], timezone.now())
    return [Row(c, reservations.get(c.reservation_id or 0), readings.get(c.pk)) for c in containers]


@require_GET
@for_staff
def index(request: HttpRequest) -> HttpResponse:
    wish = Wish.of(request.GET)
    chosen = wish.chosen().select_related("node").order_by("-pk")
    page = Paginator(chosen, PER_PAGE).get_page(request.GET.get("page"))
    context: dict[str, Any] = {
        "section": "containers",
        "wish": wish,
        "page_obj": page,
        "rows": rows_of(list(page)),
        "now": timezone.now(),
    }
    partial = request.headers.get("HX-Target") == "containers"
    if not partial:
        context |= {
            "states": State.values,
            "healths": [health for health in Health.values if health],
            "nodes": Node.objects.present().values_list("name", flat=True),
            "services": Service.objects.order_by("name"),
        }
    return render(request, "_partials/containers.html" if partial else "monitor/containers.html", context)


urlpatterns = [path("containers/", index, name="containers")]
