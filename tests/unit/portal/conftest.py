"""People and what they have booked, for pages and API."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from compute.models import Node
from reservations.models import Reservation
from tests.factories import make_node, make_profiles, make_reservation, make_service, make_token, make_user
from tests.unit.portal.doors import log_in, make_factor

Call = Callable[..., Any]


@pytest.fixture(autouse=True)
def _plain_http_and_no_engines(settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = False
    settings.BERTH_TLS_DIR = None  # an engine on tcp:// refuses to be asked, whatever the environment


@pytest.fixture
def node() -> Node:
    return make_node("one", ram_mib=65_536, cores=Decimal(64))


@pytest.fixture
def owner(node: Node) -> User:
    make_profiles()
    make_service()
    return make_user("ada")


@pytest.fixture
def other() -> User:
    return make_user("eve")


@pytest.fixture
def staff() -> User:
    person = make_user("root", is_staff=True, is_superuser=True)
    make_factor(person)
    return person


@pytest.fixture
def reservation(owner: User) -> Reservation:
    from django.utils import timezone

    return make_reservation(owner, now=timezone.now())


@pytest.fixture
def browser() -> Callable[[User | None], Client]:
    """A browser, logged in as this person."""

    def open_browser(user: User | None = None) -> Client:
        client = Client()
        if user:
            log_in(client, user)
        return client

    return open_browser


@pytest.fixture
def api(owner: User) -> Call:
    """Calls the API as the owner, or with another token: `api("GET", "/reservations")`."""
    secret = make_token(owner)

    def call(method: str, path: str, body: Any = None, token: str | None = secret, **headers: str) -> Any:
        sent = {"Authorization": f"Bearer {token}"} if token else {}
        data = body if isinstance(body, bytes | str) else "" if body is None else json.dumps(body)
        return Client(raise_request_exception=False).generic(
            method, f"/api/v1{path}", data, "application/json", headers={**sent, **headers}
        )

    return call
