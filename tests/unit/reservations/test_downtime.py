"""The time in which a container was down is not paid for: it served until it was last seen to run."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from compute.models import Node
from reservations import actions, lost, watch
from reservations.models import Container, Reservation, UsagePeriod
from reservations.states import State
from reservations.transitions import transition
from tests.factories import NOW, at, make_reservation
from tests.fakes import FakeEngine
from tests.unit.conftest import Machines

pytestmark = pytest.mark.django_db


def served() -> list[tuple[timedelta, timedelta | None]]:
    """Since NOW, of each usage period."""
    periods = [period.during for period in UsagePeriod.objects.order_by("during")]
    return [(p.lower - NOW, p.upper - NOW if p.upper else None) for p in periods]


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


@pytest.fixture
def running(machines: Machines, node: Node, reservation: Reservation) -> Reservation:
    """Since NOW, last seen to run three minutes later; it is eight minutes past NOW."""
    running = machines.reconcile(reservation)
    watch.watch(node, at(3 / 60))
    machines.clock.forward(minutes=8)
    return running


def test_what_was_gone_when_its_node_came_back_served_until_it_was_last_seen(
    machines: Machines, engine: FakeEngine, running: Reservation
) -> None:
    engine.containers.clear()

    again = machines.reconcile(running)

    assert again.state == "running"
    assert served() == [(minutes(0), minutes(3)), (minutes(8), None)]


def test_what_is_given_up_served_until_it_was_last_seen(
    machines: Machines, engine: FakeEngine, running: Reservation
) -> None:
    Reservation.objects.update(restarts=3)
    engine.end_by_itself(f"berth-{running.pk}-1-main")

    failed = machines.reconcile(running)

    assert failed.state == "failed"
    assert served() == [(minutes(0), minutes(3))]


def test_what_was_on_a_lost_node_served_until_it_was_last_seen(
    machines: Machines, node: Node, running: Reservation
) -> None:
    lost.declare_lost(node=node, by="test", now=machines.clock.now)

    assert served() == [(minutes(0), minutes(3))]


def test_a_look_that_died_half_way_does_not_make_it_longer(
    machines: Machines, engine: FakeEngine, running: Reservation, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.end_by_itself(f"berth-{running.pk}-1-main")
    with monkeypatch.context() as patch:
        patch.setattr("reservations.reconcile.transition", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            machines.reconcile(running)
    machines.clock.forward(minutes=5)

    machines.reconcile(running)

    assert served()[0] == (minutes(0), minutes(3))


def test_what_was_never_seen_to_run_again_served_nothing(
    machines: Machines, engine: FakeEngine, reservation: Reservation
) -> None:
    machines.reconcile(reservation)
    machines.clock.forward(minutes=30)
    engine.end_by_itself(f"berth-{reservation.pk}-1-main")

    machines.reconcile(reservation)

    assert served() == [(minutes(30), None)]


def test_one_that_is_stopped_or_ended_served_until_then(machines: Machines, running: Reservation) -> None:
    machines.clock.forward(minutes=52)
    machines.reconcile(running)

    assert served() == [(minutes(0), minutes(60))]


@pytest.mark.parametrize(("until", "upper"), [(0.5, 0.5), (0.9, 0.75), (5, 0.75)])
def test_it_is_the_earliest_of_now_the_end_and_the_last_sight(
    until: float, upper: float, reservation: Reservation
) -> None:
    for state in (State.STARTING, State.RUNNING):
        transition(reservation, state, text="", by="test", now=NOW)

    transition(reservation, State.STARTING, text="", by="test", now=at(0.75), served_until=at(until))

    assert served() == [(minutes(0), minutes(60 * upper))]


def test_the_round_notes_what_it_saw_running_and_nothing_else(
    machines: Machines, node: Node, engine: FakeEngine, reservation: Reservation
) -> None:
    machines.reconcile(reservation)
    ended = machines.reconcile(make_reservation())
    engine.end_by_itself(f"berth-{ended.pk}-1-main")

    watch.watch(node, at(0.1))
    watch.watch(node, at(0.05))  # a slow one that comes late

    seen = dict(Container.objects.values_list("reservation_id", "observed_at"))
    assert seen == {reservation.pk: at(0.1), ended.pk: NOW}


def test_a_round_writes_once_however_many_it_saw(machines: Machines, node: Node, reservation: Reservation) -> None:
    for each in [reservation, *(make_reservation() for _ in range(5))]:
        machines.reconcile(each)

    with CaptureQueriesContext(connection) as queries:
        watch.watch(node, at(0.1))

    assert len([q for q in queries if q["sql"].startswith('UPDATE "reservations_container"')]) == 1


@pytest.mark.parametrize("health", ["unknown", "lost"])
def test_what_is_ended_while_its_node_is_silent_is_paid_until_its_last_sight(
    health: str, machines: Machines, node: Node, running: Reservation
) -> None:
    Node.objects.filter(pk=node.pk).update(health=health)

    actions.end(reservation=running, text="Deleted.", by="test", now=machines.clock.now + timedelta(minutes=20))

    assert served() == [(minutes(0), minutes(3))]
