"""What a chart is given."""

from datetime import timedelta

import pytest

from compute import rollups, series
from tests.factories import HOUR, NOW, at, make_node
from tests.unit.compute.readings import STEP, make_container_sample, make_observed, make_sample

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


def test_a_short_span_shows_each_reading_and_a_gap_where_there_is_none() -> None:
    node = make_node()
    make_sample(node, NOW, load_1=1.0)
    make_sample(node, NOW + 2 * STEP, load_1=3.0)

    shown = series.of_node(node, NOW, NOW + MINUTE, now=NOW + MINUTE)

    assert shown.step_s == 15
    assert [second - int(NOW.timestamp()) for second in shown.at] == [0, 15, 30, 45]
    assert shown.values["load_1"] == [1.0, None, 3.0, None]
    assert shown.values["reachable"] == [1.0, None, 1.0, None]


def test_a_node_that_did_not_answer_is_not_reachable_and_nothing_else_is_known() -> None:
    node = make_node()
    make_sample(node, NOW, reachable=False, containers_expected=4)

    shown = series.of_node(node, NOW, NOW + STEP, now=NOW)

    assert shown.values["reachable"] == [0.0]
    assert shown.values["containers_expected"] == [4.0]
    assert shown.values["memory_free_mib"] == [None]


@pytest.mark.parametrize(("hours", "step_s"), [(2, 15), (3, 60), (48, 60), (49, 3600), (24 * 366, 3600)])
def test_the_longer_the_span_the_wider_the_step(hours: float, step_s: int) -> None:
    assert series.step_of(at(-hours), NOW, NOW) == step_s


def test_what_is_long_ago_is_shown_as_fine_as_it_is_kept() -> None:
    assert series.step_of(at(-60), at(-59), NOW) == 60
    assert series.step_of(at(-24 * 20), at(-24 * 20 + 1), NOW) == 3600


def test_a_day_ends_with_what_is_not_rolled_up_yet() -> None:
    node = make_node()
    for number in range(8):
        make_sample(node, NOW - 2 * HOUR + number * STEP, load_1=1.0 + number)  # two minutes, rolled up
    make_sample(node, NOW + 2 * MINUTE, load_1=9.0)
    rollups.begin(at(-2))
    rollups.roll_up(NOW + 3 * MINUTE)

    shown = series.of_node(node, at(-3), NOW + 3 * MINUTE, now=NOW + 3 * MINUTE)

    assert shown.step_s == 60
    assert shown.values["load_1"][60:62] == [2.5, 6.5]
    assert shown.values["load_1"][-1] == 9.0
    assert sum(value is not None for value in shown.values["load_1"]) == 3


def test_two_weeks_end_now() -> None:
    node = make_node()
    make_sample(node, at(-1), volumes_free_mib=700, volumes_size_mib=1000)
    make_sample(node, NOW - STEP, volumes_free_mib=500, volumes_size_mib=1000)
    rollups.begin(at(-1))
    rollups.roll_up(NOW + 3 * MINUTE)
    make_sample(node, NOW + 4 * MINUTE, volumes_free_mib=400, volumes_size_mib=1000)

    shown = series.of_node(node, at(-14 * 24), NOW + 5 * MINUTE, now=NOW + 5 * MINUTE)

    assert shown.step_s == 3600
    assert shown.values["volumes_free_mib"][-2:] == [500.0, 400.0]
    assert shown.values["volumes_free_mib"][:-2] == [None] * (14 * 24 - 1)


def test_containers_of_a_reservation_that_are_seen_at_once_are_added() -> None:
    node = make_node()
    old = make_observed(node, "berth-7-1-main", reservation_id=7)
    new = make_observed(node, "berth-7-2-main", reservation_id=7)
    other = make_observed(node, "berth-8-1-main", reservation_id=8)
    make_container_sample(old, NOW, cores_used=0.5, memory_mib=100)
    make_container_sample(old, NOW + STEP, running=False)
    make_container_sample(new, NOW, cores_used=0.25, memory_mib=50)
    make_container_sample(new, NOW + STEP, cores_used=0.75, memory_mib=60)
    make_container_sample(other, NOW, cores_used=4.0)

    shown = series.of_reservation(7, NOW, NOW + 2 * STEP, now=NOW)

    assert shown.values["cores_used"] == [0.75, 0.75]
    assert shown.values["memory_mib"] == [150.0, 60.0]
    assert shown.values["running"] == [1.0, 1.0]


def moved(first: int, second: int) -> None:
    """It ran so many readings here, then so many there."""
    node = make_node()
    here, there = (make_observed(node, f"berth-7-{number}-main", reservation_id=7) for number in (1, 2))
    for number in range(first + second):
        container = here if number < first else there
        make_container_sample(container, NOW + number * STEP, cores_used=1.0, memory_mib=500)
    rollups.begin(NOW)


@pytest.mark.parametrize(("first", "second"), [(120, 120), (60, 180), (20, 20), (240, 0)])
@pytest.mark.parametrize("rolled_up", [True, False])
def test_containers_one_after_the_other_are_not_added(first: int, second: int, rolled_up: bool) -> None:
    moved(first, second)
    now = NOW + (HOUR + 3 * MINUTE if rolled_up else (first + second) * STEP)
    rollups.roll_up(now)

    shown = series.of_reservation(7, at(-5 * 24), now, now=now)

    assert shown.step_s == 3600
    assert [value for value in shown.values["cores_used"] if value] == [pytest.approx(1.0)]
    assert [value for value in shown.values["memory_mib"] if value] == [pytest.approx(500.0)]


def test_one_that_was_beside_another_for_a_part_of_an_hour_counts_for_that_part() -> None:
    moved(240, 0)
    beside = make_observed(make_node(), "berth-7-3-main", reservation_id=7)
    for number in range(60):
        make_container_sample(beside, NOW + number * STEP, cores_used=2.0)
    now = NOW + HOUR + 3 * MINUTE
    rollups.roll_up(now)

    shown = series.of_reservation(7, at(-5 * 24), now, now=now)

    assert [value for value in shown.values["cores_used"] if value] == [pytest.approx(1.5)]


def test_a_reservation_that_nobody_saw_is_a_gap() -> None:
    shown = series.of_reservation(7, NOW, NOW + STEP, now=NOW)

    assert shown.values["cores_used"] == [None]


def test_the_newest_readings_are_not_older_than_a_minute() -> None:
    one, two = make_node(), make_node()
    make_sample(one, NOW - STEP, load_1=1.0)
    make_sample(one, NOW, load_1=2.0)
    make_sample(two, NOW - MINUTE, load_1=3.0)
    seen, missed = make_observed(one, "a"), make_observed(one, "b")
    make_container_sample(seen, NOW, memory_mib=5)
    make_container_sample(missed, NOW - MINUTE, memory_mib=6)

    assert {node: sample.load_1 for node, sample in series.latest_of_nodes(NOW).items()} == {one.pk: 2.0}
    latest = series.latest_of_containers([seen.pk, missed.pk], NOW)
    assert {container: sample.memory_mib for container, sample in latest.items()} == {seen.pk: 5}


def test_an_empty_span_is_an_empty_series() -> None:
    assert series.of_node(make_node(), NOW, NOW, now=NOW).at == []
