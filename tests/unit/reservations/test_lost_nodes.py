"""A node that dies: unknown, then lost; what ran there runs elsewhere at the same address; old copies go first."""

from datetime import timedelta
from typing import Any

import pytest

from compute import health
from compute.models import Forward, Node, Volume
from reservations import actions, watch
from reservations.models import Container, Event, Reservation, UsagePeriod
from tests.factories import at, make_node, make_reservation, make_service, make_storage, profile
from tests.unit.conftest import Machines
from tests.unit.reservations.looks import story

pytestmark = pytest.mark.django_db


@pytest.fixture
def nodes(machines: Machines) -> list[Node]:
    """One, on which everything begins, then two, then zero."""
    return [
        make_node("one", ram_mib=9000, cores=8),
        make_node("two", ram_mib=8000, cores=8),
        make_node("zero", ram_mib=7000, cores=8),
    ]


def fall_silent(machines: Machines, *nodes: Node, seconds: int = 45) -> None:
    """They give no answer for so long, and are probed every 5 s as the timetable does, with all others."""
    for node in nodes:
        machines.engine(node).trouble.silent = True
    probe_for(machines, seconds)


def probe_for(machines: Machines, seconds: int) -> None:
    for _ in range(seconds // 5):
        machines.clock.forward(seconds=5)
        for node in Node.objects.present():
            health.probe(node, machines.clock.now)


def watch_again(machines: Machines, node: Node) -> None:
    watch.watch(Node.objects.get(pk=node.pk), machines.clock.now)


def health_of(*nodes: Node) -> list[str]:
    return [Node.objects.get(pk=node.pk).health for node in nodes]


def run_one(machines: Machines, **values: Any) -> Reservation:
    probe_for(machines, 5)
    reservation = machines.settle(make_reservation(**values))
    machines.clock.forward(seconds=10)
    for node in Node.objects.present():
        watch_again(machines, node)
    assert (reservation.state, reservation.node_name) == ("running", "one")
    return reservation


# ---- unknown, lost, returning -----------------------------------------------------------------------------


def test_a_silent_node_is_unknown_at_once_and_lost_within_45_seconds(machines: Machines, nodes: list[Node]) -> None:
    probe_for(machines, 5)
    machines.engine(nodes[0]).trouble.silent = True
    seen = {}

    for seconds in range(5, 50, 5):
        probe_for(machines, 5)
        seen[seconds] = health_of(nodes[0])[0]

    assert seen[5] == "ok"
    assert {seen[10], seen[30]} == {"unknown"}
    assert seen[35] == seen[45] == "lost"


def test_a_pause_of_the_portal_itself_declares_nobody_lost(machines: Machines, nodes: list[Node]) -> None:
    probe_for(machines, 5)
    machines.clock.forward(hours=2)

    fall_silent(machines, nodes[0], seconds=15)

    assert health_of(nodes[0]) == ["unknown"]


def test_when_most_nodes_fall_silent_nobody_is_declared_lost_and_nothing_is_removed(
    machines: Machines, nodes: list[Node]
) -> None:
    reservation = run_one(machines)
    left = f"berth-{reservation.pk}-1-main"
    machines.engine(nodes[2]).networks.add(left)

    fall_silent(machines, *nodes[:2], seconds=300)
    for _ in range(5):
        machines.clock.forward(minutes=1)
        watch_again(machines, nodes[2])
    watch.sweep(machines.clock.now)
    machines.reconcile(reservation)
    braked = (Reservation.objects.get().state, set(machines.engine(nodes[2]).networks), health_of(*nodes))
    reason = Node.objects.get(pk=nodes[0].pk).health_reason
    machines.engine(nodes[1]).trouble.silent = False
    probe_for(machines, 10)
    for _ in range(3):
        probe_for(machines, 60)
        watch_again(machines, nodes[2])

    assert braked == ("running", {left}, ["unknown", "unknown", "ok"])
    assert "a fault on our side" in reason
    assert health_of(*nodes) == ["lost", "ok", "ok"]  # one of three is believed
    assert machines.engine(nodes[2]).networks == set()


def test_nodes_that_nobody_got_round_to_probe_are_silent_too(machines: Machines, nodes: list[Node]) -> None:
    """Our own network is down, and the few threads there are try the same node again and again."""
    probe_for(machines, 5)
    for node in nodes:
        machines.engine(node).trouble.silent = True

    for _ in range(12):
        machines.clock.forward(seconds=5)
        health.probe(Node.objects.get(pk=nodes[0].pk), machines.clock.now)

    assert health_of(*nodes) == ["unknown", "ok", "ok"]


def test_a_late_answer_does_not_make_a_node_well_that_was_declared_lost_meanwhile(
    machines: Machines, nodes: list[Node]
) -> None:
    asked = Node.objects.get(pk=nodes[0].pk)
    Node.objects.filter(pk=asked.pk).update(health=Node.Health.LOST)

    health.probe(asked, machines.clock.now)

    assert health_of(asked) == ["returning"]


def test_a_node_that_was_lost_before_does_not_pull_the_brake(machines: Machines, nodes: list[Node]) -> None:
    probe_for(machines, 5)
    fall_silent(machines, nodes[0])
    four = make_node("four")
    probe_for(machines, 5)

    fall_silent(machines, nodes[1])

    assert health_of(*nodes, four) == ["lost", "lost", "ok", "ok"]


def test_a_returning_node_gets_nothing_new_before_its_old_copies_are_gone(
    machines: Machines, nodes: list[Node]
) -> None:
    reservation = run_one(machines)
    fall_silent(machines, nodes[0])
    watch.sweep(machines.clock.now)
    machines.settle(reservation)
    engine = machines.engine(nodes[0])
    engine.trouble.silent = False
    probe_for(machines, 5)
    engine.trouble.lost_answers.add("remove")
    watch_again(machines, nodes[0])
    between = health_of(nodes[0])
    engine.trouble.lost_answers.clear()

    watch_again(machines, nodes[0])

    assert between == ["returning"]
    assert health_of(nodes[0]) == ["ok"]
    assert engine.empty
    assert Container.objects.get(generation=1).gone_at


def test_a_returning_node_that_falls_silent_again_is_lost_again(machines: Machines, nodes: list[Node]) -> None:
    probe_for(machines, 5)
    fall_silent(machines, nodes[0])
    machines.engine(nodes[0]).trouble.silent = False
    probe_for(machines, 5)
    returning = health_of(nodes[0])

    fall_silent(machines, nodes[0], seconds=10)

    assert returning == ["returning"]
    assert health_of(nodes[0]) == ["lost"]


def test_one_probe_of_a_node_at_a_time(machines: Machines, nodes: list[Node]) -> None:
    first = health.claim_probe(nodes[0].pk, at(0))
    second = health.claim_probe(nodes[0].pk, at(0))
    assert first
    health.let_go(first)

    assert second is None
    assert health.claim_probe(nodes[0].pk, at(0))
    assert health.claim_probe(nodes[0].pk, at(0) + health.PROBE_LASTS)


# ---- what ran there ---------------------------------------------------------------------------------------


def test_what_ran_on_a_lost_node_runs_on_another_at_the_same_address(machines: Machines, nodes: list[Node]) -> None:
    reservation = run_one(machines)
    address = [endpoint.address for endpoint in reservation.endpoints.all()]
    seen_last = machines.clock.now

    fall_silent(machines, nodes[0])
    due = watch.sweep(machines.clock.now)
    moved = machines.settle(reservation)

    assert due == 1
    assert (moved.state, moved.generation, moved.node_name) == ("running", 2, "two")
    assert [endpoint.address for endpoint in moved.endpoints.all()] == address
    assert Forward.objects.get().node.name == "two"
    assert story(moved) == ["booked", "starting", "running", "starting", "running"]
    served = UsagePeriod.objects.order_by("during")
    assert [period.generation for period in served] == [1, 2]
    assert served[0].during.upper == seen_last  # what nobody saw is not paid for


def test_local_data_is_waited_for_while_the_node_is_unknown_and_given_up_when_it_is_lost(
    machines: Machines, nodes: list[Node]
) -> None:
    machines.with_ssh = True
    reservation = run_one(machines, service=make_service(mount_path="/data"))

    fall_silent(machines, nodes[0], seconds=20)
    waits = machines.reconcile(reservation)
    fall_silent(machines, nodes[0], seconds=30)
    moved = machines.settle(reservation)

    assert (waits.state, waits.generation) == ("running", 1)
    assert (moved.state, moved.generation) == ("running", 2)
    assert Event.objects.filter(text__contains="What was on its local volume is lost.").count() == 1
    assert Volume.objects.count() == 2


def test_a_remote_volume_comes_along(machines: Machines, nodes: list[Node]) -> None:
    machines.with_ssh = True
    make_storage()
    reservation = run_one(machines, service=make_service(mount_path="/data"), storage=profile("C2"))

    fall_silent(machines, nodes[0])
    moved = machines.settle(reservation)

    assert (moved.state, moved.generation) == ("running", 2)
    assert Volume.objects.get().node == nodes[1]
    assert not Event.objects.filter(text__contains="is lost.").exists()


def test_one_that_fits_nowhere_else_waits_past_every_deadline_and_goes_on_when_its_node_is_back(
    machines: Machines, nodes: list[Node]
) -> None:
    reservation = run_one(machines)
    Node.objects.exclude(pk=nodes[0].pk).update(state=Node.State.CORDONED)

    fall_silent(machines, nodes[0])
    for _ in range(40):
        waiting = machines.reconcile(reservation)
        machines.clock.forward(seconds=30)
    machines.engine(nodes[0]).trouble.silent = False
    probe_for(machines, 5)
    watch_again(machines, nodes[0])
    back = machines.settle(reservation)

    assert waiting.state == "starting"
    assert "no other node has room" in waiting.reason
    assert waiting.deadline
    assert waiting.deadline > machines.clock.now - timedelta(minutes=2)
    assert (back.state, back.generation) == ("running", 1)


def test_one_that_was_ended_on_a_lost_node_is_over_only_when_that_was_seen(
    machines: Machines, nodes: list[Node]
) -> None:
    reservation = run_one(machines)
    fall_silent(machines, nodes[0])
    actions.end(reservation=reservation, text="Deleted.", by="test", now=machines.clock.now)
    waiting = machines.reconcile(reservation)
    machines.engine(nodes[0]).trouble.silent = False
    probe_for(machines, 5)

    over = machines.settle(reservation)

    assert waiting.state == "ending"
    assert over.state == "ended"
    assert machines.engine(nodes[0]).empty


def test_who_waited_for_a_silent_node_is_looked_at_as_soon_as_that_answers(
    machines: Machines, nodes: list[Node]
) -> None:
    reservation = run_one(machines)
    machines.engine(nodes[0]).trouble.silent = True
    probe_for(machines, 10)
    for _ in range(5):
        waiting = machines.reconcile(reservation)
    pause = waiting.look_at and waiting.look_at - machines.clock.now
    machines.engine(nodes[0]).trouble.silent = False

    probe_for(machines, 5)

    assert pause
    assert pause > timedelta(seconds=10)
    assert Reservation.objects.get().look_at == machines.clock.now


# ---- emptying a node --------------------------------------------------------------------------------------


def drain(node: Node) -> None:
    Node.objects.filter(pk=node.pk).update(state=Node.State.DRAINING)


def test_draining_moves_what_loses_nothing(machines: Machines, nodes: list[Node]) -> None:
    reservation = run_one(machines)
    drain(nodes[0])

    due = watch.sweep(machines.clock.now)
    moved = machines.settle(reservation)

    assert due == 1
    assert (moved.state, moved.node_name) == ("running", "two")
    assert machines.engine(nodes[0]).empty  # the old copy went first
    assert Event.objects.filter(text="One is being emptied; it is started on another node.").count() == 1


def test_an_old_copy_is_not_killed_by_the_watch_while_its_new_node_still_fetches_the_image(
    machines: Machines, nodes: list[Node]
) -> None:
    reservation = run_one(machines)
    drain(nodes[0])
    watch.sweep(machines.clock.now)
    machines.engine(nodes[1]).trouble.before = lambda call: watch_again(machines, nodes[0]) if call == "pull" else None
    old = machines.engine(nodes[0])
    there: list[bool] = []
    old.trouble.before = lambda call: there.append(bool(old.containers)) if call == "stop" else None

    machines.settle(reservation)
    watch_again(machines, nodes[0])

    assert there == [True]  # it was asked to end, and was not gone by then
    assert old.empty


def test_draining_waits_for_what_has_local_data(machines: Machines, nodes: list[Node]) -> None:
    machines.with_ssh = True
    reservation = run_one(machines, service=make_service(mount_path="/data"))
    drain(nodes[0])

    watch.sweep(machines.clock.now)
    stays = machines.reconcile(reservation)
    hurried = watch.sweep(machines.clock.now + timedelta(seconds=1))

    assert (stays.state, stays.generation) == ("running", 1)
    assert hurried == 0


def test_draining_places_upcoming_bookings_anew(machines: Machines, nodes: list[Node]) -> None:
    reservation = make_reservation(start=at(5))
    drain(nodes[0])

    watch.sweep(machines.clock.now)
    moved = machines.reconcile(reservation)

    assert (moved.state, moved.node_name) == ("booked", "two")
    assert moved.look_at == at(5)


def test_what_fits_nowhere_else_stays_on_a_draining_node_and_is_not_interrupted(
    machines: Machines, nodes: list[Node]
) -> None:
    reservation = run_one(machines)
    Node.objects.update(state=Node.State.DRAINING)

    watch.sweep(machines.clock.now)
    stays = machines.reconcile(reservation)

    assert (stays.state, stays.generation, stays.claim_token) == ("running", 1, None)
    assert story(stays) == ["booked", "starting", "running"]
