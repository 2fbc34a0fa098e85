"""One container: what was seen of it, what its engine says now, whose it is; restart and end."""

from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from accounts.models import User
from accounts.validators import no_control_characters
from compute import drivers
from compute.engine import EngineRefused, NoAnswer
from compute.models import ObservedContainer
from compute.spec import LABEL_EXPIRES_AT, LABEL_GENERATION, Observed, Presence
from monitoring import series
from monitoring.series import USUAL, NoSuchSpan
from monitoring.views.containers import MOST_ID, Row, rows_of
from monitoring.views.guard import allowed_to, for_staff
from monitoring.views.spans import no_such_span, span_of
from reservations import actions, restarting, stops
from reservations.models import Container, Reservation
from reservations.restarting import CannotRestart

TIME_LIMIT_S = 5.0
TABLE = ["cores_used", "memory_mib", "received_per_s", "sent_per_s"]
may_change = allowed_to("reservations.change_reservation")
# Whoever asks a hanging engine waits for it no longer than the limit; the call itself ends by the driver's own.
_asking = ThreadPoolExecutor(max_workers=4, thread_name_prefix="ask-engine")


class ReasonForm(forms.Form):
    """Why an operator does something to a customer's reservation; the customer reads it."""

    reason = forms.CharField(
        max_length=200,
        validators=[no_control_characters],
        error_messages={"required": "Say why: the customer reads it."},
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """What an engine said of a container just now, or why it did not."""

    problem: str = ""
    seen: Observed | None = None

    @property
    def sentence(self) -> str:
        if self.seen is None:
            return self.problem
        if self.seen.presence == Presence.ABSENT:
            return "The engine does not have this container any more."
        if self.seen.out_of_memory:
            return "It ended: it used more memory than its size allows."
        if self.seen.presence == Presence.EXITED:
            return f"It ended with exit code {self.seen.exit_code}."
        return {Presence.RUNNING: "It runs.", Presence.CREATED: "It was made, and was not started."}.get(
            self.seen.presence, "The engine does not know how it is."
        )

    @property
    def generation(self) -> str:
        return self.seen.labels.get(LABEL_GENERATION, "") if self.seen else ""

    @property
    def expires_at(self) -> str:
        return self.seen.labels.get(LABEL_EXPIRES_AT, "") if self.seen else ""


def ask(container: ObservedContainer, time_limit_s: float) -> Answer:
    """Ask its engine, for no longer than the limit. Only Berth's own labels are shown, nothing of its environment."""
    name = container.node.name
    call: Future[Observed] = _asking.submit(lambda: drivers.engine(container.node).observe(container.name))
    try:
        return Answer(seen=call.result(timeout=time_limit_s))
    except TooLate:
        call.cancel()
        return Answer(f"{name} gave no answer within {time_limit_s:g} s. What is above is from its last reading.")
    except NoAnswer as problem:
        return Answer(f"{name} gives no answer: {problem}. What is above is from its last reading.")
    except EngineRefused as problem:
        return Answer(f"The engine of {name} refused to say: {problem}.")


@require_GET
@for_staff
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    return _page(request, _row(pk))


@require_GET
@for_staff
def now(request: HttpRequest, pk: int) -> HttpResponse:
    """What its engine says this instant: a part of the page for htmx, the whole page for whoever has no scripts."""
    row = _row(pk)
    answer = ask(row.container, TIME_LIMIT_S)
    if request.headers.get("HX-Target") == "live":
        return render(request, "_partials/container_now.html", {"answer": answer, "now": timezone.now()})
    return _page(request, row, answer=answer)


@require_GET
@for_staff
def readings(request: HttpRequest, pk: int) -> HttpResponse:
    number = _row(pk).container.reservation_id or 0
    try:
        found = series.of_reservation(number, request.GET.get("span", USUAL), timezone.now())
    except NoSuchSpan as problem:
        return no_such_span(problem)
    return JsonResponse(series.as_json(stops.excused(found, number)))


@require_POST
@may_change
def restart(request: HttpRequest, pk: int) -> HttpResponse:
    row, form = _row(pk), ReasonForm(request.POST)
    if not form.is_valid():
        return _page(request, row, restart_form=form, status=422)
    reservation = _reservation_of_today(request, row)
    if reservation is None:
        return redirect("monitor:container", pk=pk)
    try:
        restarting.restart(
            reservation=reservation, by=_user(request), reason=form.cleaned_data["reason"], now=timezone.now()
        )
    except CannotRestart as problem:
        messages.error(request, str(problem))
    else:
        messages.success(request, f"{row.container.name} is being restarted; the customer can read why.")
    return redirect("monitor:container", pk=pk)


@require_POST
@may_change
def end(request: HttpRequest, pk: int) -> HttpResponse:
    row, form = _row(pk), ReasonForm(request.POST)
    if not form.is_valid():
        return _page(request, row, end_form=form, status=422)
    reservation = _reservation_of_today(request, row)
    if reservation is None:
        return redirect("monitor:container", pk=pk)
    text = f"Ended by the operators: {form.cleaned_data['reason']}"
    if actions.end(reservation=reservation, text=text, by=_user(request), now=timezone.now()):
        messages.success(request, f"Reservation {reservation} is being taken down; the customer can read why.")
    else:
        messages.info(request, f"Reservation {reservation} is ending or over already.")
    return redirect("monitor:container", pk=pk)


def _reservation_of_today(request: HttpRequest, row: Row) -> Reservation | None:
    """The reservation that this container is the present one of; else None, and the visitor is told why."""
    mine = _container_row(row)
    if row.reservation is None:
        messages.error(request, "No reservation has this container: the drift page says what becomes of it.")
        return None
    if mine is None or mine.generation != row.reservation.generation:
        messages.error(request, f"Reservation {row.reservation} has another container by now; nothing was done.")
        return None
    return row.reservation


def _container_row(row: Row) -> Container | None:
    """The database's row of what the engine shows under this name."""
    if row.reservation is None:
        return None
    found = Container.objects.filter(reservation=row.reservation, node=row.container.node).order_by("-generation")
    return next((one for one in found if one.machine_name == row.container.name), None)


def _row(pk: int) -> Row:
    """Raises Http404."""
    found = get_object_or_404(ObservedContainer.objects.select_related("node"), pk=min(pk, MOST_ID))
    return rows_of([found])[0]


def _page(request: HttpRequest, row: Row, *, status: int = 200, **more: Any) -> HttpResponse:
    at, span = timezone.now(), span_of(request)
    mine = _container_row(row)
    found = series.of_reservation(row.container.reservation_id or 0, span, at)
    context: dict[str, Any] = {
        "section": "containers",
        "row": row,
        "container": row.container,
        "reservation": row.reservation,
        "mine": mine,
        "is_present": mine is not None
        and row.reservation is not None
        and mine.generation == row.reservation.generation,
        "events": row.reservation.events.order_by("-at", "-pk")[:10] if row.reservation else [],
        "span": span,
        "spans": series.SPANS,
        "table": series.as_table(found, TABLE),
        "restart_form": ReasonForm(),
        "end_form": ReasonForm(),
        "now": at,
    }
    partial = request.headers.get("HX-Target") == "container"
    name = "_partials/container.html" if partial else "monitor/container.html"
    return render(request, name, context | more, status=status)


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # noqa: S101 - the guard has seen to it
    return request.user


urlpatterns = [
    path("containers/<int:pk>/", detail, name="container"),
    path("containers/<int:pk>/now/", now, name="container-now"),
    path("containers/<int:pk>/series", readings, name="container-series"),
    path("containers/<int:pk>/restart/", restart, name="container-restart"),
    path("containers/<int:pk>/end/", end, name="container-end"),
]
