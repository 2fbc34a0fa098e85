"""What the fault suite works with: windows.py moves bookings whole or not at all, the oracle sees a wrong plan."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, cast

import psycopg
import pytest
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone
from psycopg.conninfo import make_conninfo

from compute import capacity, load_steps
from compute.models import Allocation, Forward, LoadStep
from reservations.models import Reservation
from tests.factories import HOUR, NOW, at, make_gateway, make_node, make_reservation
from tests.faults import windows
from tests.integration.desk import Desk
from tests.oracle import rows

pytestmark = pytest.mark.django_db(transaction=True)  # windows.py has a connection of its own
SOON, REST = at(0.1), timedelta(minutes=10)


def _database() -> str:
    names = {"dbname": "NAME", "user": "USER", "host": "HOST", "password": "PASSWORD", "port": "PORT"}
    return make_conninfo("", **{name: connection.settings_dict[key] or None for name, key in names.items()})


class _Stack:
    """Of a running portal only its database."""

    @contextmanager
    def database(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        with psycopg.connect(_database(), autocommit=True) as opened:
            yield opened


@pytest.fixture
def desk() -> Desk:
    return Desk(cast(Any, _Stack()), cast(Any, None), cast(Any, None), "")


@pytest.fixture
def earlier() -> Reservation:
    make_node(gateway=make_gateway(port_first=20_000, port_last=20_000))  # one port for all
    return make_reservation(length=HOUR)


@pytest.fixture
def later(earlier: Reservation) -> Reservation:
    return make_reservation(start=at(2), length=HOUR)


def _port(reservation: Reservation) -> Forward:
    return Forward.objects.get(endpoint__reservation=reservation)


def test_a_begin_moves_onto_a_port_that_still_rests(desk: Desk, earlier: Reservation, later: Reservation) -> None:
    with transaction.atomic():
        capacity.release_ports([_port(earlier)], NOW, REST)
    assert _port(earlier).during.upper > SOON

    windows.begin_at(desk, later.pk, SOON)

    assert _port(earlier).during.upper == _port(later).during.lower == SOON
    later.refresh_from_db()
    assert (later.start, later.look_at) == (SOON, SOON)
    assert load_steps.wrong_steps(NOW) == []


def test_a_begin_that_cannot_be_moved_stays_with_all_that_belongs_to_it(
    desk: Desk, earlier: Reservation, later: Reservation
) -> None:
    with pytest.raises(psycopg.errors.ExclusionViolation):
        windows.begin_at(desk, later.pk, SOON)  # the port is in use

    assert _port(earlier).during.upper > SOON
    assert Allocation.objects.get(container__reservation=later).during.lower == at(2)
    assert load_steps.wrong_steps(NOW) == []


def test_an_end_moves_with_the_plan(desk: Desk, earlier: Reservation) -> None:
    windows.end_at(desk, earlier.pk, SOON)

    earlier.refresh_from_db()
    assert (earlier.end, _port(earlier).during.upper) == (SOON, SOON)
    assert Allocation.objects.get().during.upper == SOON
    assert load_steps.wrong_steps(NOW) == []


def test_the_oracle_finds_a_plan_that_is_not_the_sum_of_the_bookings() -> None:
    node = make_node()
    make_reservation(now=timezone.now(), start=timezone.now() + HOUR, length=HOUR)  # its clock is the database's
    assert not list(rows.violations(rows.read(_database())))

    LoadStep.objects.update(ram_mib=F("ram_mib") + 1)

    assert list(rows.violations(rows.read(_database()))) == [f"5: the plan of {node} is not the sum of its bookings"]
