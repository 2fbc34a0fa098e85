"""The booking page, and its quote while somebody is choosing."""

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from accounts.workspaces import current_workspace
from compute.capacity import NoCapacity
from reservations import actions, offers
from reservations.forms import BookingForm
from reservations.models import Service
from reservations.views.common import visitor

MAIN_ERRORS = (actions.OverQuota, actions.CannotAfford, actions.VolumeTaken)


@login_required
@require_http_methods(["GET", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    user = visitor(request)
    workspace = current_workspace(user)
    if request.method == "GET":
        return form_page(request, BookingForm(workspace=workspace, initial=_initial(request)))
    form = BookingForm(request.POST, workspace=workspace)
    next_slot, may_wait = None, False
    if form.is_valid():
        try:
            reservation, _ = actions.book(booking=form.booking(), workspace=workspace, by=user, now=timezone.now())
        except actions.InvalidBooking as problem:
            for field, sentence in problem.problems.items():
                form.add_error(field, sentence)
        except NoCapacity as problem:
            form.add_error(None, str(problem))
            next_slot, may_wait = problem.next_slot, True
        except MAIN_ERRORS as problem:
            form.add_error(None, str(problem))
        else:
            return redirect("reservations:detail", pk=reservation.pk)
    return form_page(request, form, next_slot=next_slot, may_wait=may_wait, status=422)


def _initial(request: HttpRequest) -> dict[str, Any]:
    """The service that was clicked on the landing page, and the size that suits it."""
    slug = request.GET.get("service", "").replace("\0", "")
    service = Service.objects.select_related("default_size").filter(slug=slug).first()
    if service is None:
        return {}
    return {"service": service.slug, "size": service.default_size.slug}


def form_page(request: HttpRequest, form: BookingForm, status: int = 200, **context: Any) -> HttpResponse:
    quote = offers.quote(form, timezone.now()) if form.is_bound else None
    return render(request, "reservations/new.html", {"form": form, "quote": quote, **context}, status=status)


@login_required
@require_POST
def quote(request: HttpRequest) -> HttpResponse:
    """The price and whether it fits, while the customer is choosing; nothing is held."""
    form = BookingForm(request.POST, workspace=current_workspace(visitor(request)))
    return render(request, "_partials/quote.html", {"quote": offers.quote(form, timezone.now()), "form": form})


urlpatterns = [
    path("new/", new, name="new"),
    path("quote/", quote, name="quote"),
]
