"""A customer's data on a node's own disk is not given up for a moment's silence; a lost node is given up on demand."""

import socket
import threading
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command

from accounts.models import AuditEntry
from compute import health
from compute.engine import RegistrySilent
from compute.models import Allocation, Node, Volume
from reservations import actions, starting
from reservations.lost import declare_lost
from reservations.models import Container, Reservation
from tests.factories import at, make_node, make_reservation, make_service, make_storage, profile
from tests.fakes import FakeEngine
from tests.unit.conftest import Machines
from tests.unit.reservations.looks import nothing_is_left, story

pytestmark = pytest.mark.django_db


@pytest.fixture
def running(machines: Machines, node: Node) -> Reservation:
    """One with a local volume, running on node "one"; node "two" has room."""
    machines.with_ssh = True
    reservation = make_reservation(service=make_service(mount_path="/data"))
    running = machines.settle(reservation)
    assert running.state == "running"
    make_node("two", cores=8)
    return running


def test_one_with_local_data_waits_for_its_silent_node_and_is_not_moved(
    machines: Machines, engine: FakeEngine, node: Node, running: Reservation
) -> None:
    engine.end_by_itself(f"berth-{running.pk}-1-main")
    machines.clock.forward(minutes=20)
    engine.trouble.after = lambda call: setattr(engine.trouble, "silent", call == "observe")
    for _ in range(15):
        machines.reconcile(running)
        machines.clock.forward(minutes=1)
    waiting = Reservation.objects.get()
    engine.trouble.after = lambda call: None
    engine.trouble.silent = False
    health.probe(Node.objects.get(pk=node.pk), machines.clock.now)

    again = machines.settle(running)

    assert (waiting.state, waiting.generation) == ("starting", 1)
    assert "holds its data" in waiting.reason
    assert (again.state, again.generation) == ("running", 1)


def test_one_that_ends_now_and_then_is_started_again_each_time(
    machines: Machines, engine: FakeEngine, running: Reservation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compute.guard.write_lease", lambda host, name, end: None)
    Reservation.objects.update(end=running.end + timedelta(days=30))
    for _ in range(6):
        machines.clock.forward(hours=2)
        engine.end_by_itself(f"berth-{running.pk}-1-main")
        machines.settle(running)

    assert Reservation.objects.get().state == "running"


def test_one_that_keeps_ending_is_given_up(machines: Machines, engine: FakeEngine, running: Reservation) -> None:
    for _ in range(4):
        machines.clock.forward(seconds=5)
        engine.end_by_itself(f"berth-{running.pk}-1-main")
        machines.settle(running)

    given_up = Reservation.objects.get()
    assert given_up.state == "failed"
    assert "started again 3 times" in given_up.failure


def test_a_silent_registry_is_waited_for_and_no_node_is_blamed(
    machines: Machines, engine: FakeEngine, node: Node, reservation: Reservation
) -> None:
    def no_registry(call: str) -> None:
        if call == "pull":
            raise RegistrySilent("no route to the registry")

    engine.trouble.before = no_registry
    for _ in range(5):
        waiting = machines.reconcile(reservation)

    assert (waiting.state, waiting.attempts) == ("starting", 0)
    assert waiting.reason == "The image registry gives no answer; waiting for it."
    assert Node.objects.get(pk=node.pk).health == "ok"


def test_a_lost_node_is_given_up_with_what_was_on_it(
    machines: Machines, engine: FakeEngine, node: Node, running: Reservation
) -> None:
    engine.trouble.silent = True
    for _ in range(2):
        health.probe(Node.objects.get(pk=node.pk), machines.clock.now)
    actions.end(reservation=running, text="Deleted.", by="test", now=machines.clock.now)
    stuck = machines.reconcile(running)

    call_command("remove_node", "one", "--lost")

    assert stuck.state == "ending"
    assert machines.settle(running).state == "ended"
    assert not Allocation.objects.held().exists()
    assert Volume.objects.get().state == "removed"
    assert Node.objects.get(pk=node.pk).state == "removed"
    assert AuditEntry.objects.filter(action="node.lost").exists()


def test_what_still_ran_on_a_lost_node_fails_and_its_kept_volume_is_free(machines: Machines, node: Node) -> None:
    machines.with_ssh = True
    make_storage()
    reservation = make_reservation(service=make_service(mount_path="/data"), storage=profile("C3"))
    assert machines.settle(reservation).state == "running"
    machines.engine(node).trouble.silent = True

    ended = declare_lost(node=node, by="test", now=machines.clock.now)

    failed = machines.settle(reservation)
    volume = Volume.objects.get()
    assert ended == 1
    assert (failed.state, failed.failure) == ("failed", "Its node one was lost.")
    assert (volume.state, volume.node) == ("detached", None)
    assert story(failed)[-2:] == ["ending", "failed"]


def test_what_was_booked_on_a_lost_node_for_later_moves_to_another(machines: Machines, node: Node) -> None:
    later = make_reservation(start=at(5))
    two = make_node("two", cores=8)

    ended = declare_lost(node=node, by="test", now=machines.clock.now)

    moved = Reservation.objects.get(pk=later.pk)
    assert ended == 0
    assert (moved.state, moved.generation, moved.claim_token) == ("booked", 2, None)
    assert list(Allocation.objects.held().values_list("node", flat=True)) == [two.pk]


def test_what_was_booked_for_later_and_fits_nowhere_else_fails(machines: Machines, node: Node) -> None:
    later = make_reservation(start=at(5))

    ended = declare_lost(node=node, by="test", now=machines.clock.now)

    failed = machines.settle(later)
    assert ended == 1
    assert failed.state == "failed"
    assert "was lost, and no other has room" in failed.failure
    assert not Allocation.objects.held().exists()


def test_a_node_that_answers_is_not_lost(machines: Machines, node: Node) -> None:
    with pytest.raises(CommandError, match="answers, so it is not lost"):
        call_command("remove_node", "one", "--lost")


def test_a_silent_node_does_not_keep_the_containers_of_the_others(
    machines: Machines, engine: FakeEngine, node: Node
) -> None:
    two = make_node("two", cores=8, ram_mib=1024)
    reservation = make_reservation()
    engine.trouble.lost_answers.add("start")
    machines.reconcile(reservation)
    engine.trouble.silent = True
    assert machines.settle(reservation).state == "running"
    actions.end(reservation=Reservation.objects.get(), text="Deleted.", by="test", now=machines.clock.now)

    machines.reconcile(reservation)

    assert machines.engine(two).empty
    assert not Container.objects.filter(node=two, gone_at=None).exists()
    assert not nothing_is_left(machines)


@pytest.mark.parametrize(
    ("greets", "hangs_up", "ready"), [(True, False, True), (False, False, True), (False, True, False)]
)
def test_who_accepts_and_hangs_up_at_once_is_not_ready(greets: bool, hangs_up: bool, ready: bool) -> None:
    ours, theirs = socket.socketpair()

    def behave() -> None:
        if hangs_up:
            theirs.close()
        elif greets:
            theirs.send(b"x")

    answering = threading.Thread(target=behave)
    answering.start()

    stays_open = starting._stays_open(ours)

    answering.join()
    ours.close()
    theirs.close()
    assert stays_open is ready
