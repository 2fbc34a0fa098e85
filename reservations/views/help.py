"""Help: how each service is used. Open to everybody, as the catalogue on the landing page is."""

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import path
from django.views.decorators.http import require_GET

from reservations.models import Service, StorageProfile

app_name = "help"


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Of a guide: text, or lines to be typed."""

    text: str
    typed: bool


def paragraphs(guide: str) -> list[Paragraph]:
    """The paragraphs of a guide; those of which each line begins with four spaces are shown as they are typed."""
    found = []
    for part in guide.replace("\r\n", "\n").split("\n\n"):
        lines = [line for line in part.split("\n") if line.strip()]
        if lines:
            typed = all(line.startswith("    ") for line in lines)
            text = "\n".join(line[4:].rstrip() for line in lines) if typed else " ".join(line.strip() for line in lines)
            found.append(Paragraph(text, typed))
    return found


def options_of(service: Service) -> list[dict[str, Any]]:
    """What its customers may set, each with a name and what is said of it."""
    properties = service.options.get("properties", {}) if isinstance(service.options, dict) else {}
    return [
        {"name": name, "title": rule.get("title") or name, "description": rule.get("description", "")}
        for name, rule in properties.items()
    ]


class _Shown(dict[str, str]):
    """Stands for a reservation's values, which nobody has yet: HOST, PORT, PASSWORD."""

    def __missing__(self, name: str) -> str:
        return name.upper()


@require_GET
def index(request: HttpRequest) -> HttpResponse:
    services = Service.objects.filter(active=True)
    return render(request, "help/index.html", {"services": services})


@require_GET
def service(request: HttpRequest, slug: str) -> HttpResponse:
    row = get_object_or_404(Service.objects.select_related("default_size"), slug=slug, active=True)
    context = {
        "service": row,
        "versions": row.versions.filter(active=True).exclude(digest=""),
        "options": options_of(row),
        "guide": paragraphs(row.guide),
        "commands": [template.format_map(_Shown()) for template in row.connect],
        "profiles": StorageProfile.objects.filter(active=True),
    }
    return render(request, "help/service.html", context)


urlpatterns = [
    path("", index, name="index"),
    path("<slug:slug>/", service, name="service"),
]
