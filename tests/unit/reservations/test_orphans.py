"""What carries our label and is nobody's: removed when its reservation is over, kept when the rows cannot know it."""

from datetime import timedelta
from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command

from compute.models import Node
from compute.spec import LABEL_GENERATION, LABEL_KEY, LABEL_RESERVATION, Presence
from reservations import actions, watch
from reservations.models import Orphan, Reservation
from tests.factories import NOW, at, make_reservation
from tests.fakes import FakeEngine
from tests.unit.conftest import Machines

pytestmark = pytest.mark.django_db
GRACE = timedelta(seconds=60)


@pytest.fixture
def over(machines: Machines, engine: FakeEngine) -> Reservation:
    """A reservation that has ended."""
    reservation = machines.settle(make_reservation())
    actions.end(reservation=reservation, text="Deleted.", by="test", now=machines.clock.now)
    reservation = machines.settle(reservation)
    assert reservation.state == "ended"
    return reservation


def put(engine: FakeEngine, name: str, **labels: str) -> str:
    number = name.split("-")[1]
    engine.put_stranger(name, {LABEL_RESERVATION: number, LABEL_GENERATION: "1", **labels})
    return name


def watch_for_minutes(node: Node) -> None:
    for minutes in range(4):
        watch.watch(node, at(1) + timedelta(minutes=minutes))


def test_what_an_ended_reservation_left_is_removed_after_it_was_seen_twice_and_past_its_grace(
    node: Node, engine: FakeEngine, over: Reservation
) -> None:
    name = put(engine, f"berth-{over.pk}-1-main", **{LABEL_KEY: str(over.key)})
    there = []

    for seconds in (0, 30, 59, 60):
        watch.watch(node, NOW + timedelta(seconds=seconds))
        there.append(name in engine.containers)

    assert there == [True, True, True, False]
    assert not Orphan.objects.exists()


def test_one_that_is_first_seen_late_has_its_whole_grace(node: Node, engine: FakeEngine, over: Reservation) -> None:
    watch.watch(node, NOW)
    name = put(engine, f"berth-{over.pk}-1-main")

    watch.watch(node, NOW + 10 * GRACE)

    assert name in engine.containers


def test_a_network_that_nobody_owns_is_removed_too(node: Node, engine: FakeEngine, over: Reservation) -> None:
    engine.networks.add(f"berth-{over.pk}-1-main")

    watch_for_minutes(node)

    assert engine.networks == set()


def test_what_does_not_carry_our_label_is_never_touched(node: Node, engine: FakeEngine, over: Reservation) -> None:
    names = {f"berth-{over.pk}-1-main", "berth-99-1-main", "somebody-elses"}
    for name in names:
        engine.put_stranger(name)
    engine.trouble.calls.clear()

    watch_for_minutes(node)

    assert set(engine.containers) == names
    assert {"remove", "stop"}.isdisjoint(engine.trouble.calls)


def test_an_orphan_that_cannot_be_removed_is_tried_again(node: Node, engine: FakeEngine, over: Reservation) -> None:
    name = put(engine, f"berth-{over.pk}-1-main")
    watch.watch(node, NOW)
    engine.trouble.lost_answers.add("remove")
    watch.watch(node, NOW + GRACE)
    still_known = Orphan.objects.count()
    engine.trouble.lost_answers.clear()

    watch.watch(node, NOW + 2 * GRACE)

    assert still_known == 1
    assert name not in engine.containers
    assert not Orphan.objects.exists()


# ---- what the rows cannot know ----------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["x", "9" * 40, "4000000"])
def test_a_number_that_the_rows_do_not_have_is_stopped_and_kept(number: str, node: Node, engine: FakeEngine) -> None:
    name = put(engine, f"berth-{number}-1-main")

    watch_for_minutes(node)

    assert engine.containers[name].presence == Presence.EXITED
    assert Orphan.objects.get().quarantined_at == at(1)


def test_a_newer_generation_than_the_rows_have_is_kept(machines: Machines, node: Node, engine: FakeEngine) -> None:
    """An older backup was restored after the reservation had been moved."""
    reservation = machines.settle(make_reservation())
    name = put(engine, f"berth-{reservation.pk}-2-main")

    watch_for_minutes(node)

    assert engine.containers[name].presence == Presence.EXITED
    assert engine.containers[f"berth-{reservation.pk}-1-main"].presence == Presence.RUNNING


def test_one_of_the_same_number_but_of_another_life_of_the_database_is_kept(
    node: Node, engine: FakeEngine, over: Reservation
) -> None:
    name = put(engine, f"berth-{over.pk}-1-main", **{LABEL_KEY: str(uuid4())})

    watch_for_minutes(node)

    assert engine.containers[name].presence == Presence.EXITED


def test_the_number_of_one_that_is_kept_is_not_given_to_the_next_booking(node: Node, engine: FakeEngine) -> None:
    latest = make_reservation().pk
    put(engine, f"berth-{latest + 1}-1-main")

    watch.watch(node, NOW)

    assert make_reservation().pk == latest + 2


def test_a_lower_number_takes_nothing_back(node: Node, engine: FakeEngine, machines: Machines) -> None:
    latest = make_reservation().pk
    put(engine, "berth-0-1-main")

    watch.watch(node, NOW)

    assert make_reservation().pk == latest + 1


def test_an_operator_lists_and_removes_what_is_kept(node: Node, engine: FakeEngine) -> None:
    name = put(engine, "berth-4000000-1-main")
    watch.watch(node, NOW)
    listed = StringIO()

    call_command("quarantine", stdout=listed)
    call_command("quarantine", "--remove", name, "--node", "one", stdout=StringIO())
    empty = StringIO()
    call_command("quarantine", stdout=empty)

    assert name in listed.getvalue()
    assert engine.empty
    assert "Nothing is quarantined" in empty.getvalue()


def test_what_is_not_quarantined_cannot_be_removed_by_it(node: Node, engine: FakeEngine) -> None:
    with pytest.raises(CommandError, match="is not quarantined on one"):
        call_command("quarantine", "--remove", "somebody-elses", "--node", "one")


def test_it_stays_when_its_node_does_not_answer(node: Node, engine: FakeEngine) -> None:
    name = put(engine, "berth-4000000-1-main")
    watch.watch(node, NOW)
    engine.trouble.silent = True

    with pytest.raises(CommandError, match="could not be removed"):
        call_command("quarantine", "--remove", name, "--node", "one")

    assert Orphan.objects.count() == 1
