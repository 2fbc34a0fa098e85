"""The life of a reservation, driven one look at a time, on machines in memory."""

from datetime import timedelta

import pytest

from compute.models import Allocation, Forward
from reservations import actions
from reservations.models import Event, Reservation, UsagePeriod
from tests.factories import NOW, at, make_node, make_reservation
from tests.fakes import FakeEngine, FakeGateway
from tests.unit.conftest import Machines
from tests.unit.reservations.looks import nothing_is_left, story

pytestmark = pytest.mark.django_db


# ---- the usual life ---------------------------------------------------------------------------------------


def test_it_is_started_reached_ended_and_leaves_nothing(
    machines: Machines, engine: FakeEngine, gateway: FakeGateway, reservation: Reservation
) -> None:
    running = machines.reconcile(reservation)
    port = Forward.objects.get().public_port
    was_open, was_running = gateway.open_ports, list(engine.containers)

    machines.clock.forward(hours=1)
    ended = machines.reconcile(reservation)

    assert (running.state, running.running_since) == ("running", NOW)
    assert (was_open, was_running) == ({port}, [f"berth-{reservation.pk}-1-main"])
    assert (ended.state, ended.reason) == ("ended", "")
    assert story(reservation) == ["booked", "starting", "running", "ending", "ended"]
    assert nothing_is_left(machines)
    assert UsagePeriod.objects.get().during.upper == at(1)


def test_it_is_not_touched_before_its_start(machines: Machines, engine: FakeEngine) -> None:
    make_node()
    later = make_reservation(start=at(2))

    assert machines.reconcile(later).state == "booked"
    assert Reservation.objects.get().look_at == at(2)
    assert engine.trouble.calls == []


def test_a_second_look_at_a_running_one_changes_nothing(
    machines: Machines, engine: FakeEngine, gateway: FakeGateway, reservation: Reservation
) -> None:
    machines.reconcile(reservation)
    before, events = dict(engine.containers), Event.objects.count()

    again = machines.reconcile(reservation)

    assert (again.state, again.look_at) == ("running", at(1))
    assert (engine.containers, Event.objects.count(), gateway.applied) == (before, events, 1)


def test_the_rule_goes_before_the_container_and_the_place_is_given_back_last(
    machines: Machines, engine: FakeEngine, gateway: FakeGateway, reservation: Reservation
) -> None:
    machines.reconcile(reservation)
    order: list[str] = []
    gateway.trouble.before = lambda call: order.append(f"gateway {call}")
    engine.trouble.before = lambda call: order.append(
        f"engine {call}, held {Allocation.objects.held().count()}, open {len(gateway.open_ports)}"
    )

    machines.clock.forward(hours=1)
    machines.reconcile(reservation)

    assert order == ["gateway apply", "gateway cut", "engine remove, held 1, open 0"]


def test_connections_of_a_dead_forward_are_cut(
    machines: Machines, gateway: FakeGateway, reservation: Reservation
) -> None:
    machines.reconcile(reservation)
    gateway.connections.add(Forward.objects.select_related("gateway", "node").get().spec)

    actions.end(reservation=Reservation.objects.get(), text="Deleted.", by="test", now=machines.clock.now)
    machines.reconcile(reservation)

    assert gateway.connections == set()


def test_it_runs_only_when_the_service_answers(machines: Machines, reservation: Reservation) -> None:
    machines.speechless = True
    waiting = machines.reconcile(reservation)
    machines.speechless = False
    machines.clock.forward(seconds=1)

    assert waiting.state == "starting"
    assert waiting.look_at == at(0) + timedelta(seconds=1)
    assert machines.reconcile(reservation).state == "running"


def test_what_never_answers_fails_at_its_deadline_with_a_reason(machines: Machines, reservation: Reservation) -> None:
    machines.speechless = True
    machines.reconcile(reservation)
    machines.clock.forward(minutes=10)

    failed = machines.reconcile(reservation)

    assert (failed.state, failed.failure) == ("failed", "It could not be started in time.")
    assert nothing_is_left(machines)
    assert not UsagePeriod.objects.exists()


def test_it_starts_when_the_one_before_it_is_really_gone(machines: Machines) -> None:
    make_node(ram_mib=512)
    first = make_reservation()
    second = make_reservation(start=at(1))
    machines.reconcile(first)
    machines.clock.forward(hours=1)

    waiting = machines.reconcile(second)
    machines.reconcile(first)
    machines.clock.forward(seconds=3)

    assert waiting.state == "booked"
    assert waiting.reason.startswith("It starts as soon as it can: waiting for the previous container")
    assert machines.reconcile(second).state == "running"


# ---- stop and start ---------------------------------------------------------------------------------------


def wish(reservation: Reservation, wanted: str) -> None:
    row = Reservation.objects.get(pk=reservation.pk)
    assert row.created_by
    actions.wish(reservation=row, wish=Reservation.Wish(wanted), by=row.created_by, now=NOW)


def test_it_is_stopped_and_started_on_wish_and_keeps_place_and_address(
    machines: Machines, engine: FakeEngine, reservation: Reservation
) -> None:
    machines.reconcile(reservation)
    port = Forward.objects.get().public_port
    wish(reservation, "stop")
    stopped = machines.reconcile(reservation)
    held = Allocation.objects.held().count()
    wish(reservation, "run")

    again = machines.reconcile(reservation)

    assert (stopped.state, held) == ("stopped", 1)
    assert (again.state, Forward.objects.get().public_port) == ("running", port)


@pytest.mark.parametrize("moment", ["has_image", "observe", "start"])
def test_a_wish_to_stop_while_it_starts_is_not_lost(
    moment: str, machines: Machines, engine: FakeEngine, reservation: Reservation, sent_hints: list[int]
) -> None:
    engine.trouble.after = lambda call: wish(reservation, "stop") if call == moment else None
    machines.reconcile(reservation)
    engine.trouble.after = lambda call: None

    row = Reservation.objects.get()

    assert row.state == "stopped" or (row.look_at and row.look_at <= machines.clock.now) or sent_hints
    assert machines.settle(reservation).state == "stopped"


def test_a_wish_that_comes_while_a_worker_looks_is_not_lost(
    machines: Machines, engine: FakeEngine, reservation: Reservation, sent_hints: list[int]
) -> None:
    machines.reconcile(reservation)
    engine.trouble.after = lambda call: wish(reservation, "stop") if call == "observe" else None

    machines.reconcile(reservation)

    row = Reservation.objects.get()
    assert row.state == "stopped" or (row.look_at and row.look_at <= machines.clock.now)


def test_one_that_was_wished_to_stop_before_its_start_stops(machines: Machines, reservation: Reservation) -> None:
    wish(reservation, "stop")

    assert machines.settle(reservation).state == "stopped"


# ---- deleting at any time ---------------------------------------------------------------------------------


def test_deleted_before_its_start_it_never_touches_a_machine(
    machines: Machines, engine: FakeEngine, reservation: Reservation
) -> None:
    actions.end(reservation=reservation, text="Deleted.", by="test", now=NOW)

    assert machines.reconcile(reservation).state == "ended"
    assert engine.trouble.calls == []
    assert nothing_is_left(machines)


@pytest.mark.parametrize("moment", ["has_image", "pull", "create", "start", "observe", "apply"])
def test_deleted_at_any_moment_of_its_start_it_leaves_nothing(
    moment: str, machines: Machines, engine: FakeEngine, gateway: FakeGateway, reservation: Reservation
) -> None:
    def delete(call: str) -> None:
        if call == moment and (row := Reservation.objects.get()).state == "starting":
            actions.end(reservation=row, text="Deleted.", by="test", now=NOW)

    engine.trouble.after = gateway.trouble.after = delete
    machines.reconcile(reservation)

    assert machines.settle(reservation).state == "ended"
    assert nothing_is_left(machines)
    assert "running" not in story(reservation)


def test_deleting_during_a_pull_stops_the_pull(
    machines: Machines, engine: FakeEngine, reservation: Reservation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reservations.starting.PROGRESS_EVERY_S", 0.0)

    def delete(call: str) -> None:
        if call == "pull":
            actions.end(reservation=Reservation.objects.get(), text="Deleted.", by="test", now=NOW)

    engine.trouble.before = delete
    machines.reconcile(reservation)

    assert "start" not in engine.trouble.calls
    assert engine.images == set()
