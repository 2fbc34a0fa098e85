"""Rows as the tests need them: one call each, everything has a usual value."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

from accounts import actions as account_actions
from accounts.models import ApiToken, Membership, Role, User, Workspace
from compute.models import Gateway, Node, StorageServer
from reservations import actions
from reservations.actions import Booking
from reservations.catalogue import PROFILES
from reservations.models import Reservation, Service, Size, StorageProfile

NOW = datetime(2026, 5, 4, 10, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
DIGEST = f"sha256:{'a' * 64}"
PASSWORD = "correct horse battery"
_numbers = count(1)


def at(hours: float) -> datetime:
    """So many hours after NOW."""
    return NOW + timedelta(hours=hours)


def make_user(name: str = "", **values: Any) -> User:
    name = name or f"user{next(_numbers)}"
    user = User.objects.create_user(name, f"{name}@example.org", PASSWORD, **values)
    account_actions.open_personal_workspace(user=user, by=user)
    return user


def workspace_of(user: User) -> Workspace:
    return Workspace.objects.get(personal_of=user)


def make_team(name: str = "Team", *, closed_at: datetime | None = None, **roles: User | Iterable[User]) -> Workspace:
    """A shared workspace: `make_team(owner=ada, member=[bob, eve])`."""
    workspace = Workspace.objects.create(name=name, closed_at=closed_at)
    for role, people in roles.items():
        for person in [people] if isinstance(people, User) else people:
            Membership.objects.create(workspace=workspace, user=person, role=Role(role))
    return workspace


def work_in(user: User, workspace: Workspace) -> None:
    """What `user` books from now on is for this workspace."""
    User.objects.filter(pk=user.pk).update(current_workspace=workspace)
    user.refresh_from_db()


def make_token(user: User, **values: Any) -> str:
    """A token's secret."""
    secret = ApiToken.new_secret()
    ApiToken.objects.create(user=user, name="test", digest=ApiToken.digest_of(secret), hint=secret[:12], **values)
    return secret


def make_gateway(**values: Any) -> Gateway:
    defaults = {"name": "gate", "public_address": "198.18.0.1", "private_subnet": "10.99.0.0/24", "ssh": "root@gate"}
    return Gateway.objects.get_or_create(name=values.get("name", "gate"), defaults={**defaults, **values})[0]


def make_node(name: str = "", **values: Any) -> Node:
    number = next(_numbers)
    defaults: dict[str, Any] = {
        "name": name or f"node{number}",
        "address": f"10.99.0.{number % 250 + 1}",
        "engine_url": f"tcp://{name or number}:2376",
        "ssh": f"root@{name or number}",
        "ram_mib": 4096,
        "cores": Decimal(4),
    }
    if "gateway" not in values:
        values["gateway"] = make_gateway()
    return Node.objects.create(**{**defaults, **values})


def make_storage(**values: Any) -> StorageServer:
    return StorageServer.objects.create(**{"name": "store", "address": "10.99.0.250", **values})


def make_size(slug: str = "small", **values: Any) -> Size:
    defaults = {"name": slug.capitalize(), "cores": Decimal("0.5"), "ram_mib": 512}
    return Size.objects.get_or_create(slug=slug, defaults={**defaults, **values})[0]


def make_profiles() -> None:
    for profile in PROFILES:
        StorageProfile.objects.get_or_create(code=profile["code"], defaults=profile)


def profile(code: str = "C1") -> StorageProfile:
    make_profiles()
    return StorageProfile.objects.get(code=code)


def make_service(slug: str = "nginx", **values: Any) -> Service:
    defaults: dict[str, Any] = {
        "name": slug,
        "description": "A service.",
        "image": f"library/{slug}:1",
        "digest": DIGEST,
        "ports": [{"name": "web", "kind": "http", "port": 80}],
        "credentials": {"password": "random:24"},
        "environment": {"PASSWORD": "{password}"},
        "connect": ["curl http://{host}:{port}/"],
        "default_size": values.get("default_size") or make_size(),
    }
    return Service.objects.get_or_create(slug=slug, defaults={**defaults, **values})[0]


def make_booking(**values: Any) -> Booking:
    """nginx, small, C1, one hour from now."""
    defaults: dict[str, Any] = {"length": HOUR}
    if "service" not in values:
        defaults["service"] = make_service()
    if "size" not in values:
        defaults["size"] = make_size()
    if "storage" not in values:
        defaults["storage"] = profile()
    return Booking(**{**defaults, **values})


def make_reservation(
    user: User | None = None, now: datetime = NOW, workspace: Workspace | None = None, **values: Any
) -> Reservation:
    """Booked as a customer does, for the personal workspace if for no other; needs a node."""
    user = user or make_user()
    workspace = workspace or workspace_of(user)
    return actions.book(booking=make_booking(**values), workspace=workspace, by=user, now=now)[0]
