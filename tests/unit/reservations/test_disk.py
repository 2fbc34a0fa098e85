"""A container that writes more than it may is ended with a reason; a node without room gets nothing new."""

from typing import Any

import pytest

from compute import disk as measuring
from compute.disk import Disk
from compute.models import Node
from reservations import disk
from reservations.models import Event, Reservation, Service
from reservations.states import State
from tests.factories import NOW, make_node, make_profiles, make_reservation, make_service, make_user
from tests.unit.conftest import Machines

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def running(machines: Machines) -> Reservation:
    make_node("one")
    make_profiles()
    make_service(writes_mib=100)
    return machines.settle(make_reservation(make_user("ada")))


def found(monkeypatch: pytest.MonkeyPatch, **values: Any) -> None:
    monkeypatch.setattr(measuring, "measure", lambda engine, host, names: Disk(**values))


def look() -> None:
    disk.check(Node.objects.get(), NOW)


def test_up_to_its_limit_it_runs(machines: Machines, running: Reservation) -> None:
    machines.engines["one"].written[f"berth-{running.pk}-1-main"] = 100

    look()

    running.refresh_from_db()
    assert running.state == State.RUNNING


def test_above_it_is_taken_down_as_failed_and_the_customer_reads_why(machines: Machines, running: Reservation) -> None:
    machines.engines["one"].written[f"berth-{running.pk}-1-main"] = 101

    look()
    ended = machines.settle(running)

    assert ended.state == State.FAILED
    assert ended.failure == (
        "The container wrote more on its own disk than it may: 101 MiB, and 100 MiB are allowed."
        " Data belongs on the volume."
    )
    assert Event.objects.filter(reservation=running, new_state=State.ENDING).count() == 1
    assert machines.traces() == []


def test_a_worker_is_told_at_once(machines: Machines, running: Reservation, sent_hints: list[int]) -> None:
    machines.engines["one"].written[f"berth-{running.pk}-1-main"] = 101
    sent_hints.clear()

    look()
    look()

    assert sent_hints == [running.pk]


def test_without_an_answer_nothing_is_concluded(machines: Machines, running: Reservation) -> None:
    Node.objects.update(disk_problem="Its disk is nearly full.")
    machines.engines["one"].written[f"berth-{running.pk}-1-main"] = 101
    machines.engines["one"].trouble.silent = True

    look()

    running.refresh_from_db()
    assert running.state == State.RUNNING
    assert Node.objects.get().disk_problem


def test_a_node_without_room_gets_nothing_new_until_it_has_some(
    monkeypatch: pytest.MonkeyPatch, running: Reservation
) -> None:
    found(monkeypatch, problem="Its disk is nearly full.")
    look()
    assert not Node.objects.lending().exists()
    with pytest.raises(Exception, match="No resources available"):
        make_reservation(running.created_by)

    found(monkeypatch)
    look()
    assert Node.objects.lending().exists()
    assert make_reservation(running.created_by).state == State.BOOKED


@pytest.mark.parametrize(("problem", "state"), [("", State.RUNNING), ("Its disk is nearly full.", State.ENDING)])
def test_files_too_many_to_count_end_it_only_where_the_disk_has_no_room(
    monkeypatch: pytest.MonkeyPatch, running: Reservation, problem: str, state: State
) -> None:
    found(monkeypatch, late=frozenset({f"berth-{running.pk}-1-main"}), problem=problem)

    look()

    running.refresh_from_db()
    assert running.state == state


def test_a_service_has_a_limit_from_the_beginning() -> None:
    assert Service().writes_mib > 0
