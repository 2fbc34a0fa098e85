"""What is done to one reservation: delete, stop, start, restart, rename, and let it end later or earlier."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from compute.capacity import NoCapacity
from reservations import actions, extending, extensions, renaming, restarting, shortening
from reservations.end_forms import EarlierForm, LaterForm
from reservations.models import Reservation
from reservations.states import State
from reservations.transitions import Stale
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
    try:
        if actions.end(reservation=reservation, text=f"Deleted by {user.username}.", by=user, now=timezone.now()):
            messages.success(request, f"{reservation.title} is being taken down.")
        else:
            messages.info(request, f"{reservation.title} is over already.")
    except Stale:
        messages.error(request, f"{reservation.title} is moving just now and was not deleted; try it again.")
        return redirect("reservations:detail", pk=pk)
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
@require_POST
def restart(request: HttpRequest, pk: int) -> HttpResponse:
    reservation = actionable_reservation(request, pk)
    try:
        restarting.restart(reservation=reservation, by=visitor(request), now=timezone.now())
    except restarting.CannotRestart as problem:
        messages.error(request, str(problem))
    else:
        messages.success(request, f"{reservation.title} is being restarted; its address and its data stay.")
    return redirect("reservations:detail", pk=pk)


class NameForm(forms.Form):
    """Another name; how long it may be and what may be in it is for the action to say."""

    # Longer than a name may be, so that the action's own sentence is said and nothing that was typed is cut off.
    name = forms.CharField(
        required=False, max_length=10_000, help_text="At most 60 characters; empty: it is called as its service."
    )


@login_required
@require_http_methods(["GET", "POST"])
def rename(request: HttpRequest, pk: int) -> HttpResponse:
    reservation = actionable_reservation(request, pk)
    form = NameForm(request.POST or None, initial={"name": reservation.name})
    if request.method == "POST" and form.is_valid():
        name = form.cleaned_data["name"]
        try:
            renaming.rename(reservation=reservation, name=name, by=visitor(request), now=timezone.now())
        except actions.InvalidBooking as problem:
            form.add_error("name", problem.problems["name"])
        else:
            return redirect("reservations:detail", pk=pk)
    return _form(request, "rename", {"reservation": reservation, "form": form})


@login_required
@require_http_methods(["GET", "POST"])
def extend(request: HttpRequest, pk: int) -> HttpResponse:
    """Let it end later. What cannot be is said at the form, with what was chosen still in it."""
    reservation, now = actionable_reservation(request, pk), timezone.now()
    if _is_over(request, reservation):
        return redirect("reservations:detail", pk=pk)
    offers = extensions.offers(reservation, now)
    form = LaterForm(request.POST or None, old_end=reservation.end, chosen=_usual(offers.extensions))
    if request.method == "POST" and form.is_valid():
        length, by = form.cleaned_data["length"], visitor(request)
        try:
            row = extending.extend(reservation=reservation, length=length, by=by, now=now, seen_end=reservation.end)
        except NO_EXTENSION as problem:
            form.add_error("end" if form.chosen == "exact" else "minutes", str(problem))
            reservation.refresh_from_db(fields=["end", "price", "terms", "state"])
            offers = extensions.offers(reservation, now)
        else:
            messages.success(request, f"{row.title} was extended; its address stays the same.")
            return redirect("reservations:detail", pk=pk)
    return _form(request, "extend", {"reservation": reservation, "form": form, "offers": offers})


@login_required
@require_http_methods(["GET", "POST"])
def shorten(request: HttpRequest, pk: int) -> HttpResponse:
    """Let it end earlier; the rest of its time is given back."""
    reservation, now = actionable_reservation(request, pk), timezone.now()
    if _is_over(request, reservation):
        return redirect("reservations:detail", pk=pk)
    choices = shortening.choices(reservation, now)
    form = EarlierForm(request.POST or None, old_end=reservation.end, chosen=_usual(choices))
    if request.method == "POST" and form.is_valid():
        length, by = form.cleaned_data["length"], visitor(request)
        try:
            row = shortening.shorten(reservation=reservation, length=length, by=by, now=now, seen_end=reservation.end)
        except (actions.InvalidBooking, shortening.CannotShorten) as problem:
            form.add_error("end" if form.chosen == "exact" else "minutes", str(problem))
            reservation.refresh_from_db(fields=["end", "price", "terms", "state"])
            choices = shortening.choices(reservation, now)
        else:
            messages.success(request, f"{row.title} ends earlier now; what it does not need is free again.")
            return redirect("reservations:detail", pk=pk)
    context: dict[str, Any] = {"reservation": reservation, "form": form, "choices": choices}
    context["earliest"] = shortening.earliest_end(reservation, now)
    return _form(request, "shorten", context)


def _form(request: HttpRequest, deed: str, context: dict[str, Any]) -> HttpResponse:
    """Its page. A POST that gets here was refused, and answers as a booking that is refused does."""
    return render(request, f"reservations/{deed}.html", context, status=422 if request.method == "POST" else 200)


def _usual(choices: Sequence[extensions.Extension | shortening.Shortening]) -> str:
    """An hour, or else the shortest; nothing when there is none."""
    minutes = [each.minutes for each in choices]
    return str(60 if 60 in minutes else minutes[0]) if minutes else ""


def _is_over(request: HttpRequest, reservation: Reservation) -> bool:
    """Whether there is no end left to move; says so."""
    if reservation.is_live and reservation.state != State.ENDING:
        return False
    messages.info(request, f"{reservation.title} is over already.")
    return True


urlpatterns = [
    path("<int:pk>/delete/", delete, name="delete"),
    path("<int:pk>/stop/", stop, name="stop"),
    path("<int:pk>/start/", start, name="start"),
    path("<int:pk>/restart/", restart, name="restart"),
    path("<int:pk>/rename/", rename, name="rename"),
    path("<int:pk>/extend/", extend, name="extend"),
    path("<int:pk>/shorten/", shorten, name="shorten"),
]
