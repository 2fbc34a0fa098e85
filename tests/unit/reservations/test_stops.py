"""That nothing ran while its owner had it stopped is no fault, and the charts do not show it as one."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from compute.models import Node
from compute.series import Series
from reservations import stops
from reservations.models import Event, Reservation
from tests.factories import NOW, make_reservation
from tests.unit.compute.readings import make_container_sample, make_observed

pytestmark = pytest.mark.django_db
START = int(NOW.timestamp())


@pytest.fixture
def reservation(node: Node) -> Reservation:
    return make_reservation(now=NOW)


def moved(reservation: Reservation, second: float, old: str, new: str) -> None:
    at = NOW + timedelta(seconds=second)
    Event.objects.create(reservation=reservation, at=at, old_state=old, new_state=new, text="", by="ada")


def line(reservation: Reservation, step_s: int, running: list[float | None]) -> list[float | None]:
    """The same as it is shown."""
    at = [START + step_s * place for place in range(len(running))]
    return stops.excused(Series(step_s, at, {"running": running}), reservation.pk).values["running"]


def test_a_stop_leaves_a_gap_and_a_fault_does_not(reservation: Reservation) -> None:
    moved(reservation, 120, "running", "stopped")
    moved(reservation, 300, "stopped", "starting")
    moved(reservation, 302, "starting", "running")

    shown = line(reservation, 60, [1.0, 0.75, 0.0, 0.0, 0.0, 1.0, 0.0, 0.5, None])

    assert shown == [1.0, 1.0, None, None, None, 1.0, 0.0, 0.5, None]


def test_of_an_hour_in_which_it_was_stopped_for_a_while_the_rest_counts(reservation: Reservation) -> None:
    moved(reservation, 1830, "running", "stopped")
    moved(reservation, 3570, "stopped", "starting")

    assert line(reservation, 3600, [0.5, 0.5]) == [1.0, 0.5]
    assert line(reservation, 3600, [0.25, 1.0]) == [0.5, 1.0]


def test_one_that_is_stopped_still_and_one_that_never_was(reservation: Reservation) -> None:
    assert line(reservation, 15, [1.0, 0.0, 0.0]) == [1.0, 0.0, 0.0]
    moved(reservation, 30, "running", "stopped")

    assert line(reservation, 15, [1.0, 1.0, 0.0, 0.0]) == [1.0, 1.0, None, None]


def test_the_page_has_it(node: Node) -> None:
    now = timezone.now()
    row = make_reservation(now=now)
    Event.objects.create(reservation=row, at=now - timedelta(minutes=30), old_state="running", new_state="stopped")
    seen = make_observed(node, reservation_id=row.pk)
    make_container_sample(seen, now - timedelta(minutes=10), running=False)
    client = Client()
    assert row.created_by
    client.force_login(row.created_by, backend="django.contrib.auth.backends.ModelBackend")

    values = client.get(f"/reservations/{row.pk}/readings").json()["values"]

    assert set(values["running"]) == {None}
    assert max(values["stopped"]) == 1
