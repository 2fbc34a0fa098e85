"""The landing page."""

from dataclasses import dataclass
from decimal import Decimal

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.templatetags.static import static
from django.utils import timezone
from django.views.decorators.http import require_GET
from ninja.openapi.docs import Swagger

from accounts.permissions import NotAllowed
from portal.api import api
from reservations.models import Service, Size, StorageProfile
from reservations.pricing import prices


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
    rows = list(Size.objects.filter(active=True))
    one_core, *hours = prices().per_hour(
        [(Decimal(1), 0), *((row.cores, row.ram_mib) for row in rows)], now=timezone.now()
    )
    sizes = [
        PricedSize(row.slug, row.name, row.cores, row.ram_mib, price) for row, price in zip(rows, hours, strict=True)
    ]
    context = {
        "services": Service.objects.filter(active=True),
        "sizes": sizes,
        "profiles": StorageProfile.objects.filter(active=True),
        "price_per_core_hour": one_core,
    }
    return render(request, "home.html", context)


@require_GET
def api_docs(request: HttpRequest) -> HttpResponse:
    """The API's page, made from its OpenAPI document; all of it is served from here."""
    return Swagger().render_page(request, api)


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """What a member of a workspace may not do is said in a sentence; why else something is refused is not told."""
    sentence = str(exception) if isinstance(exception, NotAllowed) else ""
    return render(request, "403.html", {"sentence": sentence}, status=403)


@require_GET
def favicon(request: HttpRequest) -> HttpResponse:
    """Where browsers look for it on pages that name none: the admin's and the API's."""
    return redirect(static("berth/logo.svg"))
