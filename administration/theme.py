"""What django-unfold is told (settings.UNFOLD). Its colours are in static/berth/admin.css, since our policy takes no
inline style (docs/adr/0011)."""

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest
from django.templatetags.static import static


def logo(request: HttpRequest) -> str:
    return static("berth/logo.svg")


def environment(request: HttpRequest) -> list[str]:
    """Where one is, on every page: nobody should drain the wrong fleet."""
    if settings.DEBUG:
        return ["Development", "warning"]
    name = urlsplit(settings.BERTH_BASE_URL).hostname or "Berth"
    return [f"{name}, plain HTTP", "info"] if settings.INSECURE_HTTP else [name, "success"]


UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Berth",
    "SITE_HEADER": "Berth",
    "SITE_SUBHEADER": "Administration",
    "SITE_URL": "/",
    "SITE_ICON": logo,
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": logo}],
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_BACK_BUTTON": True,
    "ENVIRONMENT": environment,
    "SIDEBAR": {
        "show_search": False,
        "command_search": False,
        "show_all_applications": False,
        "navigation": "administration.navigation.groups",
    },
}
