"""Minutes and hours out of readings, compared with a plain computation."""

from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st

from compute import partitions, rollups
from compute.models import (
    ContainerHour,
    ContainerMinute,
    ContainerSample,
    NodeHour,
    NodeMinute,
    Sample,
    SamplingMark,
)
from compute.rollups import CONTAINERS, NODES
from tests.factories import HOUR, NOW, at, make_node
from tests.unit.compute.readings import STEP, make_container_sample, make_observed, make_sample

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)
OVER = HOUR + rollups.SETTLED_AFTER

figure = st.none() | st.floats(0, 1e6)
reading = st.fixed_dictionaries(
    {
        "step": st.integers(0, 239),  # of the hour
        "reachable": st.booleans(),
        "load_1": figure,
        "memory_free_mib": st.none() | st.integers(0, 10**6),
        "volumes_free_mib": st.none() | st.integers(0, 10**6),
        "containers_expected": st.none() | st.integers(0, 50),
    }
)
readings = st.lists(reading, max_size=40, unique_by=lambda values: values["step"])


def mean(values: list[Any], weights: list[float] | None = None) -> float | None:
    pairs = [(v, w) for v, w in zip(values, weights or [1.0] * len(values), strict=True) if v is not None]
    weight = sum(w for _, w in pairs)
    return sum(v * w for v, w in pairs) / weight if weight else None


def most(values: list[Any], pick: Callable[[list[Any]], Any]) -> Any:
    known = [value for value in values if value is not None]
    return pick(known) if known else None


def grouped(rows: list[Any], length: timedelta) -> dict[datetime, list[Any]]:
    found: dict[datetime, list[Any]] = defaultdict(list)
    for row in rows:
        found[NOW + (row.at - NOW) // length * length].append(row)
    return found


def close(value: float | None) -> Any:
    return value if value is None else pytest.approx(value, rel=1e-9, abs=1e-9)


@settings(max_examples=25)
@given(first=readings, second=readings)
def test_minutes_and_hours_are_what_a_plain_computation_gives(first: list[Any], second: list[Any]) -> None:
    Sample.objects.all().delete()
    NodeMinute.objects.all().delete()
    NodeHour.objects.all().delete()
    partitions.ensure(NOW)
    nodes = [make_node(), make_node()]
    for node, values in zip(nodes, (first, second), strict=True):
        Sample.objects.bulk_create(
            Sample(node=node, at=NOW + one["step"] * STEP, **{k: v for k, v in one.items() if k != "step"})
            for one in values
        )

    rollups.roll(NODES, NOW, NOW + HOUR)

    for node in nodes:
        raw = list(Sample.objects.filter(node=node).order_by("at"))
        minutes = list(NodeMinute.objects.filter(node=node).order_by("at"))
        groups = grouped(raw, MINUTE)
        assert [minute.at for minute in minutes] == sorted(groups)
        for minute in minutes:
            of_it = groups[minute.at]
            assert (minute.readings, minute.reachable) == (len(of_it), sum(r.reachable for r in of_it))
            assert minute.load_1 == close(mean([r.load_1 for r in of_it]))
            assert minute.load_1_most == close(most([r.load_1 for r in of_it], max))
            assert minute.memory_free_mib == close(mean([r.memory_free_mib for r in of_it]))
            assert minute.memory_free_least_mib == close(most([r.memory_free_mib for r in of_it], min))
            assert minute.volumes_free_least_mib == most([r.volumes_free_mib for r in of_it], min)
            assert minute.containers_expected == close(mean([r.containers_expected for r in of_it]))
        hours = list(NodeHour.objects.filter(node=node))
        assert len(hours) == bool(raw)
        for hour in hours:
            assert (hour.readings, hour.reachable) == (len(raw), sum(r.reachable for r in raw))
            weights = [float(m.reachable) for m in minutes]
            assert hour.load_1 == close(mean([m.load_1 for m in minutes], weights))
            assert hour.load_1_most == close(most([r.load_1 for r in raw], max))
            assert hour.volumes_free_least_mib == most([r.volumes_free_mib for r in raw], min)
            expected = mean([m.containers_expected for m in minutes], [float(m.readings) for m in minutes])
            assert hour.containers_expected == close(expected)


@settings(max_examples=15)
@given(steps=st.lists(st.tuples(st.integers(0, 239), figure, st.booleans()), max_size=30, unique_by=lambda s: s[0]))
def test_containers_are_rolled_up_alike(steps: list[Any]) -> None:
    for model in (ContainerSample, ContainerMinute, ContainerHour):
        model.objects.all().delete()
    container = make_observed(make_node())
    for step, cores, running in steps:
        make_container_sample(container, NOW + step * STEP, cores_used=cores, running=running)

    rollups.roll(CONTAINERS, NOW, NOW + HOUR)

    groups = grouped(list(ContainerSample.objects.all()), MINUTE)
    found = {minute.at: minute for minute in ContainerMinute.objects.all()}
    assert set(found) == set(groups)
    for moment, of_it in groups.items():
        assert (found[moment].readings, found[moment].running) == (len(of_it), sum(r.running for r in of_it))
        assert found[moment].cores_used == close(mean([r.cores_used for r in of_it]))
        assert found[moment].cores_used_most == close(most([r.cores_used for r in of_it], max))
    assert sum(hour.readings for hour in ContainerHour.objects.all()) == len(steps)


def test_an_hours_mean_counts_each_reading_alike() -> None:
    node = make_node()
    for number in range(4):
        make_sample(node, NOW + number * STEP, load_1=1.0)
    make_sample(node, NOW + MINUTE, load_1=6.0)

    rollups.roll(NODES, NOW, NOW + HOUR)

    assert NodeHour.objects.get().load_1 == 2.0


def test_an_hour_is_rolled_up_when_nothing_of_it_can_come_any_more() -> None:
    make_sample(make_node(), NOW, load_1=1.0)
    rollups.begin(NOW)

    early = rollups.roll_up(NOW + OVER - timedelta(seconds=1))
    minutes_early = NodeMinute.objects.count()
    done = rollups.roll_up(NOW + OVER)
    again = rollups.roll_up(NOW + OVER)

    assert (early, minutes_early) == (0, 0)
    assert (done, again) == (2, 0)  # nodes, containers
    assert (NodeMinute.objects.count(), NodeHour.objects.get().readings) == (1, 1)
    assert rollups.rolled_until(NODES, NOW) == NOW + HOUR


def test_the_same_hour_again_gives_the_same_and_takes_in_what_was_added() -> None:
    node = make_node()
    make_sample(node, NOW, load_1=1.0)
    rollups.roll(NODES, NOW, NOW + HOUR)
    rollups.roll(NODES, NOW, NOW + HOUR)
    once = [(m.readings, m.load_1) for m in NodeMinute.objects.all()]
    make_sample(node, NOW + STEP, load_1=3.0)

    rollups.roll(NODES, NOW, NOW + HOUR)

    assert once == [(1, 1.0)]
    assert [(m.readings, m.load_1) for m in NodeMinute.objects.all()] == [(2, 2.0)]
    assert [(h.readings, h.load_1) for h in NodeHour.objects.all()] == [(2, 2.0)]


def test_a_roll_up_that_dies_in_the_midst_leaves_nothing_and_is_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    make_sample(make_node(), NOW, load_1=1.0)
    rollups.begin(NOW)
    hours = rollups.hours_sql
    monkeypatch.setattr(rollups, "hours_sql", lambda kind: "SELECT 1/0 -- %s %s")

    with pytest.raises(Exception, match="division by zero"):
        rollups.roll_up(NOW + OVER)
    after_death = (NodeMinute.objects.count(), rollups.rolled_until(NODES, NOW))
    monkeypatch.setattr(rollups, "hours_sql", hours)
    rollups.roll_up(NOW + OVER)

    assert after_death == (0, NOW)
    assert (NodeMinute.objects.count(), NodeHour.objects.count()) == (1, 1)


def test_after_a_long_rest_what_was_missed_is_caught_up_in_steps() -> None:
    node = make_node()
    for hours in (0, 7):
        make_sample(node, at(hours), load_1=1.0)
    rollups.begin(NOW)

    first = rollups.roll_up(at(9))
    second = rollups.roll_up(at(9))

    assert (first, second) == (2 * rollups.HOURS_AT_ONCE, 4)
    assert NodeHour.objects.count() == 2


def test_hours_of_which_no_readings_are_kept_are_passed_over() -> None:
    rollups.begin(at(-24 * 30))

    rollups.roll_up(NOW)

    assert SamplingMark.objects.get(pk="nodes").at > at(-49)


def test_what_a_clock_that_was_ahead_passed_over_is_done_again() -> None:
    node = make_node()
    rollups.begin(NOW)
    for _ in range(3):
        rollups.roll_up(at(24))
    for hour in (0, 1):
        make_sample(node, at(hour), load_1=1.0)

    for _ in range(9):
        rollups.roll_up(at(2) + rollups.SETTLED_AFTER)

    assert [row.at for row in NodeHour.objects.order_by("at")] == [NOW, at(1)]
    assert rollups.rolled_until(NODES, NOW) == at(2)


def test_rows_lie_in_the_order_of_subject_and_time() -> None:
    nodes = [make_node() for _ in range(6)]
    for minute in (5, 0, 3):
        for node in reversed(nodes):
            make_sample(node, NOW + minute * MINUTE, load_1=1.0)

    with connection.cursor() as cursor:
        for how in ("sort", "indexscan", "bitmapscan"):  # many rows are grouped by hashing, which keeps no order
            cursor.execute(f"SET LOCAL enable_{how} = off")
        rollups.roll(NODES, NOW, NOW + HOUR)
        cursor.execute("SELECT node_id, at FROM compute_nodeminute ORDER BY tableoid, ctid")
        lying = cursor.fetchall()
    assert lying == sorted(lying)
