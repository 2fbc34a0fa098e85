"""What is wrong and what was: /monitor/incidents/. Who was told, and who looks after it."""

from dataclasses import dataclass

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Prefetch, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from accounts.models import User
from monitoring.alerts import delivering, incidents
from monitoring.alerts.rules import RULES
from monitoring.models import Delivery, Incident
from monitoring.views.guard import allowed_to, for_staff

PER_PAGE = 30
MOST_OPEN = 100
MOST_UNDELIVERED = 20


class FilterForm(forms.Form):
    """What of the closed ones is shown; what is none of the choices shows nothing."""

    kind = forms.ChoiceField(
        required=False,
        choices=[("", "All kinds"), *((kind, kind.replace("_", " ")) for kind in sorted(RULES))],
        widget=forms.Select(attrs={"class": "form-select"}),
    )
    q = forms.CharField(
        label="Text", required=False, max_length=80, widget=forms.TextInput(attrs={"class": "form-control"})
    )

    @property
    def is_used(self) -> bool:
        return any(self.data.get(name) for name in self.fields)

    def apply(self, rows: QuerySet[Incident]) -> QuerySet[Incident]:
        if not self.is_valid():
            return rows.none()
        if kind := self.cleaned_data["kind"]:
            rows = rows.filter(kind=kind)
        if text := self.cleaned_data["q"]:
            rows = rows.filter(Q(name__icontains=text) | Q(sentence__icontains=text) | Q(note__icontains=text))
        return rows


class NoteForm(forms.Form):
    note = forms.CharField(
        required=False, max_length=400, error_messages={"max_length": "A note has at most 400 characters."}
    )


@dataclass(frozen=True, slots=True)
class Undelivered:
    """A message that could not be sent, or not yet; one for each address."""

    delivery: Delivery
    count: int


@require_GET
@for_staff
def index(request: HttpRequest) -> HttpResponse:
    form = FilterForm(request.GET)
    told = Prefetch("deliveries", Delivery.objects.order_by("pk"))
    standing = incidents.open_now()
    shown = standing[:MOST_OPEN]
    closed = Incident.objects.exclude(closed_at=None).select_related("acknowledged_by").prefetch_related(told)
    page = Paginator(form.apply(closed.order_by("-closed_at", "-pk")), PER_PAGE).get_page(request.GET.get("page"))
    _attach(shown)
    context = {
        "section": "incidents",
        "standing": shown,
        "more": len(standing) - len(shown),
        "form": form,
        "page_obj": page,
        "places": delivering.places(),
        "undelivered": _undelivered(),
        "may_act": request.user.has_perm("monitoring.change_incident"),
        "now": timezone.now(),
    }
    return render(request, "monitor/incidents.html", context)


def _attach(rows: list[Incident]) -> None:
    """Their deliveries, in one query."""
    found: dict[int, list[Delivery]] = {}
    for row in Delivery.objects.filter(incident__in=rows).order_by("pk"):
        found.setdefault(row.incident_id, []).append(row)
    for incident in rows:
        incident._prefetched_objects_cache = {"deliveries": found.get(incident.pk, [])}  # type: ignore[attr-defined]


def _undelivered() -> list[Undelivered]:
    """What failed and was not sent since, by address."""
    rows = Delivery.objects.filter(sent_at=None).exclude(problem="").order_by("-pk")[:1000]
    found: dict[tuple[str, str], list[Delivery]] = {}
    for row in rows:
        found.setdefault((row.channel, row.recipient), []).append(row)
    return [Undelivered(rows[0], len(rows)) for rows in found.values()][:MOST_UNDELIVERED]


@require_POST
@allowed_to("monitoring.change_incident")
def acknowledge(request: HttpRequest, pk: int) -> HttpResponseRedirect:
    return _act(request, pk, take=True)


@require_POST
@allowed_to("monitoring.change_incident")
def unacknowledge(request: HttpRequest, pk: int) -> HttpResponseRedirect:
    return _act(request, pk, take=False)


def _act(request: HttpRequest, pk: int, *, take: bool) -> HttpResponseRedirect:
    assert isinstance(request.user, User)  # noqa: S101 - the guard has seen to it
    incident, form = get_object_or_404(Incident.objects.exclude(opened_at=None), pk=pk), NoteForm(request.POST)
    if not form.is_valid():
        messages.error(request, " ".join(map(str, form.errors["note"])))
        return redirect("monitor:incidents")
    try:
        if take:
            incidents.acknowledge(incident=incident, by=request.user, note=form.cleaned_data["note"])
        else:
            incidents.unacknowledge(incident=incident, by=request.user)
    except incidents.IsOver as problem:
        messages.warning(request, f"{incidents.title(incident)}: {problem}")
    return redirect("monitor:incidents")


@require_POST
@allowed_to("monitoring.change_incident")
def send_again(request: HttpRequest, pk: int) -> HttpResponseRedirect:
    delivery = get_object_or_404(Delivery, pk=pk)
    delivering.send_again(delivery=delivery, by=request.user, now=timezone.now())
    messages.success(request, f"What waits for {delivery.recipient} is sent within a few seconds.")
    return redirect("monitor:incidents")


urlpatterns = [
    path("incidents/", index, name="incidents"),
    path("incidents/<int:pk>/acknowledge/", acknowledge, name="acknowledge"),
    path("incidents/<int:pk>/unacknowledge/", unacknowledge, name="unacknowledge"),
    path("incidents/deliveries/<int:pk>/send-again/", send_again, name="send-again"),
]
