"""The choice of a node, against the plainest way of computing it."""

from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute import scheduler
from compute.scheduler import Candidate, Request, Short, Step
from tests.factories import NOW, at

MINUTE = timedelta(minutes=1)


def candidate(name: str, ram: int = 1000, cores: str = "4", held: int = 0, held_cores: str = "0") -> Candidate:
    return Candidate(hash(name), name, ram, Decimal(cores), held, Decimal(held_cores))


def request(ram: int = 100, cores: str = "1") -> Request:
    return Request(ram, Decimal(cores), NOW, at(1))


quarters = st.integers(1, 32).map(lambda n: Decimal(n) / 4)
candidates = st.builds(
    Candidate,
    node_id=st.integers(1, 1000),
    name=st.text("abcd", min_size=1, max_size=4),
    ram_mib=st.integers(1, 40),
    cores=quarters,
    peak_ram_mib=st.integers(0, 50),
    peak_cores=st.integers(0, 40).map(lambda n: Decimal(n) / 4),
)
requests = st.builds(Request, ram_mib=st.integers(1, 30), cores=quarters, start=st.just(NOW), end=st.just(at(1)))


@given(requests, st.lists(candidates, max_size=8))
@settings(max_examples=200)
def test_the_chosen_node_fits_and_has_the_smallest_ratio_of_those_that_fit(
    wanted: Request, nodes: list[Candidate]
) -> None:
    fitting = [
        node
        for node in nodes
        if wanted.ram_mib <= node.ram_mib - node.peak_ram_mib and wanted.cores <= node.cores - node.peak_cores
    ]

    choice = scheduler.choose(wanted, nodes)

    if isinstance(choice, Short):
        assert not fitting
    else:
        assert choice in fitting
        ratio = Fraction(choice.peak_ram_mib, choice.ram_mib)
        assert all(ratio <= Fraction(node.peak_ram_mib, node.ram_mib) for node in fitting)


@given(requests, st.lists(candidates, min_size=1, max_size=6))
@settings(max_examples=50)
def test_the_order_in_which_nodes_are_given_does_not_matter(wanted: Request, nodes: list[Candidate]) -> None:
    def name(choice: Candidate | Short) -> object:
        return choice if isinstance(choice, Short) else scheduler.rank(choice)

    assert name(scheduler.choose(wanted, nodes)) == name(scheduler.choose(wanted, nodes[::-1]))


def test_an_idle_node_wins_and_a_big_one_takes_more_than_a_small_one() -> None:
    busy, idle = candidate("a", held=100), candidate("z")
    small, big = candidate("a", ram=1000, held=200), candidate("z", ram=4000, held=700)

    assert scheduler.choose(request(), [busy, idle]) == idle
    assert scheduler.choose(request(), [small, big]) == big


def test_equal_ratios_are_equal_and_go_to_the_smaller_core_ratio_then_to_the_name() -> None:
    third = [candidate("b", ram=3000, held=1000), candidate("a", ram=300, held=100, held_cores="0.25")]
    twins = [candidate("b"), candidate("a")]

    assert scheduler.choose(request(), third) == third[0]
    assert scheduler.choose(request(), twins) == twins[1]


def test_a_request_that_fills_a_node_to_the_last_mib_fits() -> None:
    assert scheduler.fits(request(100, "1"), candidate("a", held=900, held_cores="3"))
    assert not scheduler.fits(request(101, "1"), candidate("a", held=900, held_cores="3"))
    assert not scheduler.fits(request(100, "1.01"), candidate("a", held=900, held_cores="3"))


@pytest.mark.parametrize(
    ("nodes", "short"),
    [
        ([], Short.NO_HEALTHY_NODE),
        ([candidate("a", ram=99)], Short.TOO_BIG),
        ([candidate("a", cores="0.5")], Short.TOO_BIG),
        ([candidate("a", held=950)], Short.RAM),
        ([candidate("a", held_cores="4")], Short.CORES),
        ([candidate("a", held=950, held_cores="4")], Short.RAM_AND_CORES),
        ([candidate("a", held=950), candidate("b", held_cores="4")], Short.RAM_AND_CORES),
        ([candidate("a", ram=10), candidate("b", held=950)], Short.RAM),
    ],
)
def test_when_nothing_fits_it_says_what_was_short(nodes: list[Candidate], short: Short) -> None:
    assert scheduler.choose(request(), nodes) == short
    assert scheduler.SENTENCES[short].startswith("No resources available: ")


def test_every_shortage_has_a_sentence() -> None:
    assert set(scheduler.SENTENCES) == set(Short)


# ---- step functions ---------------------------------------------------------------------------------------


@st.composite
def step_lists(draw: st.DrawFn) -> list[Step]:
    """A step function on whole minutes that is back at zero at its end, as capacity keeps them."""
    minutes = sorted(draw(st.sets(st.integers(-10, 30), max_size=8)))
    steps = [
        Step(NOW + minute * MINUTE, draw(st.integers(0, 10)), Decimal(draw(st.integers(0, 10)))) for minute in minutes
    ]
    return [*steps[:-1], Step(steps[-1].at, 0, Decimal(0))] if steps else []


def held_at(steps: list[Step], instant: datetime) -> tuple[int, Decimal]:
    past = [step for step in steps if step.at <= instant]
    return (past[-1].ram_mib, past[-1].cores) if past else (0, Decimal(0))


@given(step_lists(), st.integers(-15, 35), st.integers(1, 20))
@settings(max_examples=200)
def test_the_peak_is_the_most_that_is_held_at_any_minute(steps: list[Step], first: int, length: int) -> None:
    minutes = [held_at(steps, NOW + minute * MINUTE) for minute in range(first, first + length)]

    peak = scheduler.peak(steps, NOW + first * MINUTE, NOW + (first + length) * MINUTE)

    assert peak == (max(ram for ram, _ in minutes), max(cores for _, cores in minutes))


@given(step_lists(), st.integers(0, 10), st.integers(0, 10), st.integers(-5, 20), st.integers(1, 10))
@settings(max_examples=300)
def test_the_earliest_fit_is_the_first_minute_from_which_enough_stays_free(
    steps: list[Step], ram: int, cores: int, first: int, length: int
) -> None:
    def fits_from(minute: int) -> bool:
        held = [held_at(steps, NOW + m * MINUTE) for m in range(minute, minute + length)]
        return all(r <= ram and c <= cores for r, c in held)

    by_hand = next(minute for minute in range(first, 60) if fits_from(minute))

    found = scheduler.earliest_fit(steps, ram, Decimal(cores), NOW + first * MINUTE, length * MINUTE)

    assert found == NOW + by_hand * MINUTE


def test_where_it_stays_full_for_ever_there_is_no_earliest_fit() -> None:
    full = [Step(NOW, 10, Decimal(1))]

    assert scheduler.earliest_fit(full, 9, Decimal(9), at(1), MINUTE) is None
