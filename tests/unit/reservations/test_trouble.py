"""What the machines do to a reservation: refusals, silence, containers that end, volumes."""

from datetime import timedelta

import pytest

from compute.engine import EngineRefused
from compute.models import Allocation, Forward, Node, Volume
from compute.shell import CommandFailed
from reservations import actions
from reservations.models import Event, Reservation
from tests.factories import NOW, at, make_reservation, make_service, make_storage, profile
from tests.fakes import FakeEngine, FakeGateway
from tests.unit.conftest import Machines
from tests.unit.reservations.looks import nothing_is_left

pytestmark = pytest.mark.django_db


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

    new = running.endpoints.get().port
    assert running.state == "running"
    assert new != old
    assert not Forward.objects.get(public_port=old).wanted
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

    assert (waiting.state, waiting.reason) == ("starting", "Waiting for the gateway or the storage server to answer.")
    assert Node.objects.get(pk=node.pk).health == "ok"
    assert machines.reconcile(reservation).state == "running"


def test_while_the_gateway_does_not_obey_the_container_goes_and_its_port_is_kept(
    machines: Machines, engine: FakeEngine, gateway: FakeGateway, reservation: Reservation
) -> None:
    machines.reconcile(reservation)
    gateway.trouble.refusal = CommandFailed("gate", ["iptables-restore"], 1, "locked")
    machines.clock.forward(hours=1)

    waiting = machines.reconcile(reservation)

    assert waiting.state == "ending"
    assert waiting.reason.startswith("Waiting to be sure that all of it is gone")
    assert gateway.rules.nat  # it may still lead here, so that nothing may be here
    assert not list(engine.containers)
    assert not Allocation.objects.held().exists()
    assert Forward.objects.filter(released_at=None).count() == 1
    gateway.trouble.refusal = None
    machines.clock.now = waiting.look_at or machines.clock.now
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
    assert waiting.reason.endswith(" gives no answer at the moment.")
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
