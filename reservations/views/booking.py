"""The booking page, its quote while somebody is choosing, and the picture of the week; nothing of these is held.

Without JavaScript every button of them sends the form: `take` says what it changes in it ("start=…"), `ask` only asks.
"""

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from accounts.workspaces import current_workspace
from compute.capacity import NoCapacity
from reservations import actions, again, availability, batches, offers
from reservations.availability import Week
from reservations.booking_form import BookingForm
from reservations.models import Service
from reservations.sizes import CUSTOM, CustomSize
from reservations.views.common import visitor

MAIN_ERRORS = (actions.OverQuota, actions.CannotAfford)
TAKEN = ("start", "end", "duration", "size", "copies")


@login_required
@require_http_methods(["GET", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    user = visitor(request)
    workspace = current_workspace(user)
    if request.method == "GET":
        return form_page(request, BookingForm(workspace=workspace, initial=_initial(request)))
    form = BookingForm(_with_taken(request.POST), workspace=workspace)
    if "take" in request.POST or "ask" in request.POST:
        return form_page(request, form)
    next_slot, may_wait = None, False
    if form.is_valid():
        try:
            rows = batches.book(
                booking=form.booking(), copies=form.how_many, workspace=workspace, by=user, now=timezone.now()
            )
        except actions.InvalidBooking as problem:
            form.tell(problem.problems)
        except NoCapacity as problem:
            form.add_error(None, str(problem))
            next_slot, may_wait = problem.next_slot, form.how_many == 1
        except actions.VolumeTaken as problem:
            form.add_error(None, str(problem))
            next_slot = problem.next_slot
        except MAIN_ERRORS as problem:
            form.add_error(None, str(problem))
        else:
            if len(rows) == 1:
                return redirect("reservations:detail", pk=rows[0].pk)
            messages.success(request, f"{len(rows)} reservations are booked, from {rows[0].title} to {rows[-1].title}.")
            return redirect("reservations:list")
    return form_page(request, form, next_slot=next_slot, may_wait=may_wait, status=422)


def _initial(request: HttpRequest) -> dict[str, Any]:
    """What to begin with: another reservation once more, or a service that was clicked, with the size that suits it."""
    if number := request.GET.get("again", ""):
        found = again.of(visitor(request), number)
        if found is None:
            messages.info(request, "There is no such reservation that you could book again.")
        return found or {}
    slug = request.GET.get("service", "").replace("\0", "")
    service = Service.objects.select_related("default_size").filter(slug=slug).first()
    if service is None:
        return {}
    return {"service": service.slug, "size": service.default_size.slug}


def _with_taken(sent: QueryDict) -> QueryDict:
    """The form with what the pressed button changes in it."""
    form = sent.copy()
    for name, value in QueryDict(sent.get("take", "")[:300]).items():
        if name in TAKEN:
            form[name] = str(value)
    return form


def form_page(request: HttpRequest, form: BookingForm, status: int = 200, **context: Any) -> HttpResponse:
    quote = offers.quote(form, timezone.now()) if form.is_bound else None
    picture = _week(form) if form.is_bound else None
    return render(
        request, "reservations/new.html", {"form": form, "quote": quote, "week": picture, **context}, status=status
    )


@login_required
@require_POST
def quote(request: HttpRequest) -> HttpResponse:
    """The price and whether it fits, while the customer is choosing; nothing is held."""
    form = BookingForm(request.POST, workspace=current_workspace(visitor(request)))
    return render(request, "_partials/quote.html", {"quote": offers.quote(form, timezone.now()), "form": form})


@login_required
@require_POST
def week(request: HttpRequest) -> HttpResponse:
    """The picture of the week for the size that is chosen."""
    form = BookingForm(request.POST, workspace=current_workspace(visitor(request)))
    return render(request, "_partials/week.html", {"week": _week(form), "form": form})


def _week(form: BookingForm) -> Week | None:
    """The picture for the size and the storage in the form; None while there is no size that could be."""
    form.is_valid()
    data = form.cleaned_data
    size = data.get("size")
    if size == CUSTOM:
        cores, ram_mib = data.get("cores"), data.get("ram_mib")
        size = CustomSize(cores, ram_mib) if cores and ram_mib else None
    if size is None:
        return None
    storage = data.get("storage")
    return availability.week(
        ram_mib=size.ram_mib,
        cores=size.cores,
        needs_host=storage is not None and actions.needs_host(storage.code),
        now=timezone.now(),
        zone=timezone.get_current_timezone(),
    )


urlpatterns = [
    path("new/", new, name="new"),
    path("quote/", quote, name="quote"),
    path("week/", week, name="week"),
]
