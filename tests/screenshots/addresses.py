"""Which pages there are pictures of: what belongs into each address, who looks at it, and what is not shown and why.

Nothing here needs a database before it is called, so tests/unit/portal/test_screenshots.py can see to it that no page
is forgotten.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.screenshots.furniture import Life

if TYPE_CHECKING:
    from accounts.models import User
    from portal.routes import Route

OF_THE_ADMIN = (
    "/admin/",
    "/admin/reservations/reservation/",
    "/admin/reservations/service/",
    "/admin/accounts/workspace/",
)
# What stands for the last parameter of such a beginning of a route; of several that fit it is the longest.
VALUES: dict[str, Callable[[Life], Any]] = {
    "accounts/keys/<int:pk>": lambda life: _of("accounts", "SshKey", user=life.customer),
    "accounts/tokens/<int:pk>": lambda life: _of("accounts", "ApiToken", user=life.customer),
    "accounts/notifications/stop/<str:token>": lambda life: _link_of_a_mail(life.customer),
    "workspaces/<int:pk>": lambda life: life.team.pk,
    "workspaces/<int:pk>/members/<int:user>": lambda life: life.member.pk,
    "workspaces/invitations/<int:pk>": lambda life: life.invitation.pk,
    "reservations/<int:pk>": lambda life: life.running.pk,
    "reservations/<int:pk>/delete": lambda life: life.later.pk,
    "reservations/volumes/<int:pk>": lambda life: life.volume.pk,
    "help/<slug:slug>": lambda life: life.running.service.slug,
    "billing/receipts/<int:pk>": lambda life: life.past.pk,
    "billing/invoices/<path:number>": lambda life: _of("billing", "Invoice", "number", workspace=life.past.workspace),
    "monitor/nodes/<str:name>": lambda life: _of("compute", "Node", "name"),
    "monitor/containers/<int:pk>": lambda life: _of("compute", "ObservedContainer"),
}
# Who looks, where it is not simply a customer, or staff at their pages.
VIEWERS: dict[str, Callable[[Life], "User"]] = {
    "workspaces/invitations/<int:pk>/": lambda life: life.newcomer,
    "workspaces/<int:pk>/leave/": lambda life: life.member,
    "accounts/logout/": lambda life: life.customer,
    "accounts/password/set/": lambda life: life.member,  # who has none
    "accounts/mfa/totp/deactivate/": lambda life: life.member,  # who logs in with a second factor
    "accounts/mfa/recovery-codes/": lambda life: life.member,
    "accounts/mfa/recovery-codes/generate/": lambda life: life.member,
}
# The same pages with something else on them, by the names of their pictures; the customer looks.
MORE: dict[str, Callable[[Life], str]] = {
    "reservations-pk-offered": lambda life: f"/reservations/{life.offered.pk}/",
    "reservations-pk-booked": lambda life: f"/reservations/{life.later.pk}/",
    "reservations-pk-ended": lambda life: f"/reservations/{life.past.pk}/",
    "reservations-new-again": lambda life: f"/reservations/new/?again={life.running.pk}",
}

OF_A_MAIL = "for whoever comes by the link of a mail"
OF_A_PASSKEY = "of a passkey, which only a device can make"
A_PART = "a part of a page"
A_FILE = "a file"
FOR_PROGRAMS = "for programs"
NOT_SHOWN = {
    "accounts/confirm-email/<key>/": OF_A_MAIL,
    "accounts/password/reset/key/<uidb36>-<key>/": OF_A_MAIL,
    "workspaces/join/<str:key>/": "leads on to the invitation's page, which is shown",
    "accounts/mfa/webauthn/keys/<int:pk>/remove/": OF_A_PASSKEY,
    "accounts/mfa/webauthn/keys/<int:pk>/edit/": OF_A_PASSKEY,
    "accounts/dates/": A_PART,
    "accounts/notifications/bell/": A_PART,
    "reservations/<int:pk>/state/": A_PART,
    "reservations/<int:pk>/access/": A_PART,
    "reservations/<int:pk>/logs/more/": A_PART,
    "monitor/containers/<int:pk>/now/": A_PART,
    "reservations/<int:pk>/logs/download/": A_FILE,
    "accounts/mfa/recovery-codes/download/": A_FILE,
    "billing/invoices.csv": A_FILE,
    "billing/ledger.csv": A_FILE,
    "billing/usage.csv": A_FILE,
    "billing/invoices/<path:number>/pdf": A_FILE,
    "billing/invoices/<path:number>/csv": A_FILE,
    "monitor/events.csv": A_FILE,
    "monitor/reports/report.html": A_FILE,
    "monitor/reports/report.csv": A_FILE,
    "monitor/reports/report.json": A_FILE,
    "monitor/money/revenue.csv": A_FILE,
    "favicon.ico": A_FILE,
    "reservations/<int:pk>/readings": FOR_PROGRAMS,
    "reservations/calendar/<str:secret>.ics": FOR_PROGRAMS,
    "monitor/nodes/<str:name>/series": FOR_PROGRAMS,
    "monitor/containers/<int:pk>/series": FOR_PROGRAMS,
    "healthz": FOR_PROGRAMS,
    "readyz": FOR_PROGRAMS,
    "metrics": FOR_PROGRAMS,
}


def pages(routes: Iterable["Route"]) -> "list[Route]":
    """What is to be shown of them: what answers GET, but for the API, the admin, and what NOT_SHOWN names."""
    return [
        route
        for route in routes
        if "GET" in route.methods
        and not route.is_api
        and not route.path.startswith("admin/")
        and route.path not in NOT_SHOWN
    ]


def unaddressed(routes: Iterable["Route"]) -> list[str]:
    """The pages with a parameter of which nobody has said what belongs there."""
    shown = (route.path for route in pages(routes))
    return [path for path in shown if any(_key(path, name) is None for name in _parameters(path))]


@dataclass(frozen=True, slots=True)
class Picture:
    """One page: what its pictures are called, where it is, and who looks at it (None: who is not logged in)."""

    name: str
    path: str
    viewer: "User | None"


def pictures(life: Life) -> Iterator[Picture]:
    """Every page once; first what shows an offer, which lapses."""
    from portal.routes import Access, routes

    viewers = {
        Access.EVERYBODY: None,
        Access.GUEST: None,
        Access.MEMBER: life.customer,
        Access.OWNER: life.customer,
        Access.STAFF: life.admin,
    }
    for name, where in MORE.items():
        yield Picture(name, where(life), life.customer)
    for route in sorted(pages(routes()), key=lambda route: not route.path.startswith("reservations/")):
        if route.access in viewers:
            special = VIEWERS.get(route.path)
            viewer = special(life) if special else viewers[route.access]
            yield Picture(name_of(route.path), address(route.path, life), viewer)
    for path in OF_THE_ADMIN:
        yield Picture(name_of(path), path, life.admin)


def name_of(route: str) -> str:
    """What its pictures are called, in every run the same: reservations-pk-extend."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"\1", route).strip("/").replace("/", "-") or "home"


def address(route: str, life: Life) -> str:
    """The route's path with values in it."""
    path = route
    for name in _parameters(route):
        path = path.replace(f"<{name}>", str(VALUES[_key(route, name) or ""](life)))
    return f"/{path}"


def _key(route: str, parameter: str) -> str | None:
    known = [key for key in VALUES if route.startswith(key) and _parameters(key)[-1] == parameter]
    return max(known, key=len, default=None)


def _parameters(path: str) -> list[str]:
    return [part.partition(">")[0] for part in path.split("<")[1:]]


def _of(app: str, model: str, column: str = "pk", **which: Any) -> Any:
    """A column of the newest such row."""
    from django.apps import apps

    return apps.get_model(app, model)._default_manager.filter(**which).order_by("-pk").values_list(column, flat=True)[0]


def _link_of_a_mail(user: "User") -> str:
    from accounts import choosing
    from accounts.models import Notice

    return choosing.token(user, Notice.ENDED)
