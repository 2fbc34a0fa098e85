"""A worker may die at any line, a node at any moment: another look brings it to the same end."""

from datetime import timedelta

import pytest

from compute import health
from compute.models import Allocation, Forward, Node, Volume
from reservations import actions
from reservations.claims import CLAIM_LASTS
from reservations.models import Container, Event, Reservation, UsagePeriod
from tests.factories import NOW, make_node, make_reservation, make_service, make_storage, profile
from tests.fakes.trouble import Crash
from tests.unit.conftest import Machines
from tests.unit.reservations.looks import nothing_is_left, story

pytestmark = pytest.mark.django_db
CALLS = [
    "observe",
    "has_image",
    "pull",
    "make_network",
    "create",
    "start",
    "apply",
    "attach",
    "remove",
    "cut",
    "detach",
]


@pytest.fixture
def reservation(machines: Machines) -> Reservation:
    """With a remote volume, so that it uses every driver."""
    machines.with_ssh = True
    make_storage()
    make_node("one", cores=8)
    return make_reservation(service=make_service(mount_path="/data"), storage=profile("C2"))


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("moment", [*CALLS, "remove_remote"])
def test_wherever_a_worker_dies_once_the_next_one_comes_to_the_same_end(
    when: str, moment: str, machines: Machines, reservation: Reservation
) -> None:
    died: list[str] = []

    def die(call: str) -> None:
        if call == moment and not died:
            died.append(call)
            raise Crash(call)

    machines.engine(Node.objects.get())
    machines.gateway(Node.objects.get().gateway)
    for trouble in machines.trouble_of_all():
        setattr(trouble, when, die)

    for _ in range(2):
        live_through(machines, reservation)

    assert died == [moment]
    assert story(reservation) == ["booked", "starting", "running", "ending", "ended"]
    assert UsagePeriod.objects.count() == 1
    assert nothing_is_left(machines)
    assert machines.images_on_server == set()


def live_through(machines: Machines, reservation: Reservation) -> None:
    """Start it, delete it, take it down, as far as the worker lives."""
    for step in (lambda: machines.settle(reservation), delete, lambda: machines.settle(reservation)):
        try:
            step()
        except Crash:
            machines.clock.now += timedelta(seconds=1)
            step()


def delete() -> None:
    row = Reservation.objects.get()
    if row.state == "running":
        actions.end(reservation=row, text="Deleted.", by="test", now=NOW + timedelta(minutes=1))


@pytest.mark.parametrize("moment", [*CALLS, "remove_remote"])
def test_an_answer_that_is_lost_after_the_deed_was_done_does_no_harm(
    moment: str, machines: Machines, reservation: Reservation
) -> None:
    node = Node.objects.get()
    troubles = [machines.engine(node).trouble, machines.gateway(node.gateway).trouble, machines.storage]
    for trouble in troubles:
        trouble.lost_answers.add(moment)
        trouble.after = lambda call, lost=trouble.lost_answers: later.append(lost) if call == moment else None  # type: ignore[misc]
    later: list[set[str]] = []

    def look() -> None:
        machines.reconcile(reservation)
        for lost in later:
            lost.clear()
        machines.clock.forward(seconds=3)
        machines.settle(reservation)

    look()
    delete()
    look()

    assert Reservation.objects.get().state == "ended"
    assert nothing_is_left(machines)


def test_a_worker_that_died_without_a_word_is_replaced_when_its_claim_has_expired(
    machines: Machines, reservation: Reservation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(call: str) -> None:
        raise Crash(call)

    machines.engine(Node.objects.get()).trouble.before = die
    with monkeypatch.context() as killed:
        killed.setattr("reservations.reconcile.let_go", lambda *claim: None)
        with pytest.raises(Crash):
            machines.reconcile(reservation)
    machines.engine(Node.objects.get()).trouble.before = lambda call: None

    too_early = machines.reconcile(reservation).state
    machines.clock.now += CLAIM_LASTS

    assert too_early == "starting"
    assert machines.reconcile(reservation).state == "running"


def test_two_workers_at_once_do_the_work_of_one(machines: Machines, reservation: Reservation) -> None:
    engine = machines.engine(Node.objects.get())

    def look_too(call: str) -> None:
        if call == "start":
            machines.reconcile(reservation)

    engine.trouble.after = look_too

    machines.reconcile(reservation)

    assert engine.trouble.calls.count("start") == 1
    assert story(reservation) == ["booked", "starting", "running"]


def test_a_worker_that_was_overtaken_writes_nothing_more(machines: Machines, reservation: Reservation) -> None:
    engine = machines.engine(Node.objects.get())

    def sleep_through_the_claim(call: str) -> None:
        if call == "start" and engine.trouble.calls.count("start") == 1:
            machines.clock.now += CLAIM_LASTS + timedelta(seconds=1)
            machines.reconcile(reservation)

    engine.trouble.after = sleep_through_the_claim
    machines.reconcile(reservation)

    assert story(reservation) == ["booked", "starting", "running"]
    assert UsagePeriod.objects.count() == 1


# ---- nodes that fall silent -------------------------------------------------------------------------------


@pytest.fixture
def other() -> Node:
    return make_node("two", cores=8)


def plain() -> Reservation:
    return make_reservation(service=make_service("plain", image="library/nginx:1"))


def test_a_silent_node_gets_one_more_chance_and_then_another_node_takes_over(machines: Machines) -> None:
    one, two = make_node("one", ram_mib=9000, cores=8), make_node("two", ram_mib=600, cores=8)
    reservation = plain()
    port = Forward.objects.get().public_port
    machines.engine(one).trouble.silent = True

    first = machines.reconcile(reservation)
    machines.clock.forward(seconds=3)
    moved = machines.reconcile(reservation)

    assert (first.state, first.reason) == ("starting", "one gives no answer; trying again.")
    assert (moved.state, moved.generation) == ("running", 2)
    assert list(machines.engine(two).containers) == [f"berth-{reservation.pk}-2-main"]
    assert (Forward.objects.get().public_port, Forward.objects.get().node) == (port, two)
    assert Node.objects.get(name="one").health == "unknown"
    assert Event.objects.filter(text="One gives no answer; it is started on another node.").exists()


def test_what_may_be_left_on_the_silent_node_stays_held_until_it_was_seen_to_be_gone(machines: Machines) -> None:
    one = make_node("one", ram_mib=9000, cores=8)
    make_node("two", cores=8)
    reservation = plain()
    machines.engine(one).trouble.lost_answers.add("start")
    machines.reconcile(reservation)
    machines.engine(one).trouble.silent = True
    machines.settle(reservation)
    held = Allocation.objects.held().filter(node=one).count()
    actions.end(reservation=Reservation.objects.get(), text="Deleted.", by="test", now=machines.clock.now)

    waiting = machines.reconcile(reservation)
    machines.engine(one).trouble.silent = False
    health.probe(one, machines.clock.now)

    assert held == 1
    assert waiting.state == "ending"
    assert machines.settle(reservation).state == "ended"
    assert nothing_is_left(machines)


def test_one_whose_node_is_out_of_service_at_its_start_begins_elsewhere(machines: Machines) -> None:
    one, two = make_node("one", ram_mib=9000, cores=8), make_node("two", cores=8)
    reservation = plain()
    Node.objects.filter(pk=one.pk).update(health="unknown")

    running = machines.reconcile(reservation)

    assert (running.state, running.node_name) == ("running", two.name)
    assert not Allocation.objects.held().filter(node=one).exists()
    assert machines.engine(one).trouble.calls == []


def test_when_no_other_node_has_room_it_says_so_and_waits(machines: Machines) -> None:
    one = make_node("one", cores=8)
    reservation = plain()
    Node.objects.update(health="unknown")
    waiting = machines.reconcile(reservation)
    Node.objects.update(health="ok")
    machines.clock.forward(seconds=5)

    assert waiting.state == "booked"
    assert waiting.reason.startswith("one is not in service, and no other node has room:")
    assert machines.reconcile(reservation).node_name == one.name
    assert Container.objects.count() == 1


def test_a_worker_that_was_overtaken_before_it_noted_the_volume_makes_no_second_one(
    machines: Machines, reservation: Reservation
) -> None:
    engine = machines.engine(Node.objects.get())

    def sleep_through_the_claim(call: str) -> None:
        if call == "has_image" and engine.trouble.calls.count("has_image") == 1:
            machines.clock.now += CLAIM_LASTS + timedelta(seconds=1)
            machines.reconcile(reservation)

    engine.trouble.after = sleep_through_the_claim
    machines.reconcile(reservation)

    assert Volume.objects.count() == 1
    assert Reservation.objects.get().state == "running"
