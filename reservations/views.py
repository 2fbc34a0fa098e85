"""The customers' pages: parse, one call, render."""

from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.models import User
from accounts.workspaces import current_workspace
from compute.capacity import NoCapacity
from reservations import actions, extending, kept_volumes, offers
from reservations.forms import BookingForm, ExtensionForm
from reservations.models import Reservation, Service, WorkspaceVolume
from reservations.pricing import prices
from reservations.states import State

PER_PAGE = 25
MAIN_ERRORS = (actions.OverQuota, actions.CannotAfford, actions.VolumeTaken)
NO_EXTENSION = (
    actions.InvalidBooking,
    actions.OverQuota,
    actions.CannotAfford,
    NoCapacity,
    extending.CannotExtend,
)


def _user(request: HttpRequest) -> User:
    """The visitor of a page behind login_required."""
    assert isinstance(request.user, User)  # noqa: S101 - login_required has seen to it
    return request.user


def _reservation(request: HttpRequest, pk: int) -> Reservation:
    """One that the visitor may see; anybody else's does not exist."""
    return get_object_or_404(Reservation.objects.visible_to(_user(request)).for_pages(), pk=pk)


@login_required
@require_GET
def reservation_list(request: HttpRequest) -> HttpResponse:
    rows = Reservation.objects.visible_to(_user(request)).for_pages()
    show = "past" if request.GET.get("show") == "past" else "live"
    shown = rows.past() if show == "past" else rows.live()
    page = Paginator(shown.order_by("-created_at", "-pk"), PER_PAGE).get_page(request.GET.get("page"))
    context = {"page_obj": page, "show": show, "live_count": rows.live().count()}
    context["any_moving"] = any(reservation.is_changing for reservation in page)
    partial = request.headers.get("HX-Target") == "reservation-list"
    if not partial:
        context["kept_volumes"] = kept_volumes.visible_to(_user(request))
    return render(request, "_partials/reservation_list.html" if partial else "reservations/list.html", context)


@login_required
@require_http_methods(["GET", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    user = _user(request)
    workspace = current_workspace(user)
    if request.method == "GET":
        return _form_page(request, BookingForm(workspace=workspace, initial=_initial(request)))
    form = BookingForm(request.POST, workspace=workspace)
    next_slot = None
    if form.is_valid():
        try:
            reservation, _ = actions.book(booking=form.booking(), workspace=workspace, by=user, now=timezone.now())
        except actions.InvalidBooking as problem:
            for field, sentence in problem.problems.items():
                form.add_error(field, sentence)
        except NoCapacity as problem:
            form.add_error(None, str(problem))
            next_slot = problem.next_slot
        except MAIN_ERRORS as problem:
            form.add_error(None, str(problem))
        else:
            return redirect("reservations:detail", pk=reservation.pk)
    return _form_page(request, form, next_slot=next_slot, status=422)


def _initial(request: HttpRequest) -> dict[str, Any]:
    """The service that was clicked on the landing page, and the size that suits it."""
    slug = request.GET.get("service", "").replace("\0", "")
    service = Service.objects.select_related("default_size").filter(slug=slug).first()
    if service is None:
        return {}
    return {"service": service.slug, "size": service.default_size.slug}


def _form_page(request: HttpRequest, form: BookingForm, status: int = 200, **context: Any) -> HttpResponse:
    quote = offers.quote(form, timezone.now()) if form.is_bound else None
    return render(request, "reservations/new.html", {"form": form, "quote": quote, **context}, status=status)


@login_required
@require_POST
def quote(request: HttpRequest) -> HttpResponse:
    """The price and whether it fits, while the customer is choosing; nothing is held."""
    form = BookingForm(request.POST, workspace=current_workspace(_user(request)))
    return render(request, "_partials/quote.html", {"quote": offers.quote(form, timezone.now()), "form": form})


@login_required
@require_GET
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    return render(request, "reservations/detail.html", _detail_context(request, pk))


@login_required
@require_GET
def state(request: HttpRequest, pk: int) -> HttpResponse:
    """The part of the page that changes; htmx asks for it."""
    return render(request, "_partials/reservation_state.html", _detail_context(request, pk))


def _detail_context(request: HttpRequest, pk: int) -> dict[str, Any]:
    reservation = _reservation(request, pk)
    now = timezone.now()
    cost = prices().cost_so_far(reservation_id=pk, now=now) if reservation.running_since else None
    return {"reservation": reservation, "events": list(reservation.events.all()), "now": now, "cost_so_far": cost}


@login_required
@require_http_methods(["GET", "POST"])
def delete(request: HttpRequest, pk: int) -> HttpResponse:
    reservation = _reservation(request, pk)
    if request.method == "GET":
        return render(request, "reservations/delete.html", {"reservation": reservation})
    user = _user(request)
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
    reservation = _reservation(request, pk)
    if not actions.wish(reservation=reservation, wish=wish, by=_user(request), now=timezone.now()):
        messages.info(request, f"{reservation.title} is over already.")
    return redirect("reservations:detail", pk=pk)


@login_required
@require_http_methods(["GET", "POST"])
def extend(request: HttpRequest, pk: int) -> HttpResponse:
    """Let it end later. What cannot be is said at the form, with what was chosen still in it."""
    reservation = _reservation(request, pk)
    form = ExtensionForm(request.POST or None, reservation=reservation)
    if request.method == "POST" and form.is_valid():
        length, by = timedelta(minutes=form.cleaned_data["minutes"]), _user(request)
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


@login_required
@require_http_methods(["GET", "POST"])
def volume_delete(request: HttpRequest, pk: int) -> HttpResponse:
    user = _user(request)
    rows = WorkspaceVolume.objects.present().visible_to(user).select_related("volume", "service")
    volume = get_object_or_404(rows, pk=pk)
    if request.method == "GET":
        used_by = kept_volumes.used_by([volume]).get(volume.pk)
        return render(request, "reservations/volume_delete.html", {"volume": volume, "used_by": used_by})
    try:
        actions.delete_volume(volume=volume, by=user, now=timezone.now())
    except actions.VolumeInUse as problem:
        messages.error(request, str(problem))
    else:
        messages.success(request, f"The volume {volume.name} is being deleted.")
    return redirect("reservations:list")
