"""Who holds what of which node, and when."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction
from hypothesis import example, given, settings
from hypothesis import strategies as st

from compute import capacity, load_steps, scheduler, slots
from compute.capacity import NoCapacity, PortRequest
from compute.models import Allocation, Forward, Node
from compute.scheduler import Request, Short, Step
from tests.factories import HOUR, NOW, at, make_gateway, make_node

pytestmark = pytest.mark.django_db
REST = timedelta(minutes=10)
WEB = PortRequest("web", "http", 80)


def wanted(ram: int = 1000, cores: str = "1", start: datetime = NOW, end: datetime | None = None) -> Request:
    return Request(ram, Decimal(cores), start, end or start + HOUR)


def place(request: Request, *ports: PortRequest, exclude: tuple[int, ...] = ()) -> tuple[Allocation, list[Forward]]:
    with transaction.atomic():
        return capacity.place(request, ports, rest=REST, exclude=exclude)


def sum_of_held(node: Node, instant: datetime) -> tuple[int, Decimal]:
    held = [a for a in node.allocations.held() if a.during.lower <= instant < a.during.upper]
    return sum(a.ram_mib for a in held), sum((a.cores for a in held), Decimal(0))


def steps_of(node: Node) -> list[Step]:
    return [Step(*row) for row in node.steps.order_by("at").values_list("at", "ram_mib", "cores")]


def planned(steps: list[Step], instant: datetime) -> tuple[int, Decimal]:
    return scheduler.peak(steps, instant, instant + timedelta(microseconds=1))


# ---- choosing ---------------------------------------------------------------------------------------------


def test_the_node_with_the_smallest_ratio_is_taken_in_turn() -> None:
    small, big = make_node(ram_mib=2000, cores=8), make_node(ram_mib=4000, cores=8)

    taken = [place(wanted(500))[0].node for _ in range(6)]

    assert taken.count(small) == 2
    assert taken.count(big) == 4


def test_what_is_booked_one_after_the_other_fits_where_both_at_once_would_not() -> None:
    make_node(ram_mib=1000)
    place(wanted(1000, start=NOW))
    place(wanted(1000, start=at(1)))

    with pytest.raises(NoCapacity):
        place(wanted(1000, start=at(0.5)))


def test_a_short_peak_in_the_middle_of_a_long_window_counts() -> None:
    make_node(ram_mib=1000)
    place(wanted(600, start=at(5), end=at(6)))

    with pytest.raises(NoCapacity) as refused:
        place(wanted(600, start=NOW, end=at(10)))

    assert refused.value.short == Short.RAM
    assert refused.value.with_next_slot().next_slot == at(6)


@pytest.mark.parametrize(
    "out_of_service",
    [{"state": Node.State.CORDONED}, {"state": Node.State.DRAINING}, {"health": Node.Health.UNKNOWN}],
)
def test_a_node_out_of_service_gets_nothing(out_of_service: dict[str, str]) -> None:
    make_node(**out_of_service)

    with pytest.raises(NoCapacity) as refused:
        place(wanted())

    assert refused.value.short == Short.NO_HEALTHY_NODE
    assert refused.value.with_next_slot().next_slot is None


def test_an_excluded_node_gets_nothing() -> None:
    node, other = make_node(ram_mib=9000), make_node(ram_mib=1000)

    assert place(wanted(), exclude=(node.pk,))[0].node == other


def test_a_request_too_big_for_any_node_has_no_next_slot() -> None:
    make_node(ram_mib=1000)

    with pytest.raises(NoCapacity) as refused:
        place(wanted(1001))

    assert (refused.value.short, refused.value.with_next_slot().next_slot) == (Short.TOO_BIG, None)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5), st.integers(1, 9)), max_size=12), st.integers(1, 9))
@settings(max_examples=20)
def test_reading_nodes_in_batches_chooses_as_the_pure_scheduler_does(
    booked: list[tuple[int, int, int]], ram: int
) -> None:
    with undone():
        capacity_batch, capacity.BATCH = capacity.BATCH, 1
        try:
            nodes = [make_node(ram_mib=10 + 3 * n, cores=100) for n in range(4)]
            for begin, hours, size in booked:
                with unless_full():
                    place(wanted(size, "1", at(begin), at(begin + hours)))
            request = wanted(ram, "1", at(2), at(6))
            candidates = [
                scheduler.Candidate(n.pk, n.name, n.ram_mib, n.cores, *peak_by_hand(n, request.start, request.end))
                for n in nodes
            ]

            choice, by_hand = capacity.choose(request), scheduler.choose(request, candidates)
        finally:
            capacity.BATCH = capacity_batch
        assert getattr(choice, "node_id", choice) == getattr(by_hand, "node_id", by_hand)


def peak_by_hand(node: Node, start: datetime, end: datetime) -> tuple[int, Decimal]:
    instants = [start + timedelta(minutes=30 * n) for n in range(int((end - start) / timedelta(minutes=30)))]
    held = [sum_of_held(node, instant) for instant in instants]
    return max(ram for ram, _ in held), max(cores for _, cores in held)


@contextmanager
def undone() -> Iterator[None]:
    """What an example of Hypothesis wrote is rolled back."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


@contextmanager
def unless_full() -> Iterator[None]:
    with suppress(NoCapacity):
        yield


# ---- the step function ------------------------------------------------------------------------------------

deeds = st.lists(
    st.one_of(
        st.tuples(st.just("place"), st.integers(0, 3), st.integers(1, 2)),
        st.tuples(st.just("release"), st.integers(0, 3), st.just(0)),
        st.tuples(st.just("hold"), st.integers(0, 3), st.integers(1, 3)),
        st.tuples(st.just("wait"), st.integers(1, 4), st.just(0)),
    ),
    min_size=3,
    max_size=9,
)


@given(deeds)
@example([("place", 0, 1), ("place", 1, 1), ("wait", 4, 0), ("wait", 1, 0), ("release", 0, 0)])
@settings(max_examples=60)
def test_the_steps_are_always_the_sum_of_what_is_held_and_never_more_than_is_lent(
    deeds: list[tuple[str, int, int]],
) -> None:
    with undone():
        node = make_node(ram_mib=3, cores=100)
        now, made, stretched = NOW, [], False
        for deed, first, second in deeds:
            if deed == "place":
                start = max(now, at(first))
                with unless_full():
                    made.append(place(wanted(second, "1", start, start + second * HOUR))[0])
            elif deed == "wait":
                now += first * HOUR / 4
            elif made and deed == "release":
                capacity.release(made[first % len(made)], now)
            elif made and deed == "hold":
                stretched = True
                capacity.hold_until(made[first % len(made)], now + second * HOUR)

            held, steps = list(node.allocations.held()), steps_of(node)
            for instant in [now + n * HOUR / 4 for n in range(40)]:
                there = sum(a.ram_mib for a in held if a.during.lower <= instant < a.during.upper)
                assert planned(steps, instant)[0] == there
                assert stretched or there <= node.ram_mib
            assert load_steps.wrong_steps(now) == []


def test_a_plan_that_follows_another_of_the_same_size_outlives_its_release() -> None:
    node = make_node(ram_mib=1000)
    first, _ = place(wanted(1000, start=NOW))
    place(wanted(1000, start=at(1)))

    capacity.release(first, at(1.25))

    assert planned(steps_of(node), at(1.5)) == (1000, Decimal(1))
    with pytest.raises(NoCapacity):
        place(wanted(1000, start=at(1.5)))


def test_a_wrong_step_function_is_told_and_can_be_rebuilt() -> None:
    node = make_node()
    place(wanted())
    node.steps.all().delete()
    assert len(load_steps.wrong_steps(NOW)) == 1

    load_steps.rebuild(node)

    assert load_steps.wrong_steps(NOW) == []


# ---- giving back, holding on, taking ----------------------------------------------------------------------


def test_releasing_early_frees_the_rest_of_the_window_and_twice_changes_nothing() -> None:
    node = make_node(ram_mib=1000)
    allocation, _ = place(wanted(1000, end=at(4)))

    capacity.release(allocation, at(1))
    capacity.release(allocation, at(2))

    allocation.refresh_from_db()
    assert (allocation.released_at, allocation.during.upper) == (at(1), at(1))
    assert planned(steps_of(node), at(1)) == (0, Decimal(0))
    place(wanted(1000, start=at(1), end=at(4)))


def test_a_plan_that_is_released_before_it_began_was_never_there() -> None:
    node = make_node(ram_mib=1000)
    allocation, _ = place(wanted(1000, start=at(5)))

    capacity.release(allocation, NOW)

    assert not node.steps.exists()


def test_what_is_late_in_leaving_stays_held_until_it_is_gone() -> None:
    make_node(ram_mib=1000)
    late, _ = place(wanted(1000))

    capacity.hold_until(late, at(1.5))

    with pytest.raises(NoCapacity) as refused:
        place(wanted(1000, start=at(1)))
    assert refused.value.with_next_slot().next_slot == at(1.5)


def test_a_planned_place_waits_until_what_was_there_is_gone() -> None:
    make_node(ram_mib=1000)
    first, _ = place(wanted(1000))
    second, _ = place(wanted(1000, start=at(1)))
    assert capacity.take(first, NOW) == ""

    wait = capacity.take(second, at(1))
    capacity.release(first, at(1.1))
    after = capacity.take(second, at(1.1))

    assert wait.startswith("waiting for the previous container")
    assert after == ""


def test_cores_are_waited_for_as_ram_is() -> None:
    make_node(cores=2)
    first, _ = place(wanted(1, "2"))
    second, _ = place(wanted(1, "2", start=at(1)))
    capacity.take(first, NOW)

    assert capacity.take(second, at(1)) != ""


# ---- ports ------------------------------------------------------------------------------------------------


def test_each_port_is_lent_to_one_at_a_time_until_none_is_left() -> None:
    make_node(gateway=make_gateway(port_first=20_000, port_last=20_002))

    lent = [place(wanted(10, "0.1"), WEB)[1][0].public_port for _ in range(3)]
    with pytest.raises(NoCapacity, match="every public port of the gateway gate is in use"):
        place(wanted(10, "0.1"), WEB)

    assert sorted(lent) == [20_000, 20_001, 20_002]


def test_a_freed_port_rests_before_it_is_lent_again() -> None:
    make_node(gateway=make_gateway(port_first=20_000, port_last=20_000))
    _, forwards = place(wanted(10, "0.1", end=at(5)), WEB)
    capacity.release_ports(forwards, at(1), REST)

    with pytest.raises(NoCapacity):
        place(wanted(10, "0.1", start=at(1) + REST - timedelta(seconds=1)), WEB)
    _, again = place(wanted(10, "0.1", start=at(1) + REST), WEB)

    assert again[0].public_port == 20_000


@pytest.mark.parametrize(
    ("same", "name"), [("public_port", "forward_public_port_once"), ("node_port", "forward_node_port_once")]
)
def test_the_database_itself_refuses_a_port_that_is_held(same: str, name: str) -> None:
    node = make_node()
    _, (forward,) = place(wanted(), WEB)
    copy = {"public_port": 20_001, "node_port": 20_001, same: getattr(forward, same)}

    with pytest.raises(IntegrityError, match=name), transaction.atomic():
        Forward.objects.create(
            gateway=node.gateway,
            node=node,
            container_port=80,
            name="web",
            during=capacity.window(at(0.5), at(3)),
            **copy,
        )


def test_other_ports_are_others_and_the_old_ones_rest() -> None:
    make_node()
    _, forwards = place(wanted(), WEB, PortRequest("ssh", "ssh", 22))
    before = {forward.public_port for forward in forwards}

    with transaction.atomic():
        fresh = capacity.change_ports(forwards, at(0.5), HOUR / 12)

    after = {(row.public_port, row.node_port, row.name, row.applied) for row in fresh}
    assert {name for _, _, name, _ in after} == {"web", "ssh"}
    assert all(public == node and public not in before and not applied for public, node, _, applied in after)
    old = Forward.objects.filter(public_port__in=before)
    assert {(row.released_at, row.during.upper) for row in old} == {(at(0.5), at(0.5) + HOUR / 12)}


# ---- the next slot ----------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 3600), st.integers(1, 3600), st.integers(1, 4)), max_size=8))
@settings(max_examples=40)
def test_the_next_slot_is_a_full_minute_at_which_the_request_really_fits(booked: list[tuple[int, int, int]]) -> None:
    with undone():
        make_node(ram_mib=4, cores=100)
        for begin, seconds, ram in booked:
            start = NOW + timedelta(seconds=begin)
            with unless_full():
                place(wanted(ram, "1", start, start + timedelta(seconds=seconds)))
        length = timedelta(minutes=10)

        slot = slots.next_slot(wanted(3, "1", NOW, NOW + length))

        assert slot is not None
        assert (slot.second, slot.microsecond) == (0, 0)
        place(wanted(3, "1", slot, slot + length))


def test_a_gap_that_is_long_enough_only_between_full_minutes_is_no_slot() -> None:
    make_node(ram_mib=4)
    place(wanted(4, "1", NOW, NOW + timedelta(seconds=30)))
    place(wanted(4, "1", NOW + timedelta(seconds=640), NOW + timedelta(seconds=700)))

    slot = slots.next_slot(wanted(4, "1", NOW, NOW + timedelta(minutes=10)))

    assert slot == NOW + timedelta(minutes=12)


# ---- shortening -------------------------------------------------------------------------------------------


def test_what_is_given_up_is_free_and_the_rest_is_held() -> None:
    node = make_node(ram_mib=1000)
    allocation, (forward,) = place(wanted(600, end=at(4)), WEB)
    place(wanted(400, start=at(1), end=at(3)))

    with transaction.atomic():
        capacity.shorten(allocation, at(2))
        capacity.shorten_ports([forward], at(2) + REST)

    assert [planned(steps_of(node), at(h))[0] for h in (0, 1, 1.9, 2, 2.9, 3)] == [600, 1000, 1000, 400, 400, 0]
    assert load_steps.wrong_steps(NOW) == []
    forward.refresh_from_db()
    assert forward.during.upper == at(2) + REST


@pytest.mark.parametrize("until", [at(4), at(5), NOW, at(-1)], ids=["its end", "later", "its begin", "before"])
def test_shortening_to_what_is_no_earlier_end_changes_nothing(until: datetime) -> None:
    make_node()
    allocation, (forward,) = place(wanted(600, end=at(4)), WEB)

    with transaction.atomic():
        capacity.shorten(allocation, until)
        capacity.shorten_ports([forward], until if until > at(4) + REST else min(until, NOW))

    allocation.refresh_from_db()
    forward.refresh_from_db()
    assert (allocation.during.upper, forward.during.upper) == (at(4), at(4) + REST)
    assert load_steps.wrong_steps(NOW) == []


def test_what_was_given_back_is_not_shortened_a_second_time() -> None:
    make_node()
    allocation, (forward,) = place(wanted(600, end=at(4)), WEB)
    with transaction.atomic():
        capacity.release(allocation, at(1))
        capacity.release_ports([forward], at(1), REST)
        capacity.shorten(allocation, at(0.5))
        capacity.shorten_ports([forward], at(0.5))

    allocation.refresh_from_db()
    forward.refresh_from_db()
    assert (allocation.during.upper, forward.during.upper) == (at(1), at(1) + REST)
    assert load_steps.wrong_steps(at(1)) == []
