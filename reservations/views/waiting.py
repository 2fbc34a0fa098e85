"""The waiting list: one's own entries in it, and what is done with them."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from accounts.workspaces import current_workspace
from compute.capacity import NoCapacity
from reservations import actions, waiting
from reservations.booking_form import BookingForm
from reservations.models import WaitingEntry
from reservations.permissions import actionable_entries, check_user_can_act_for
from reservations.views.booking import form_page
from reservations.views.common import visitor

ONE_COPY = "Only one copy can wait at a time: join with one, once for each."


@login_required
@require_GET
def waiting_list(request: HttpRequest) -> HttpResponse:
    user = visitor(request)
    entries = list(waiting.shown_to(user))
    mine = actionable_entries(user, entries)
    context = {
        "entries": [(entry, entry.pk in mine) for entry in entries],
        "in_line": WaitingEntry.objects.in_line().count(),
        "closed": list(waiting.closed_lately(user, timezone.now())),
        "now": timezone.now(),
    }
    partial = request.headers.get("HX-Target") == "waiting-list"
    return render(request, "_partials/waiting_list.html" if partial else "reservations/waiting.html", context)


@login_required
@require_POST
def join(request: HttpRequest) -> HttpResponse:
    """With what the booking form has in it; what is wrong is said there, and nothing that was typed is lost."""
    user = visitor(request)
    workspace = current_workspace(user)
    form = BookingForm(request.POST, workspace=workspace)
    if form.is_valid() and form.how_many > 1:
        form.add_error("copies", ONE_COPY)
    if form.is_valid():
        try:
            entry = waiting.join(booking=form.booking(), workspace=workspace, by=user, now=timezone.now())
        except actions.InvalidBooking as problem:
            form.tell(problem.problems)
        except (NoCapacity, waiting.CannotJoin) as problem:
            form.add_error(None, str(problem))
        else:
            messages.success(request, f"{entry.title} is in the waiting list. You are told as soon as it has an offer.")
            return redirect("reservations:waiting")
    return form_page(request, form, status=422)


@login_required
@require_POST
def take(request: HttpRequest, pk: int) -> HttpResponse:
    entry = _actionable(request, pk)
    try:
        reservation = waiting.take(entry=entry, by=visitor(request), now=timezone.now())
    except waiting.OfferOver as over:
        messages.error(request, str(over))
        return redirect("reservations:waiting")
    return redirect("reservations:detail", pk=reservation.pk)


@login_required
@require_POST
def decline(request: HttpRequest, pk: int) -> HttpResponse:
    entry, stay = _actionable(request, pk), request.POST.get("then") == "stay"
    try:
        waiting.decline(entry=entry, stay=stay, by=visitor(request), now=timezone.now())
    except waiting.OfferOver as over:
        messages.error(request, str(over))
    else:
        what = "is at the end of the line again" if stay else "is not in the waiting list any more"
        messages.success(request, f"The offer goes to the next in line; {entry.title} {what}.")
    return redirect("reservations:waiting")


@login_required
@require_POST
def cancel(request: HttpRequest, pk: int) -> HttpResponse:
    entry = _actionable(request, pk)
    if waiting.cancel(entry=entry, by=visitor(request), now=timezone.now()):
        messages.success(request, f"{entry.title} is not in the waiting list any more.")
    else:
        messages.info(request, f"{entry.title} was not in the waiting list any more.")
    return redirect("reservations:waiting")


def _actionable(request: HttpRequest, pk: int) -> WaitingEntry:
    """One that the visitor may act on, which may be closed; anybody else's does not exist. Raises NotAllowed."""
    rows = WaitingEntry.objects.visible_to(visitor(request)).select_related("service", "workspace", "created_by")
    entry = get_object_or_404(rows, pk=pk)
    check_user_can_act_for(visitor(request), entry)
    return entry


urlpatterns = [
    path("waiting/", waiting_list, name="waiting"),
    path("waiting/join/", join, name="waiting-join"),
    path("waiting/<int:pk>/take/", take, name="waiting-take"),
    path("waiting/<int:pk>/decline/", decline, name="waiting-decline"),
    path("waiting/<int:pk>/cancel/", cancel, name="waiting-cancel"),
]
