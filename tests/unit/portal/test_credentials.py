"""Where the password of a container may be read: on its own page and in its own answer, and nowhere else."""

import logging
from typing import Any

import pytest
from django.core import serializers
from django.db import connection
from django.utils import timezone

from accounts.models import ApiToken, AuditEntry, User
from portal.routes import routes
from reservations import actions
from reservations.models import Event, IdempotencyKey, Reservation
from tests.factories import make_token
from tests.unit.conftest import Machines
from tests.unit.portal.doors import Ground, make_ground, text_of

pytestmark = pytest.mark.django_db
MAY_TELL = {  # the page tells them by POST, to who asks
    "api/v1/reservations",
    "api/v1/reservations/<int:pk>",
}
KEY = "the key of one booking"


@pytest.fixture
def ground(owner: User, other: User, staff: User, machines: Machines) -> Ground:
    """The owner's reservation runs."""
    made = make_ground(owner, other, staff)
    machines.clock.now = timezone.now()
    made.reservation = machines.settle(made.reservation)
    assert made.reservation.state == "running"
    return made


def test_credentials_are_told_to_their_owner_in_their_own_place_only(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    password = ground.reservation.credentials["password"]
    told = set()
    for route in (route for route in routes() if "GET" in route.methods):
        for who in ("owner", "other", "staff", "anonymous"):
            if password in text_of(ground.visit(route, "GET", who)):
                told.add((route.path, who))

    assert told == {(path, "owner") for path in MAY_TELL}
    assert password not in caplog.text


def test_credentials_are_in_no_log_and_no_history(
    ground: Ground, api: Any, machines: Machines, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    body = {"service": "nginx", "hours": 1}
    answer = api("POST", "/reservations", body, **{"Idempotency-Key": KEY}).json()
    row = machines.settle(Reservation.objects.get(pk=answer["id"]))
    actions.end(reservation=row, text="Deleted.", by=ground.owner, now=timezone.now())
    row = machines.settle(row)
    password = answer["credentials"]["password"]

    written = [serializers.serialize("json", model.objects.all()) for model in (AuditEntry, Event, IdempotencyKey)]

    assert (row.state, row.credentials["password"]) == ("ended", password)
    assert all(len(text) > 2 for text in written)
    for text in [*written, caplog.text, repr(row), as_kept(row)]:
        assert password not in text


def as_kept(row: Reservation) -> str:
    """The row as the database has it, which is what a backup has."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT row_to_json(r)::text FROM {row._meta.db_table} r WHERE id = %s", [row.pk])  # noqa: S608
        (text,) = cursor.fetchone()
    assert str(row.key) in text
    return str(text)


def test_a_token_is_in_no_log_and_in_no_row(ground: Ground, api: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = make_token(ground.owner)

    assert api("GET", "/reservations", token=secret).status_code == 200
    assert api("GET", "/reservations/0", token=secret).status_code == 404
    assert api("GET", "/reservations", token=f"{secret}x").status_code == 401

    rows = serializers.serialize("json", [*ApiToken.objects.all(), *AuditEntry.objects.all()])
    for text in (rows, caplog.text):
        assert secret not in text


def test_a_token_in_the_address_is_no_token(ground: Ground, api: Any) -> None:
    """Addresses are written to the logs of proxies."""
    secret = make_token(ground.owner)

    assert api("GET", f"/reservations?token={secret}&access_token={secret}", token=None).status_code == 401
