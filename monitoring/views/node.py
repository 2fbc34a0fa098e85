"""One node: how it is and was, what runs on it, who comes next; cordon, uncordon, drain."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.models import AuditEntry
from compute import actions
from compute.fleet import node_rows
from compute.models import Node, ObservedContainer
from monitoring import series
from monitoring.models import Incident
from monitoring.series import USUAL, NoSuchSpan
from monitoring.views.containers import rows_of
from monitoring.views.events import SEE_DEEDS
from monitoring.views.guard import allowed_to, for_staff
from monitoring.views.spans import no_such_span, span_of
from reservations.leaving import Fate, Leaving, plan
from reservations.models import Container
from reservations.states import PLANNED

MOST_CONTAINERS = 200
MOST_COMING = 20
COMING_WITHIN = timedelta(days=7)
MOST_PAST = 25
TABLE = ["cores_used", "cores_lent", "memory_used_mib", "load_1", "containers"]
SAID = {
    Node.State.ACTIVE: "{} is in service: it may be given something new.",
    Node.State.CORDONED: "{} is cordoned: it gets nothing new, and what is on it stays.",
    Node.State.DRAINING: "{} is draining: it gets nothing new, and what can leave it is moved.",
}
DEEDS = {
    "node.active": "Put into service",
    "node.cordoned": "Cordoned",
    "node.draining": "Draining was begun",
    "node.lost": "Taken to be lost",
    "node.enrol": "Enrolled",
    "node.remove": "Removed from the fleet",
    "node.renew_certificate": "Its certificate was renewed",
    "node.prune": "Images that nobody uses were removed",
}
may_change = allowed_to("compute.change_node")


@require_GET
@for_staff
def detail(request: HttpRequest, name: str) -> HttpResponse:
    node, now, span = _node(name), timezone.now(), span_of(request)
    found = series.of_node(node, span, now)
    there = ObservedContainer.objects.select_related("node").filter(node=node).exclude(state="gone").order_by("name")
    coming = _coming(node, now)
    context: dict[str, Any] = {
        "section": "fleet",
        "node": node,
        "row": next(iter(node_rows(now, [node.name])), None),
        "rows": rows_of(list(there[:MOST_CONTAINERS])),
        "container_count": there.count(),
        "coming": coming[:MOST_COMING],
        "coming_count": len(coming),
        "past": _past(node, with_deeds=request.user.has_perm(SEE_DEEDS)),
        "sees_deeds": request.user.has_perm(SEE_DEEDS),
        "span": span,
        "spans": series.SPANS,
        "table": series.as_table(found, TABLE),
        "availability": series.mean(found.values["reachable"]),
        "now": now,
    }
    partial = request.headers.get("HX-Target") == "node"
    return render(request, "_partials/node.html" if partial else "monitor/node.html", context)


@require_GET
@for_staff
def readings(request: HttpRequest, name: str) -> HttpResponse:
    """For the charts: {"step_s", "at": [unix seconds], "values": {name: [number or null]}}."""
    node = _node(name)
    try:
        return JsonResponse(series.as_json(series.of_node(node, request.GET.get("span", USUAL), timezone.now())))
    except NoSuchSpan as problem:
        return no_such_span(problem)


@require_POST
@may_change
def cordon(request: HttpRequest, name: str) -> HttpResponse:
    return _set(request, _present(name), Node.State.CORDONED)


@require_POST
@may_change
def uncordon(request: HttpRequest, name: str) -> HttpResponse:
    return _set(request, _present(name), Node.State.ACTIVE)


@dataclass(frozen=True, slots=True)
class Preview:
    """What draining a node would do to the reservations on it."""

    moving: list[Leaving]
    homeless: list[Leaving]  # they cannot leave, and keep the node busy until their end
    ending: list[Leaving]

    @classmethod
    def of(cls, leavings: Iterable[Leaving]) -> "Preview":
        rows = list(leavings)

        def those(*fates: Fate) -> list[Leaving]:
            return [row for row in rows if row.fate in fates]

        return cls(those(Fate.MOVES), those(Fate.STAYS, Fate.WAITS), those(Fate.ENDS))

    @property
    def empty_at(self) -> datetime | None:
        """When the last of those that cannot leave is over."""
        return max((row.reservation.end for row in self.homeless), default=None)


@require_http_methods(["GET", "POST"])
@may_change
def drain(request: HttpRequest, name: str) -> HttpResponse:
    """First what would become of everything on it; nothing that cannot leave is left behind without a confirmation."""
    node, now = _present(name), timezone.now()
    preview = Preview.of(plan(node, now))
    if request.method == "POST":
        if not preview.homeless or request.POST.get("confirm") == "yes":
            return _set(request, node, Node.State.DRAINING)
        ids = ", ".join(f"#{row.reservation.pk}" for row in preview.homeless[:20])
        many = len(preview.homeless)
        problem = (
            f"{many} reservation{'s' if many > 1 else ''} cannot leave {node.name} ({ids}). Nothing was changed: tick"
            " that you know of them to drain it all the same."
        )
        return _preview(request, node, preview, now, problem=problem, status=422)
    return _preview(request, node, preview, now)


def _preview(
    request: HttpRequest, node: Node, preview: Preview, now: datetime, *, problem: str = "", status: int = 200
) -> HttpResponse:
    context = {"section": "fleet", "node": node, "preview": preview, "problem": problem, "now": now}
    return render(request, "monitor/drain.html", context, status=status)


def _set(request: HttpRequest, node: Node, state: Node.State) -> HttpResponse:
    actions.set_node_state(node=node, state=state, by=request.user)
    messages.success(request, SAID[state].format(node.name))
    return redirect("monitor:node", name=node.name)


def _node(name: str) -> Node:
    """Raises Http404. One that was removed is still shown, for its history."""
    return get_object_or_404(Node.objects.select_related("gateway"), name=name.replace("\0", "")[:64])


def _present(name: str) -> Node:
    """Raises Http404 for one that was removed, too: nothing can be done to it."""
    return get_object_or_404(Node.objects.present().select_related("gateway"), name=name.replace("\0", "")[:64])


@dataclass(frozen=True, slots=True)
class Past:
    """One thing that happened to a node: an incident, or what somebody did."""

    at: datetime
    key: str
    text: str
    who: str = ""
    incident: Incident | None = None


def _past(node: Node, *, with_deeds: bool) -> list[Past]:
    """The newest first."""
    of_node = f"node:{node.pk}"
    incidents = Incident.objects.filter(subject=of_node).exclude(opened_at=None).select_related("acknowledged_by")
    rows = [Past(one.first_seen_at, f"incident-{one.pk}", one.sentence, incident=one) for one in incidents[:MOST_PAST]]
    if with_deeds:
        deeds = AuditEntry.objects.filter(target=of_node).order_by("-at", "-pk")[:MOST_PAST]
        rows += [Past(one.at, f"audit-{one.pk}", DEEDS.get(one.action, one.action), one.actor_name) for one in deeds]
    return sorted(rows, key=lambda row: row.at, reverse=True)[:MOST_PAST]


def _coming(node: Node, now: datetime) -> list[Container]:
    """What is booked on it and begins within a week, the next first."""
    booked = Container.objects.present().current().filter(node=node, reservation__state__in=PLANNED)
    soon = booked.filter(reservation__start__lt=now + COMING_WITHIN).order_by("reservation__start", "pk")
    return list(soon.select_related("reservation__service", "reservation__workspace"))


urlpatterns = [
    path("nodes/<str:name>/", detail, name="node"),
    path("nodes/<str:name>/series", readings, name="node-series"),
    path("nodes/<str:name>/cordon/", cordon, name="node-cordon"),
    path("nodes/<str:name>/uncordon/", uncordon, name="node-uncordon"),
    path("nodes/<str:name>/drain/", drain, name="node-drain"),
]
