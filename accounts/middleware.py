"""Shows times in the reader's zone and language."""

import zoneinfo
from collections.abc import Callable
from urllib.parse import unquote

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from accounts import dates
from accounts.models import User
from accounts.validators import time_zones

COOKIE = "berth_zone"  # written by static/berth/berth.js from what the browser says


class TimeZoneMiddleware:
    """The user's own choice first, then the browser's zone, then UTC."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        user = request.user if isinstance(request.user, User) else None
        dates.read_in(user.date_language if user else "")
        name = (user.time_zone if user else "") or browser_zone(request)
        if name in time_zones():
            timezone.activate(zoneinfo.ZoneInfo(name))
        else:
            timezone.deactivate()
        return self.get_response(request)


def browser_zone(request: HttpRequest) -> str:
    """What the browser says its zone is; empty when it says none that exists."""
    name = unquote(request.COOKIES.get(COOKIE, ""))[:64]
    return name if name in time_zones() else ""
