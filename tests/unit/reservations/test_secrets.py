"""Credentials: made, sealed, and closed to a copy of the database."""

from typing import Any

import pytest
from django.db import connection

from reservations import secrets
from reservations.models import Reservation
from tests.factories import make_node, make_reservation


def test_random_values_are_long_and_plain_ones_stay() -> None:
    one, other = (secrets.generate({"user": "berth", "password": "random:24"}) for _ in range(2))

    assert one["user"] == other["user"] == "berth"
    assert len(one["password"]) == 24
    assert one["password"].isalnum()
    assert one["password"] != other["password"]


def stored() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT credentials FROM reservations_reservation")
        return str(cursor.fetchone()[0])


@pytest.mark.django_db
def test_what_is_sealed_can_be_opened_and_the_database_holds_none_of_it() -> None:
    make_node()
    reservation = make_reservation()
    password = reservation.credentials["password"]

    assert Reservation.objects.get().credentials == {"password": password}
    assert password not in stored()


@pytest.mark.django_db
def test_under_another_key_it_reads_as_nothing_and_is_kept(settings: Any) -> None:
    make_node()
    make_reservation()
    sealed = stored()
    settings.SECRET_KEY = "another key that is long enough for this"

    row = Reservation.objects.get()
    row.reason = "changed"
    row.save(update_fields=["reason"])

    assert row.credentials == {}
    assert stored() == sealed
