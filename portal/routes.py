"""Who may what at each address. The addresses come from the URL table, so a new one cannot be forgotten.

`manage.py routes` prints the table, and tests/unit/portal/test_routes.py holds the portal to it.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from django.contrib.admindocs.views import simplify_regex
from django.urls import URLPattern, URLResolver, get_resolver
from django.urls.resolvers import RegexPattern
from ninja.operation import PathView


class Access(StrEnum):
    """Whom an address is for."""

    EVERYBODY = "everybody"
    GUEST = "whoever is not logged in"
    MEMBER = "whoever is logged in, with what is their own"
    OWNER = "its owner, or members of the workspace that owns it"
    STAFF = "staff"
    NOBODY = "nobody"


ACCESS = {
    "": Access.EVERYBODY,
    "favicon.ico": Access.EVERYBODY,
    "healthz": Access.EVERYBODY,
    "readyz": Access.EVERYBODY,
    "metrics": Access.EVERYBODY,
    "accounts/": Access.MEMBER,
    "accounts/dates/": Access.MEMBER,
    "accounts/delete/": Access.MEMBER,
    "accounts/keys/": Access.MEMBER,
    "accounts/keys/new/": Access.MEMBER,
    "accounts/keys/<int:pk>/remove/": Access.OWNER,
    "accounts/login/": Access.GUEST,
    "accounts/signup/": Access.GUEST,
    "accounts/login/code/confirm/": Access.GUEST,
    "accounts/logout/": Access.EVERYBODY,
    "accounts/inactive/": Access.EVERYBODY,
    "accounts/confirm-email/": Access.EVERYBODY,
    "accounts/confirm-email/<key>/": Access.EVERYBODY,
    "accounts/password/reset/": Access.EVERYBODY,
    "accounts/password/reset/done/": Access.EVERYBODY,
    "accounts/password/reset/key/<uidb36>-<key>/": Access.EVERYBODY,
    "accounts/password/reset/key/done/": Access.EVERYBODY,
    "accounts/reauthenticate/": Access.MEMBER,
    "accounts/email/": Access.MEMBER,
    "accounts/password/change/": Access.MEMBER,
    "accounts/password/set/": Access.MEMBER,
    "accounts/mfa/": Access.MEMBER,
    "accounts/mfa/authenticate/": Access.GUEST,
    "accounts/mfa/reauthenticate/": Access.MEMBER,
    "accounts/mfa/totp/activate/": Access.MEMBER,
    "accounts/mfa/totp/deactivate/": Access.MEMBER,
    "accounts/mfa/recovery-codes/": Access.MEMBER,
    "accounts/mfa/recovery-codes/generate/": Access.MEMBER,
    "accounts/mfa/recovery-codes/download/": Access.MEMBER,
    "accounts/mfa/webauthn/": Access.MEMBER,
    "accounts/mfa/webauthn/add/": Access.MEMBER,
    "accounts/mfa/webauthn/reauthenticate/": Access.MEMBER,
    "accounts/mfa/webauthn/keys/<int:pk>/remove/": Access.OWNER,
    "accounts/mfa/webauthn/keys/<int:pk>/edit/": Access.OWNER,
    "accounts/mfa/webauthn/login/": Access.GUEST,
    "accounts/sessions/": Access.MEMBER,
    "accounts/sso/": Access.MEMBER,
    "accounts/sso/start/": Access.EVERYBODY,
    "accounts/sso/callback/": Access.EVERYBODY,
    "accounts/sso/signup/": Access.GUEST,
    "accounts/sso/cancelled/": Access.EVERYBODY,
    "accounts/tokens/": Access.MEMBER,
    "accounts/tokens/new/": Access.MEMBER,
    "accounts/tokens/<int:pk>/revoke/": Access.OWNER,
    "workspaces/": Access.MEMBER,
    "workspaces/new/": Access.MEMBER,
    "workspaces/switch/": Access.OWNER,
    "workspaces/join/<str:key>/": Access.EVERYBODY,
    "workspaces/invitations/<int:pk>/": Access.OWNER,
    "workspaces/invitations/<int:pk>/decline/": Access.OWNER,
    "workspaces/<int:pk>/": Access.OWNER,
    "workspaces/<int:pk>/rename/": Access.OWNER,
    "workspaces/<int:pk>/leave/": Access.OWNER,
    "workspaces/<int:pk>/close/": Access.OWNER,
    "workspaces/<int:pk>/invite/": Access.OWNER,
    "workspaces/<int:pk>/invitations/<int:invitation>/resend/": Access.OWNER,
    "workspaces/<int:pk>/invitations/<int:invitation>/revoke/": Access.OWNER,
    "workspaces/<int:pk>/members/<int:user>/role/": Access.OWNER,
    "workspaces/<int:pk>/members/<int:user>/remove/": Access.OWNER,
    "accounts/notifications/": Access.MEMBER,
    "accounts/notifications/bell/": Access.MEMBER,
    "accounts/notifications/read/": Access.MEMBER,
    "accounts/notifications/<int:pk>/read/": Access.OWNER,
    "accounts/notifications/choices/": Access.MEMBER,
    "accounts/notifications/stop/<str:token>/": Access.EVERYBODY,
    "help/": Access.EVERYBODY,
    "help/<slug:slug>/": Access.EVERYBODY,
    "reservations/": Access.MEMBER,
    "reservations/new/": Access.MEMBER,
    "reservations/quote/": Access.MEMBER,
    "reservations/week/": Access.MEMBER,
    "reservations/<int:pk>/": Access.OWNER,
    "reservations/<int:pk>/state/": Access.OWNER,
    "reservations/<int:pk>/access/": Access.OWNER,
    "reservations/<int:pk>/credentials/": Access.OWNER,
    "reservations/<int:pk>/ports/<str:name>/allow/": Access.OWNER,
    "reservations/<int:pk>/ports/<str:name>/test/": Access.OWNER,
    "reservations/<int:pk>/readings": Access.OWNER,
    "reservations/<int:pk>/usage/": Access.OWNER,
    "reservations/<int:pk>/logs/": Access.OWNER,
    "reservations/<int:pk>/logs/more/": Access.OWNER,
    "reservations/<int:pk>/logs/download/": Access.OWNER,
    "reservations/<int:pk>/delete/": Access.OWNER,
    "reservations/<int:pk>/stop/": Access.OWNER,
    "reservations/<int:pk>/start/": Access.OWNER,
    "reservations/<int:pk>/restart/": Access.OWNER,
    "reservations/<int:pk>/rename/": Access.OWNER,
    "reservations/<int:pk>/extend/": Access.OWNER,
    "reservations/<int:pk>/shorten/": Access.OWNER,
    "reservations/bulk/": Access.MEMBER,
    "reservations/calendar/": Access.MEMBER,
    "reservations/calendar/feed/": Access.MEMBER,
    "reservations/calendar/<str:secret>.ics": Access.EVERYBODY,  # who knows its secret; nobody is logged in there
    "reservations/volumes/<int:pk>/delete/": Access.OWNER,
    "reservations/waiting/": Access.MEMBER,
    "reservations/waiting/join/": Access.MEMBER,
    "reservations/waiting/<int:pk>/take/": Access.OWNER,
    "reservations/waiting/<int:pk>/decline/": Access.OWNER,
    "reservations/waiting/<int:pk>/cancel/": Access.OWNER,
    "billing/": Access.MEMBER,
    "billing/ledger/": Access.MEMBER,
    "billing/account/": Access.MEMBER,
    "billing/receipts/<int:pk>/": Access.OWNER,
    "billing/invoices/<int:pk>/pay/": Access.OWNER,
    "billing/webhooks/stripe": Access.EVERYBODY,
    "billing/invoices/": Access.MEMBER,
    "billing/invoices.csv": Access.MEMBER,
    "billing/ledger.csv": Access.MEMBER,
    "billing/usage.csv": Access.MEMBER,
    "billing/invoices/<path:number>/": Access.OWNER,
    "billing/invoices/<path:number>/pdf": Access.OWNER,
    "billing/invoices/<path:number>/csv": Access.OWNER,
    "monitor/": Access.STAFF,
    "monitor/reports/": Access.STAFF,
    "monitor/reports/report.html": Access.STAFF,
    "monitor/reports/report.csv": Access.STAFF,
    "monitor/reports/report.json": Access.STAFF,
    "monitor/nodes/<str:name>/": Access.STAFF,
    "monitor/nodes/<str:name>/series": Access.STAFF,
    "monitor/nodes/<str:name>/cordon/": Access.STAFF,
    "monitor/nodes/<str:name>/uncordon/": Access.STAFF,
    "monitor/nodes/<str:name>/drain/": Access.STAFF,
    "monitor/containers/": Access.STAFF,
    "monitor/containers/<int:pk>/": Access.STAFF,
    "monitor/containers/<int:pk>/now/": Access.STAFF,
    "monitor/containers/<int:pk>/series": Access.STAFF,
    "monitor/containers/<int:pk>/restart/": Access.STAFF,
    "monitor/containers/<int:pk>/end/": Access.STAFF,
    "monitor/capacity/": Access.STAFF,
    "monitor/what-if/": Access.STAFF,
    "monitor/drift/": Access.STAFF,
    "monitor/drift/look/": Access.STAFF,
    "monitor/drift/mend/": Access.STAFF,
    "monitor/events/": Access.STAFF,
    "monitor/events.csv": Access.STAFF,
    "monitor/incidents/": Access.STAFF,
    "monitor/incidents/<int:pk>/acknowledge/": Access.STAFF,
    "monitor/incidents/<int:pk>/unacknowledge/": Access.STAFF,
    "monitor/incidents/deliveries/<int:pk>/send-again/": Access.STAFF,
    "monitor/money/": Access.STAFF,
    "monitor/money/revenue.csv": Access.STAFF,
    "api/docs": Access.EVERYBODY,
    "api/v1/": Access.NOBODY,
    "api/v1/openapi.json": Access.EVERYBODY,
    "api/v1/services": Access.MEMBER,
    "api/v1/sizes": Access.MEMBER,
    "api/v1/storage-profiles": Access.MEMBER,
    "api/v1/availability": Access.MEMBER,
    "api/v1/reservations": Access.MEMBER,
    "api/v1/reservations/batch": Access.MEMBER,
    "api/v1/reservations/<int:pk>": Access.OWNER,
    "api/v1/reservations/<int:pk>/extend": Access.OWNER,
    "api/v1/reservations/<int:pk>/logs": Access.OWNER,
    "api/v1/reservations/<int:pk>/endpoints/<str:name>/allowed-sources": Access.OWNER,
    "api/v1/reservations/<int:pk>/extensions": Access.OWNER,
    "api/v1/reservations/<int:pk>/shorten": Access.OWNER,
    "api/v1/reservations/<int:pk>/restart": Access.OWNER,
    "api/v1/billing/workspaces": Access.MEMBER,
    "api/v1/billing/summary": Access.MEMBER,
    "api/v1/billing/usage": Access.MEMBER,
    "api/v1/billing/ledger": Access.MEMBER,
    "api/v1/billing/invoices": Access.MEMBER,
    "api/v1/billing/invoices/<int:pk>": Access.OWNER,
    "api/v1/billing/invoices/<int:pk>/pdf": Access.OWNER,
    "api/v1/quotes": Access.MEMBER,
    "api/v1/notifications": Access.MEMBER,
    "api/v1/notifications/<int:pk>/read": Access.OWNER,
    "api/v1/workspaces": Access.MEMBER,
    "api/v1/workspaces/<int:pk>/members": Access.OWNER,
    "api/v1/volumes": Access.MEMBER,
    "api/v1/volumes/<int:pk>": Access.OWNER,
    "api/v1/waiting": Access.MEMBER,
    "api/v1/waiting/<int:pk>": Access.OWNER,
    "api/v1/waiting/<int:pk>/take": Access.OWNER,
    "api/v1/waiting/<int:pk>/decline": Access.OWNER,
}
# Views of libraries that do not say which methods they answer.
METHODS = {"accounts/confirm-email/": ("GET",), "api/v1/": ("GET",)}
ADMIN = "admin/"  # all of Django's admin is staff's, whatever is registered there


@dataclass(frozen=True, slots=True)
class Route:
    """An address with the methods that it answers; `methods` is empty when they could not be found out."""

    path: str
    name: str
    methods: tuple[str, ...]

    @property
    def is_api(self) -> bool:
        return self.path.startswith("api/v1/")

    @property
    def access(self) -> Access | None:
        """None: nobody has said yet."""
        return Access.STAFF if self.path.startswith(ADMIN) else ACCESS.get(self.path)

    @property
    def answers(self) -> dict[str, str]:
        """What each kind of visitor gets."""
        return {} if self.access is None else _answers(self, self.access)


def _answers(route: Route, access: Access) -> dict[str, str]:
    refused = "401" if route.is_api else "log-in"
    in_admin = route.path.startswith(ADMIN)
    owner, other, anonymous, staff = {
        Access.EVERYBODY: ("yes", "yes", "yes", "yes"),
        Access.GUEST: ("sent on", "sent on", "yes", "sent on"),
        Access.MEMBER: ("yes", "own", refused, "own"),
        Access.OWNER: ("yes", "404", refused, "404"),
        Access.STAFF: ("403", "403", refused, "yes") if in_admin else ("404", "404", refused, "yes"),
        Access.NOBODY: ("404", "404", "404", "404"),
    }[access]
    return {"owner": owner, "another tenant": other, "anonymous": anonymous, "staff": staff}


def routes() -> list[Route]:
    """Every address of the portal, once, in the order of the URL table."""
    found: dict[str, Route] = {}
    for path, name, view in _walk(get_resolver(), "", ""):
        before = found.get(path)
        methods = (before.methods if before else ()) + _methods(path, view)
        found[path] = Route(path, before.name if before else name, tuple(dict.fromkeys(methods)))
    return list(found.values())


def _walk(resolver: URLResolver, prefix: str, namespace: str) -> Iterator[tuple[str, str, Callable[..., Any]]]:
    for entry in resolver.url_patterns:
        path = prefix + _readable(entry)
        if isinstance(entry, URLResolver):
            inner = f"{namespace}{entry.namespace}:" if entry.namespace else namespace
            yield from _walk(entry, path, inner)
        else:
            yield path, f"{namespace}{entry.name or '-'}", entry.callback


def _readable(entry: URLPattern | URLResolver) -> str:
    """A regular expression as a path would be written; paths as they are."""
    text = str(entry.pattern)
    return simplify_regex(text).removeprefix("/") if isinstance(entry.pattern, RegexPattern) else text


def _methods(path: str, view: Callable[..., Any]) -> tuple[str, ...]:
    """What the view answers: of an API operation, of a class, or as its decorator says."""
    if path.startswith(ADMIN):
        return ("GET", "POST")
    chain = list(_unwrapped(view))
    for layer in chain:
        known = _enclosed(layer)
        if isinstance(known.get("self"), PathView):
            return tuple(method for operation in known["self"].operations for method in operation.methods)
        if "request_method_list" in known:
            return tuple(known["request_method_list"])
        view_class = getattr(layer, "view_class", None)
        if view_class is not None:
            # A view of forms inherits PUT, which is POST by another name.
            names = (name.upper() for name in view_class.http_method_names if hasattr(view_class, name))
            return tuple(name for name in names if name not in {"HEAD", "OPTIONS", "PUT"})
    return METHODS.get(path, ())


def _unwrapped(view: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    layer: Callable[..., Any] | None = view
    while layer is not None:
        yield layer
        layer = getattr(layer, "__wrapped__", None)


def _enclosed(function: Callable[..., Any]) -> dict[str, Any]:
    return dict(inspect.getclosurevars(function).nonlocals) if inspect.isfunction(function) else {}
