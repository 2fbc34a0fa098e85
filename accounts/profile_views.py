"""The first page of an account: in which zone and language dates are read."""

from zoneinfo import ZoneInfo

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from accounts import preferences
from accounts.dates import written, zone_name
from accounts.forms import DatesForm
from accounts.middleware import browser_zone
from accounts.validators import time_zones
from accounts.views import Asked


@login_required
@require_http_methods(["GET", "POST"])
def profile(request: Asked) -> HttpResponse:
    user = request.user
    now = {"time_zone": user.time_zone, "date_language": user.date_language}
    form = DatesForm(request.POST or None, initial=now)
    if request.method == "POST" and form.is_valid():
        preferences.choose_dates(user=user, by=user, **form.cleaned_data)
        messages.success(request, "Saved. Dates are shown as you chose.")
        return redirect("account:profile")
    shown = form.cleaned_data if form.is_bound and form.is_valid() else now
    context = {
        "form": form,
        "zones": sorted(time_zones()),
        "browser_zone": browser_zone(request),
        "examples": examples(request, **shown),
    }
    return render(request, "accounts/profile.html", context)


@login_required
@require_GET
def dates(request: Asked) -> HttpResponse:
    """The example beside the form, for what is chosen there and not saved yet."""
    form = DatesForm(request.GET)
    shown = form.cleaned_data if form.is_valid() else None
    context = {"examples": examples(request, **shown) if shown else None, "problems": form.errors}
    return render(request, "_partials/date_example.html", context)


def examples(request: HttpRequest, time_zone: str, date_language: str) -> list[str]:
    """This moment, long and short, as it would be shown with these choices."""
    name = time_zone or browser_zone(request)
    local = timezone.now().astimezone(ZoneInfo(name if name in time_zones() else "UTC"))
    return [f"{written(local, style, date_language)} {zone_name(local)}" for style in ("full", "short")]
