"""What the benches stand on: a running lab and stack, a customer of their own with a big quota, and its API."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lab.info import LabInfo, lab_json
from lab.lab import Lab
from lab.stack import environment
from lab.stack.layout import Layout
from lab.stack.stack import Stack

if TYPE_CHECKING:
    from accounts.models import User

CUSTOMER = "bench"
SERVICE, SIZE = "nginx", "tiny"
HTTP_SECONDS = 30


class BenchError(Exception):
    """The bench cannot be run; the sentence says what is missing."""


class Api:
    """Berth's API over one kept connection, with little overhead. One thread at a time."""

    def __init__(self, base_url: str, token: str) -> None:
        at = urlsplit(base_url)
        self.connection = HTTPConnection(at.hostname or "", at.port, timeout=HTTP_SECONDS)
        self.headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The body of a successful answer. Raises BenchError with the problem otherwise."""
        sent = None if body is None else json.dumps(body)
        try:
            self.connection.request(method, f"/api/v1{path}", sent, self.headers)
            answer = self.connection.getresponse()
            got = answer.read()
        except (OSError, HTTPException) as problem:
            self.connection.close()  # the next call opens a new one
            raise BenchError(f"{method} {path}: the portal gave no answer ({problem})") from problem
        if answer.status >= 400:
            raise BenchError(f"{method} {path}: {answer.status} {got.decode(errors='replace')[:500]}")
        return json.loads(got) if got else None


@dataclass(frozen=True)
class Ground:
    """The lab, the portal and the customer that a bench uses."""

    lab: Lab
    info: LabInfo
    stack: Stack
    token: str

    def api(self) -> Api:
        return Api(self.stack.base_url, self.token)

    @property
    def image(self) -> str:
        """The image of the service that is booked, by digest."""
        from reservations.models import Service

        service = Service.objects.get(slug=SERVICE)
        if not service.available:
            raise BenchError(f"{SERVICE} is not available: {service.unavailable_reason}")
        return service.reference


@contextmanager
def stand_on(lab_name: str, stack_name: str) -> Iterator[Ground]:
    """The ground, for as long as the benches run; the customer's token and bookings are gone afterwards."""
    lab, layout = Lab(lab_name), Layout(stack_name)
    stack = Stack(stack_name)
    if not lab_json(lab.store).exists():
        raise BenchError(f"There is no lab {lab_name}: python -m lab up {lab_name} --owner berth")
    if not environment.read(layout) or not stack.status().running:
        raise BenchError(f"There is no stack {stack_name}: python -m lab.stack up {stack_name} --lab {lab_name}")
    info = LabInfo.from_json(lab_json(lab.store).read_text())
    use_django(stack)
    user, token = _customer()
    ground = Ground(lab, info, stack, token)
    try:
        delete_all(ground)  # what a killed run left
        yield ground
    finally:
        try:
            delete_all(ground)
        finally:
            user.api_tokens.all().delete()


def use_django(stack: Stack) -> None:
    for key, value in stack.env.items():
        os.environ[key] = value
    os.environ["DJANGO_SETTINGS_MODULE"] = "portal.settings"
    os.environ["BERTH_LOG_LEVEL"] = "ERROR"
    import django

    django.setup()


def _customer() -> "tuple[User, str]":
    """The benches' own user, with a quota that never stands in the way, and a fresh token."""
    from django.utils import timezone

    from accounts import actions
    from accounts.models import User, Workspace, every_scope
    from accounts.workspaces import current_workspace

    user, _ = User.objects.get_or_create(username=CUSTOMER, defaults={"email": f"{CUSTOMER}@example.org"})
    Workspace.objects.filter(pk=current_workspace(user).pk).update(
        max_reservations=1000, max_cores=1000, max_ram_mib=1_000_000, max_storage_gb=10_000
    )
    _, token = actions.create_token(
        user=user,
        name=CUSTOMER,
        scopes=every_scope(),
        lifetime=timedelta(days=1),
        now=timezone.now(),
        by="tests.bench",
    )
    return user, token


def booking() -> dict[str, Any]:
    return {"service": SERVICE, "size": SIZE, "start": None, "hours": 1, "storage": "C1"}


def live_ids() -> list[int]:
    """The customer's reservations that are not over."""
    from reservations.models import Reservation

    return list(Reservation.objects.live().filter(created_by__username=CUSTOMER).values_list("pk", flat=True))


def delete_all(ground: Ground) -> None:
    """Delete all that the customer holds, and wait until it is gone."""
    from tests.bench.polling import wait_until

    api = ground.api()
    for pk in live_ids():
        api.call("DELETE", f"/reservations/{pk}")
    if not wait_until(lambda: not live_ids(), seconds=120, interval=0.05):
        raise BenchError(f"These reservations did not end within two minutes: {live_ids()}")
