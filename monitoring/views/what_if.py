"""What if this node dies? Which bookings would move and where, and which would not fit: /monitor/what-if/."""

from dataclasses import dataclass

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_GET

from compute.models import Node
from monitoring.views.guard import for_staff
from reservations import leaving
from reservations.leaving import Fate, Leaving

MOST_ROWS = 200
NAMES_UP_TO = 60  # nodes whose names stand in their cells


@dataclass(frozen=True, slots=True)
class Loss:
    """What becomes of the bookings of the nodes that are lost."""

    nodes: list[Node]
    leavings: list[Leaving]

    def count(self, fate: Fate) -> int:
        return sum(row.fate == fate for row in self.leavings)

    @property
    def with_room(self) -> int:
        return self.count(Fate.MOVES)

    @property
    def without_room(self) -> int:
        return self.count(Fate.WAITS)

    @property
    def losing(self) -> int:
        return sum(row.loses_data for row in self.leavings)

    @property
    def names(self) -> str:
        return ", ".join(node.name for node in self.nodes)

    @property
    def sentence(self) -> str:
        """What stands first on the page."""
        if not self.leavings:
            return "Nothing is booked there: nobody would notice."
        asked = self.with_room + self.without_room
        if not asked:
            return "Nothing would have to move."
        text = f"{self.with_room} of {asked} would move, {self.without_room} would not fit"
        if self.losing:
            text += f", and {self.losing} would lose what is on the disk of the node"
        return f"{text}."

    @property
    def rows(self) -> list[Leaving]:
        """Those that would be in trouble first."""
        order = {Fate.WAITS: 0, Fate.MOVES: 1, Fate.STAYS: 2, Fate.ENDS: 3}
        return sorted(self.leavings, key=lambda row: (order[row.fate], not row.loses_data))[:MOST_ROWS]


@require_GET
@for_staff
def index(request: HttpRequest) -> HttpResponse:
    now = timezone.now()
    fleet = leaving.survey(now)
    nodes = _chosen(request, [row.node for row in fleet])
    homeless = [row for row in fleet if not row.survives]
    context = {
        "section": "what-if",
        "fleet": fleet,
        "homeless": homeless,
        "named": len(fleet) <= NAMES_UP_TO,
        "chosen": {node.name for node in nodes},
        "largest": request.GET.get("largest", ""),
        "loss": Loss(nodes, leaving.plan_loss(nodes, now)) if nodes else None,
        "now": now,
    }
    return render(request, "monitor/what_if.html", context)


def _chosen(request: HttpRequest, nodes: list[Node]) -> list[Node]:
    """The nodes that are asked about. Raises Http404 for one that is not there, and for what is no number."""
    if name := request.GET.get("node", ""):
        found = [node for node in nodes if node.name == name]
        if not found:
            raise Http404
        return found
    if many := request.GET.get("largest", ""):
        if not many.isdecimal() or len(many) > 6 or not 1 <= int(many) <= len(nodes):
            raise Http404
        return sorted(nodes, key=lambda node: (-node.ram_mib, node.name))[: int(many)]
    return []


urlpatterns = [path("what-if/", index, name="what-if")]
