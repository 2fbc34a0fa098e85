"""The landing page."""

from dataclasses import dataclass
from decimal import Decimal

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.templatetags.static import static
from django.views.decorators.http import require_GET
from ninja.openapi.docs import Swagger

from portal.api import api
from reservations import pricing
from reservations.models import Service, Size, StorageProfile


@dataclass(frozen=True, slots=True)
class PricedSize:
    """A size with what it costs an hour."""

    slug: str
    name: str
    cores: Decimal
    ram_mib: int
    price_per_hour: Decimal


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    sizes = [
        PricedSize(size.slug, size.name, size.cores, size.ram_mib, pricing.per_hour(cores=size.cores))
        for size in Size.objects.filter(active=True)
    ]
    context = {
        "services": Service.objects.filter(active=True),
        "sizes": sizes,
        "profiles": StorageProfile.objects.filter(active=True),
        "price_per_core_hour": settings.BERTH_PRICE_PER_CORE_HOUR,
    }
    return render(request, "home.html", context)


@require_GET
def api_docs(request: HttpRequest) -> HttpResponse:
    """The API's page, made from its OpenAPI document; all of it is served from here."""
    return Swagger().render_page(request, api)


@require_GET
def favicon(request: HttpRequest) -> HttpResponse:
    """Where browsers look for it on pages that name none: the admin's and the API's."""
    return redirect(static("berth/logo.svg"))
