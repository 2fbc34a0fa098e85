"""What is done to one reservation: delete, stop, start, extend."""

from datetime import timedelta

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from compute.capacity import NoCapacity
from reservations import actions, extending
from reservations.forms import ExtensionForm
from reservations.models import Reservation
from reservations.states import State
from reservations.views.common import actionable_reservation, visitor

NO_EXTENSION = (
    actions.InvalidBooking,
    actions.OverQuota,
    actions.CannotAfford,
    NoCapacity,
    extending.CannotExtend,
)


@login_required
@require_http_methods(["GET", "POST"])
def delete(request: HttpRequest, pk: int) -> HttpResponse:
    reservation = actionable_reservation(request, pk)
    if request.method == "GET":
        return render(request, "reservations/delete.html", {"reservation": reservation})
    user = visitor(request)
    if actions.end(reservation=reservation, text=f"Deleted by {user.username}.", by=user, now=timezone.now()):
        messages.success(request, f"{reservation.title} is being taken down.")
    else:
        messages.info(request, f"{reservation.title} is over already.")
    return redirect("reservations:list")


@login_required
@require_POST
def stop(request: HttpRequest, pk: int) -> HttpResponse:
    return _wish(request, pk, Reservation.Wish.STOP)


@login_required
@require_POST
def start(request: HttpRequest, pk: int) -> HttpResponse:
    return _wish(request, pk, Reservation.Wish.RUN)


def _wish(request: HttpRequest, pk: int, wish: Reservation.Wish) -> HttpResponse:
    reservation = actionable_reservation(request, pk)
    if not actions.wish(reservation=reservation, wish=wish, by=visitor(request), now=timezone.now()):
        messages.info(request, f"{reservation.title} is over already.")
    return redirect("reservations:detail", pk=pk)


@login_required
@require_http_methods(["GET", "POST"])
def extend(request: HttpRequest, pk: int) -> HttpResponse:
    """Let it end later. What cannot be is said at the form, with what was chosen still in it."""
    reservation = actionable_reservation(request, pk)
    form = ExtensionForm(request.POST or None, reservation=reservation)
    if request.method == "POST" and form.is_valid():
        length, by = timedelta(minutes=form.cleaned_data["minutes"]), visitor(request)
        try:
            row = extending.extend(reservation=reservation, length=length, by=by, now=timezone.now())
        except NO_EXTENSION as problem:
            form.add_error("minutes", str(problem))
        else:
            messages.success(request, f"{row.title} was extended; its address stays the same.")
            return redirect("reservations:detail", pk=pk)
    if not reservation.is_live or reservation.state == State.ENDING:
        messages.info(request, f"{reservation.title} is over already.")
        return redirect("reservations:detail", pk=pk)
    return render(request, "reservations/extend.html", {"reservation": reservation, "form": form})


urlpatterns = [
    path("<int:pk>/delete/", delete, name="delete"),
    path("<int:pk>/stop/", stop, name="stop"),
    path("<int:pk>/start/", start, name="start"),
    path("<int:pk>/extend/", extend, name="extend"),
]
