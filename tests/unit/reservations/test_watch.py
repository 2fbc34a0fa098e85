"""The sweep finds what is due; the rounds find what drifted and what nobody owns."""

from datetime import timedelta

import pytest

from compute.models import Allocation, Forward, Node
from compute.spec import LABEL_GENERATION, LABEL_RESERVATION
from reservations import watch
from reservations.models import Container, IdempotencyKey, Orphan, Reservation
from tests.factories import NOW, at, make_node, make_reservation
from tests.fakes import FakeEngine
from tests.unit.conftest import Machines

pytestmark = pytest.mark.django_db
GRACE = timedelta(seconds=60)


def put_orphan(engine: FakeEngine) -> None:
    engine.put_stranger("berth-99-1-main", {LABEL_RESERVATION: "99", LABEL_GENERATION: "1"})


# ---- the sweep --------------------------------------------------------------------------------------------


def test_ends_are_hinted_before_starts_and_older_ones_first(node: Node, sent_hints: list[int]) -> None:
    late_start = make_reservation(start=at(0.25))
    early_start = make_reservation()
    over = make_reservation(start=at(0.5), length=timedelta(minutes=15))
    ending = make_reservation()
    Reservation.objects.filter(pk=ending.pk).update(state="ending")

    number = watch.sweep(at(0.8))

    assert number == 4
    assert set(sent_hints[:2]) == {over.pk, ending.pk}
    assert sent_hints[2:] == [early_start.pk, late_start.pk]


def test_what_is_not_due_claimed_or_over_gets_no_hint(node: Node, sent_hints: list[int]) -> None:
    make_reservation(start=at(5))
    claimed, over = make_reservation(), make_reservation()
    Reservation.objects.filter(pk=claimed.pk).update(claim_expires_at=at(2))
    Reservation.objects.filter(pk=over.pk).update(state="ended")

    assert watch.sweep(at(0.5)) == 0
    assert sent_hints == []


def test_a_hint_that_was_lost_is_sent_again_and_not_at_every_sweep(node: Node, sent_hints: list[int]) -> None:
    reservation = make_reservation()
    begin = at(0.5)

    for seconds in (0, 1, 5, 10):
        watch.sweep(begin + timedelta(seconds=seconds))

    assert sent_hints == [reservation.pk, reservation.pk]


# ---- the rounds -------------------------------------------------------------------------------------------


def test_a_running_one_whose_container_is_not_there_is_looked_at(
    machines: Machines, node: Node, engine: FakeEngine, sent_hints: list[int]
) -> None:
    reservation = make_reservation()
    machines.reconcile(reservation)
    watch.watch(node, NOW)
    quiet = list(sent_hints)
    engine.end_by_itself(f"berth-{reservation.pk}-1-main")

    watch.watch(node, NOW)

    assert quiet == []
    assert sent_hints == [reservation.pk]
    assert Reservation.objects.get().look_at == NOW


def test_what_is_ours_is_not_an_orphan_in_any_live_state(machines: Machines, node: Node, engine: FakeEngine) -> None:
    reservation = make_reservation()
    machines.reconcile(reservation)
    for state in ("starting", "running", "stopped", "ending"):
        Reservation.objects.update(state=state)
        for minutes in range(3):
            watch.watch(node, at(minutes))

    assert list(engine.containers) == [f"berth-{reservation.pk}-1-main"]


def test_when_the_node_is_silent_nothing_is_concluded(
    machines: Machines, node: Node, engine: FakeEngine, sent_hints: list[int]
) -> None:
    reservation = make_reservation()
    machines.reconcile(reservation)
    put_orphan(engine)
    watch.watch(node, NOW)
    engine.trouble.silent = True

    watch.watch(node, at(1))

    assert len(engine.containers) == 2
    assert sent_hints == []
    assert Allocation.objects.held().count() == 1
    assert Orphan.objects.count() == 1


def test_a_generation_that_was_left_behind_goes_when_its_node_answers_again(machines: Machines) -> None:
    one = make_node("one", ram_mib=9000, cores=8)
    make_node("two", cores=8)
    reservation = make_reservation()
    machines.engine(one).trouble.lost_answers.add("start")
    machines.reconcile(reservation)
    machines.engine(one).trouble.silent = True
    machines.settle(reservation)
    machines.engine(one).trouble.silent = False
    before = list(machines.engine(one).containers)

    watch.watch(one, machines.clock.now)

    assert before == [f"berth-{reservation.pk}-1-main"]
    assert machines.engine(one).empty
    assert Container.objects.get(generation=1).gone_at == machines.clock.now
    assert Reservation.objects.get().state == "running"
    assert Allocation.objects.held().count() == 1


def test_what_is_kept_for_a_time_only_is_dropped_after_it(node: Node) -> None:
    reservation = make_reservation()
    assert reservation.created_by
    key = IdempotencyKey.objects.create(user=reservation.created_by, key="k", fingerprint="f", reservation=reservation)
    IdempotencyKey.objects.filter(pk=key.pk).update(created_at=NOW - timedelta(days=2))

    watch.prune(NOW)

    assert not IdempotencyKey.objects.exists()
    assert Forward.objects.count() == 1
