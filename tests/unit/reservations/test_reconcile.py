"""The life of a reservation, driven one look at a time, on machines in memory."""

from datetime import timedelta

import pytest

from compute.engine import EngineRefused
from compute.models import Allocation, Forward, Node, Volume
from compute.shell import CommandFailed
from reservations import actions
from reservations.models import Container, Event, Reservation, UsagePeriod
from tests.factories import NOW, at, make_node, make_reservation, make_service, make_storage, profile
from tests.fakes import FakeEngine, FakeGateway
from tests.unit.conftest import Machines

pytestmark = pytest.mark.django_db


@pytest.fixture
def node() -> Node:
    return make_node("one", cores=8)


@pytest.fixture
def engine(machines: Machines, node: Node) -> FakeEngine:
    return machines.engine(node)


@pytest.fixture
def gateway(machines: Machines, node: Node) -> FakeGateway:
    return machines.gateway(node.gateway)


@pytest.fixture
def reservation(node: Node) -> Reservation:
    """nginx from NOW for an hour."""
    return make_reservation()


def nothing_is_left(machines: Machines) -> bool:
    """Nothing on any machine, nothing held, no rule wanted, no claim, no row that waits."""
    return (
        machines.traces() == []
        and not Allocation.objects.held().exists()
        and not Forward.objects.filter(released_at=None).exists()
        and not Forward.objects.filter(wanted=True).exists()
        and not Container.objects.filter(gone_at=None).exists()
        and not Reservation.objects.exclude(claim_token=None).exists()
    )


def story(reservation: Reservation) -> list[str]:
    return [e.new_state for e in Event.objects.filter(reservation=reservation).exclude(new_state="").order_by("pk")]


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


@pytest.mark.parametrize("moment", ["has_image", "pull", "start", "observe", "apply"])
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
    engine.trouble.before = lambda call: (
        actions.end(reservation=Reservation.objects.get(), text="Deleted.", by="test", now=NOW) and None
        if call == "pull"
        else None
    )

    machines.reconcile(reservation)

    assert "start" not in engine.trouble.calls
    assert engine.images == set()


# ---- trouble ----------------------------------------------------------------------------------------------


def test_an_image_that_is_nowhere_fails_it_at_once_and_everything_is_given_back(
    machines: Machines, engine: FakeEngine, reservation: Reservation
) -> None:
    engine.registry.clear()

    failed = machines.settle(reservation)

    assert failed.state == "failed"
    assert "the registry does not have" in failed.failure
    assert failed.reason == failed.failure
    assert nothing_is_left(machines)


def test_a_refusal_is_tried_again_and_fails_in_the_end(
    machines: Machines, engine: FakeEngine, reservation: Reservation
) -> None:
    machines.reconcile(make_reservation())  # the image is there now
    engine.trouble.before = refuse_start

    first = machines.reconcile(reservation)
    last = machines.settle(reservation)

    assert (first.state, first.reason) == ("starting", "A step failed and is tried again: no such device")
    assert (last.state, last.failure) == ("failed", "It could not be started: no such device")
    assert not Allocation.objects.held().filter(container__reservation=reservation).exists()


def refuse_start(call: str) -> None:
    if call == "start":
        raise EngineRefused("no such device")


def test_a_taken_port_is_given_up_for_another(
    machines: Machines, engine: FakeEngine, gateway: FakeGateway, node: Node, reservation: Reservation
) -> None:
    old = Forward.objects.get().public_port
    engine.strangers_ports.add((node.address, old))

    running = machines.settle(reservation)

    new = Forward.objects.get().public_port
    assert running.state == "running"
    assert new != old
    assert gateway.open_ports == {new}
    assert Event.objects.filter(text__contains="the address changed").count() == 1


@pytest.mark.parametrize("silent", ["remove", "observe"])
def test_a_node_that_falls_silent_while_a_port_is_changed_is_waited_for(
    silent: str, machines: Machines, engine: FakeEngine, node: Node, reservation: Reservation
) -> None:
    engine.strangers_ports.add((node.address, Forward.objects.get().public_port))
    engine.trouble.lost_answers.add(silent)
    machines.reconcile(reservation)
    engine.trouble.lost_answers.clear()

    assert machines.settle(reservation).state == "running"


def test_a_gateway_without_answer_is_waited_for_and_the_node_is_not_blamed(
    machines: Machines, gateway: FakeGateway, node: Node, reservation: Reservation
) -> None:
    gateway.trouble.silent = True
    waiting = machines.reconcile(reservation)
    gateway.trouble.silent = False
    machines.clock.forward(seconds=5)

    assert (waiting.state, waiting.reason) == ("starting", "Waiting for an answer: gate does not answer")
    assert Node.objects.get(pk=node.pk).health == "ok"
    assert machines.reconcile(reservation).state == "running"


def test_while_the_gateway_is_silent_nothing_is_taken_down(
    machines: Machines, engine: FakeEngine, gateway: FakeGateway, reservation: Reservation
) -> None:
    machines.reconcile(reservation)
    gateway.trouble.refusal = CommandFailed("gate", ["iptables-restore"], 1, "locked")
    machines.clock.forward(hours=1)

    waiting = machines.reconcile(reservation)

    assert waiting.state == "ending"
    assert waiting.reason.startswith("Waiting to be sure that it is gone")
    assert list(engine.containers)
    assert Allocation.objects.held().count() == 1
    gateway.trouble.refusal = None
    assert machines.settle(reservation).state == "ended"
    assert nothing_is_left(machines)


def test_on_unknown_nothing_is_released_and_its_place_stays_held(
    machines: Machines, engine: FakeEngine, reservation: Reservation
) -> None:
    machines.reconcile(reservation)
    engine.trouble.silent = True
    machines.clock.forward(hours=1)

    waiting = machines.reconcile(reservation)

    assert waiting.state == "ending"
    assert Allocation.objects.held().get().during.upper == at(1) + timedelta(minutes=5)
    assert Forward.objects.filter(released_at=None).count() == 1


# ---- containers that end by themselves --------------------------------------------------------------------


def test_a_container_that_ends_by_itself_is_started_again_three_times_and_then_fails(
    machines: Machines, engine: FakeEngine, reservation: Reservation
) -> None:
    name = f"berth-{reservation.pk}-1-main"
    states = [machines.reconcile(reservation).state]
    for _ in range(4):
        engine.end_by_itself(name, exit_code=3)
        states.append(machines.settle(reservation).state)

    failed = Reservation.objects.get()
    assert states == ["running", "running", "running", "running", "failed"]
    assert failed.failure.startswith("The container ended by itself (exit code 3).")
    assert nothing_is_left(machines)


def test_one_that_used_too_much_memory_is_told_so(
    machines: Machines, engine: FakeEngine, reservation: Reservation
) -> None:
    machines.reconcile(reservation)
    engine.end_by_itself(f"berth-{reservation.pk}-1-main", exit_code=137, out_of_memory=True)
    machines.reconcile(reservation)

    assert Event.objects.filter(text__startswith="The container used more memory than its size").exists()


def test_a_container_that_somebody_removed_is_made_again(
    machines: Machines, engine: FakeEngine, reservation: Reservation
) -> None:
    machines.reconcile(reservation)
    engine.remove(f"berth-{reservation.pk}-1-main")

    again = machines.reconcile(reservation)

    assert again.state == "running"
    assert Event.objects.filter(text__startswith="The container was gone from its node.").exists()


def test_a_running_one_is_left_alone_while_its_node_is_silent(
    machines: Machines, engine: FakeEngine, reservation: Reservation
) -> None:
    machines.reconcile(reservation)
    engine.trouble.silent = True

    waiting = machines.reconcile(reservation)
    engine.trouble.silent = False
    machines.clock.forward(seconds=5)

    assert (waiting.state, waiting.restarts) == ("running", 0)
    assert waiting.reason.startswith("The node gives no answer at the moment")
    assert machines.reconcile(reservation).reason == ""


# ---- volumes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "left"), [("C1", set()), ("C2", set()), ("C3", {"kept"})])
def test_volumes_end_with_their_reservation_unless_they_are_kept(
    code: str, left: set[str], machines: Machines, node: Node
) -> None:
    machines.with_ssh = True
    make_storage()
    service = make_service(mount_path="/data")
    reservation = make_reservation(service=service, storage=profile(code))
    machines.reconcile(reservation)
    mounted = {name for names in machines.mounted.values() for name in names}

    actions.end(reservation=Reservation.objects.get(), text="Deleted.", by="test", now=NOW)
    machines.settle(reservation)

    volume = Volume.objects.get()
    assert mounted == {volume.machine_name}
    assert machines.images_on_server == ({volume.machine_name} if left else set())
    assert volume.state == ("detached" if left else "removed")
    assert volume.node is None
    assert nothing_is_left(machines)
