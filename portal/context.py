"""What every page needs: the brand, the theme, the navigation and, for its menu, the reader's workspaces."""

from dataclasses import dataclass, replace

from django.conf import settings
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from accounts.models import User
from accounts.workspaces import WorkspaceChoice, workspace_choice
from portal.live import tickets

THEME_COOKIE = "berth_theme"  # written by static/berth/berth.js; absent: what the system prefers
THEMES = ("light", "dark")


@dataclass(frozen=True, slots=True)
class NavItem:
    """A link of the navigation; `part` is what the names of its views begin with."""

    text: str
    view: str
    part: str
    path: str = ""
    staff: bool = False
    members: bool = True
    current: bool = False


NAV = (
    NavItem("Reservations", "reservations:list", "reservations"),
    NavItem("Billing", "billing:index", "billing"),
    NavItem("Monitor", "monitor:index", "monitor", staff=True),
    NavItem("Admin", "admin:index", "admin", staff=True),
    NavItem("API docs", "", "api", path="/api/docs", members=False),
)


def site(request: HttpRequest) -> dict[str, object]:
    theme = request.COOKIES.get(THEME_COOKIE, "")
    return {
        "site_name": "Berth",
        "currency": settings.BERTH_CURRENCY,
        "theme": theme if theme in THEMES else "",
        "nav": navigation(request),
        "workspaces": SimpleLazyObject(lambda: _choice(request)),  # asked for by the menu
        "live": live_address(request),
    }


def live_address(request: HttpRequest) -> str:
    """Where this reader's page hears of changes; empty where nothing tells them."""
    user = getattr(request, "user", None)
    if not settings.BERTH_LIVE_URL or not (user and user.is_authenticated):
        return ""
    return f"{settings.BERTH_LIVE_URL.rstrip('/')}/events?ticket={tickets.ticket(user.pk)}"


def _choice(request: HttpRequest) -> WorkspaceChoice | None:
    user = getattr(request, "user", None)
    return workspace_choice(user) if isinstance(user, User) and user.is_authenticated else None


def navigation(request: HttpRequest) -> list[NavItem]:
    """The links that this reader may follow. An error page may come before anybody was identified."""
    user = getattr(request, "user", None)
    member = bool(user and user.is_authenticated)
    staff = bool(user and user.is_staff)
    here = request.resolver_match.view_name if request.resolver_match else ""
    part = here.partition(":")[0]
    return [
        replace(item, current=item.part == part)
        for item in NAV
        if (member or not item.members) and (staff or not item.staff)
    ]
