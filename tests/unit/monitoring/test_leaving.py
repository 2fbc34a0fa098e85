"""The preview of an emptied or lost node says what the reconcile loop then really does."""

import time
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from compute import capacity
from compute.models import Allocation, LoadStep, Node
from compute.scheduler import Request
from reservations import actions, starting
from reservations.leaving import Fate, Leaving, plan
from reservations.models import Event, Reservation
from tests.factories import (
    NOW,
    at,
    make_gateway,
    make_node,
    make_reservation,
    make_service,
    make_size,
    make_storage,
    profile,
)
from tests.unit.conftest import Machines
from tests.unit.reservations.state_world import Unsaved

pytestmark = pytest.mark.django_db
HOW = ["running", "stopping", "stopped", "resuming", "starting", "due", "booked", "ending"]


@dataclass(frozen=True)
class Wish:
    """One reservation on the node that is to be left."""

    how: str
    size: str
    storage: str
    mounts: bool
    start: int = 0
    hours: int = 1


WISHES = st.builds(
    Wish,
    st.sampled_from(HOW),
    st.sampled_from(["small", "large"]),
    st.sampled_from(["C1", "C2"]),
    st.booleans(),
    st.integers(1, 3),
    st.integers(1, 3),
)
OTHERS = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(0, 3)), max_size=3)


def make_sizes() -> None:
    make_size("small", ram_mib=512, cores=Decimal("0.5"))
    make_size("large", ram_mib=1024, cores=Decimal(1))


def make(machines: Machines, wish: Wish) -> Reservation:
    slug = "mounting" if wish.mounts else "plain"
    service = make_service(slug, image="library/nginx:1", mount_path="/data" if wish.mounts else "")
    values: dict[str, Any] = {"service": service, "size": make_size(wish.size), "storage": profile(wish.storage)}
    if wish.how == "booked":
        values["start"] = at(wish.start)
    made = make_reservation(length=timedelta(hours=wish.hours), **values)
    if wish.how in {"due", "booked"}:
        return made
    machines.speechless = wish.how == "starting"
    for _ in range(3):
        made = machines.reconcile(made)
    machines.speechless = False
    wished = {"stopped": "stop", "resuming": "stop", "stopping": "stop"}.get(wish.how, "run")
    Reservation.objects.filter(pk=made.pk).update(wish=wished)
    if wish.how in {"stopped", "resuming"}:
        made = machines.reconcile(made)
    if wish.how == "resuming":
        Reservation.objects.filter(pk=made.pk).update(wish="run")
    if wish.how == "ending":
        actions.end(reservation=made, text="Deleted.", by="test", now=NOW)
    return Reservation.objects.get(pk=made.pk)


def make_world(machines: Machines, wishes: list[Wish], others: list[tuple[int, int, int]]) -> Node:
    """A node with these, and other nodes of which something is lent; one is behind a gateway of its own."""
    make_storage()
    machines.clock.now, machines.with_ssh = NOW, True
    machines.engines.clear()
    make_sizes()
    node = make_node("leaving", ram_mib=64 * 1024, cores=64)
    for wish in wishes:
        make(machines, wish)
    second = make_gateway(name="second", public_address="198.18.0.2")
    for number, (ram, cores, held) in enumerate(others):
        values: dict[str, Any] = {"gateway": second} if number == 2 else {}
        other = make_node(f"other{number}", ram_mib=ram * 512, cores=cores, **values)
        if held:
            hold(other, held)
    return node


def hold(node: Node, hours: int) -> None:
    """Some of it is in use; the window of the first kind is over, and it is late in leaving."""
    others = list(Node.objects.exclude(pk=node.pk).values_list("pk", flat=True))
    request = Request(512, Decimal("0.5"), at(-2), at(hours - 1.5))
    allocation, _ = capacity.place(request, [], rest=timedelta(0), exclude=others)
    capacity.take(allocation, at(-2))


def where(reservation: Reservation) -> tuple[str, int]:
    container = starting.container_of(Reservation.objects.get(pk=reservation.pk))
    return container.node.name, container.generation


def foreseen(leaving: Leaving, before: tuple[str, int]) -> tuple[str, int]:
    return (leaving.to, before[1] + 1) if leaving.fate == Fate.MOVES else before


@pytest.mark.parametrize("dies", [False, True])
@hypothesis_settings(max_examples=30)
@given(wishes=st.lists(WISHES, min_size=1, max_size=6), others=OTHERS)
def test_what_is_foreseen_is_what_happens(
    machines: Machines, dies: bool, wishes: list[Wish], others: list[tuple[int, int, int]]
) -> None:
    example = Unsaved()
    example.begin()
    try:
        node = make_world(machines, wishes, others)
        foretold = plan(node, NOW, dies=dies)
        before = {leaving.reservation.pk: where(leaving.reservation) for leaving in foretold}

        happened = leave(machines, node, foretold, dies=dies)

        lost_data = Event.objects.filter(text__contains="What was on its local volume is lost.")
        told = {row.reservation.pk for row in foretold if row.loses_data and row.fate == Fate.MOVES}
        assert len(foretold) == len(wishes)
        assert {row.reservation.pk: foreseen(row, before[row.reservation.pk]) for row in foretold} == happened
        assert told == set(lost_data.values_list("reservation", flat=True))
    finally:
        example.undo()


def leave(machines: Machines, node: Node, foretold: list[Leaving], *, dies: bool) -> dict[int, tuple[str, int]]:
    """Drain the node or lose it, and have the workers look at each reservation; where they are after that."""
    if dies:
        Node.objects.filter(pk=node.pk).update(health=Node.Health.LOST)
        machines.engine(node).trouble.silent = True
    else:
        Node.objects.filter(pk=node.pk).update(state=Node.State.DRAINING)
    happened = {}
    for leaving in foretold:
        reservation = leaving.reservation
        machines.clock.now = max(NOW, reservation.start) if dies else NOW
        for _ in range(4):
            machines.reconcile(reservation)
        happened[reservation.pk] = where(reservation)
    return happened


def only(machines: Machines, wish: Wish, *, dies: bool, **other: Any) -> Leaving:
    make_storage()
    make_sizes()
    machines.with_ssh = True
    node = make_node("leaving", ram_mib=8192, cores=8)
    make(machines, wish)
    if other:
        make_node("other", **other)
    [leaving] = plan(node, NOW, dies=dies)
    return leaving


def test_local_data_stays_when_the_node_is_emptied_and_is_lost_when_it_dies(machines: Machines) -> None:
    wish = Wish("running", "small", "C1", mounts=True)
    drained = only(machines, wish, dies=False, ram_mib=4096)
    [lost] = plan(Node.objects.get(name="leaving"), NOW, dies=True)

    assert (drained.fate, drained.stays_until, drained.loses_data) == (Fate.STAYS, at(1), False)
    assert drained.why_not == "Its data is on the disk of this node."
    assert (lost.fate, lost.to, lost.loses_data) == (Fate.MOVES, "other", True)


def test_what_finds_no_room_stays_when_the_node_is_emptied_and_waits_when_it_dies(machines: Machines) -> None:
    drained = only(machines, Wish("running", "large", "C1", mounts=False), dies=False, ram_mib=512)
    [lost] = plan(Node.objects.get(name="leaving"), NOW, dies=True)

    assert (drained.fate, drained.stays_until) == (Fate.STAYS, at(1))
    assert lost.fate == Fate.WAITS
    assert drained.why_not == lost.why_not
    assert "no compute node is big enough" in lost.why_not


def test_remote_storage_needs_a_node_that_can_mount_it(machines: Machines) -> None:
    leaving = only(machines, Wish("running", "small", "C2", mounts=True), dies=True, ssh="")

    assert leaving.fate == Fate.WAITS
    assert "no compute node that can mount remote storage" in leaving.why_not


def test_without_another_node_nothing_can_move(machines: Machines) -> None:
    leaving = only(machines, Wish("booked", "small", "C1", mounts=False, start=1), dies=False)

    assert leaving.fate == Fate.STAYS
    assert "none of the compute nodes is in service" in leaving.why_not


def test_behind_another_gateway_the_address_changes(machines: Machines) -> None:
    other = make_gateway(name="second", public_address="198.18.0.2")
    leaving = only(machines, Wish("running", "small", "C1", mounts=False), dies=False, gateway=other)

    assert (leaving.fate, leaving.to, leaving.other_address) == (Fate.MOVES, "other", True)


def test_who_comes_earlier_takes_the_room(machines: Machines) -> None:
    make_sizes()
    node = make_node("leaving", ram_mib=8192, cores=8)
    for how in ("booked", "running", "running"):
        make(machines, Wish(how, "small", "C1", mounts=False, start=0, hours=2))
    make_node("other", ram_mib=1024)

    fates = [(row.reservation.state, row.fate) for row in plan(node, NOW, dies=True)]

    assert fates == [("running", Fate.MOVES), ("running", Fate.MOVES), ("booked", Fate.WAITS)]


def test_nothing_is_written_or_held_by_looking(machines: Machines, django_assert_num_queries: Any) -> None:
    make_sizes()
    node = make_node("leaving", ram_mib=64 * 1024, cores=64)
    make_node("other", state=Node.State.CORDONED)
    make(machines, Wish("running", "small", "C1", mounts=False))
    with django_assert_num_queries(2):
        one = plan(node, NOW)
    for _ in range(49):
        make(machines, Wish("due", "small", "C1", mounts=False))
    rows = (Allocation.objects.count(), LoadStep.objects.count())

    with django_assert_num_queries(2):
        many = plan(node, NOW)

    assert (len(one), len(many)) == (1, 50)
    assert (Allocation.objects.count(), LoadStep.objects.count()) == rows


def test_a_thousand_nodes_and_fifty_reservations_are_well_under_a_second(machines: Machines) -> None:
    make_sizes()
    node = make_node("leaving", ram_mib=64 * 1024, cores=64)
    for _ in range(50):
        make(machines, Wish("due", "small", "C1", mounts=False))
    Node.objects.bulk_create(
        Node(name=f"n{n}", address="10.99.1.1", engine_url="tcp://n:1", gateway=node.gateway, ram_mib=8192, cores=8)
        for n in range(1000)
    )
    LoadStep.objects.bulk_create(
        LoadStep(node=other, at=at(hour / 2), ram_mib=512 * (hour % 14), cores=hour % 7)
        for other in Node.objects.exclude(pk=node.pk)
        for hour in range(-2, 30)
    )

    began = time.perf_counter()
    found = plan(node, NOW, dies=True)
    took = time.perf_counter() - began

    assert {row.fate for row in found} == {Fate.MOVES}
    assert took < 1
