"""Partitions by time: there before they are needed, dropped when all in them is too old."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction
from pytest_django.plugin import DjangoDbBlocker

from compute import partitions, sampling
from compute.models import NodeHour, ObservedContainer, Sample
from compute.partitions import Partitioned
from tests.factories import NOW, make_node
from tests.unit.compute.readings import make_observed, make_sample

DAILY = Partitioned("t", timedelta(days=2))
MONTHLY = Partitioned("t", timedelta(days=366), monthly=True)


def names() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE relkind = 'r'")
        return {name for (name,) in cursor.fetchall()}


@pytest.mark.parametrize(
    ("kind", "moment", "first", "last", "name"),
    [
        (DAILY, datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC), (2026, 12, 31), (2027, 1, 1), "t_p20261231"),
        (DAILY, datetime(2028, 2, 29, tzinfo=UTC), (2028, 2, 29), (2028, 3, 1), "t_p20280229"),
        (DAILY, datetime(2027, 2, 28, 12, tzinfo=UTC), (2027, 2, 28), (2027, 3, 1), "t_p20270228"),
        (MONTHLY, datetime(2026, 12, 31, 23, tzinfo=UTC), (2026, 12, 1), (2027, 1, 1), "t_p20261201"),
        (MONTHLY, datetime(2027, 1, 31, tzinfo=UTC), (2027, 1, 1), (2027, 2, 1), "t_p20270101"),
        (MONTHLY, datetime(2028, 2, 29, tzinfo=UTC), (2028, 2, 1), (2028, 3, 1), "t_p20280201"),
        # Midnight in Berlin is the day before in UTC.
        (DAILY, datetime(2027, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=1))), (2026, 12, 31), (2027, 1, 1), None),
    ],
)
def test_a_partition_is_a_day_or_a_month_of_utc(
    kind: Partitioned, moment: datetime, first: tuple[int, int, int], last: tuple[int, int, int], name: str | None
) -> None:
    assert kind.bounds(moment) == (datetime(*first, tzinfo=UTC), datetime(*last, tzinfo=UTC))
    assert name in {None, kind.partition(moment)}


@pytest.mark.django_db
def test_the_present_and_the_next_partition_are_there_and_making_them_again_is_nothing() -> None:
    partitions.ensure(datetime(2026, 12, 31, 23, 59, tzinfo=UTC))
    before = names()
    partitions.ensure(datetime(2026, 12, 31, 23, 59, tzinfo=UTC))

    assert {"compute_sample_p20261231", "compute_sample_p20270101"} <= before
    assert {"compute_nodehour_p20261201", "compute_nodehour_p20270101"} <= before
    assert names() == before


@pytest.mark.django_db
def test_rows_at_the_edges_of_a_day_find_their_place_and_keep_their_rules() -> None:
    node = make_node()
    midnight = datetime(2027, 1, 1, tzinfo=UTC)

    make_sample(node, midnight - timedelta(microseconds=1))
    make_sample(node, midnight)

    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text, at FROM compute_sample ORDER BY at")
        places = [place for place, _ in cursor.fetchall()]
    assert places == ["compute_sample_p20261231", "compute_sample_p20270101"]
    with pytest.raises(IntegrityError), transaction.atomic():
        make_sample(node, midnight)
    with pytest.raises(IntegrityError), transaction.atomic():
        make_sample(node, midnight + timedelta(seconds=15), memory_free_mib=-1)


@pytest.mark.django_db
def test_what_is_too_old_is_dropped_whole_and_what_is_not_stays() -> None:
    node = make_node()
    for days in (0, 2, 3):
        make_sample(node, NOW - timedelta(days=days))
    for days in (0, 366, 400):
        partitions.ensure(NOW - timedelta(days=days))
        NodeHour.objects.create(node=node, at=NOW - timedelta(days=days), readings=1, reachable=1)

    dropped = partitions.drop_old(NOW)

    assert "compute_sample_p20260501" in dropped
    assert "compute_sample_p20260502" not in dropped  # half of it is not too old
    assert set(Sample.objects.values_list("at", flat=True)) == {NOW, NOW - timedelta(days=2)}
    assert set(NodeHour.objects.values_list("at", flat=True)) == {NOW, NOW - timedelta(days=366)}
    assert partitions.drop_old(NOW) == []


@pytest.mark.django_db
def test_pruning_keeps_a_place_for_the_next_readings_and_forgets_containers_that_are_long_gone() -> None:
    node = make_node()
    make_observed(node, "old", state="gone", changed_at=NOW - timedelta(days=367))
    make_observed(node, "late", state="gone", changed_at=NOW - timedelta(days=365))
    make_observed(node, "runs", state="running", changed_at=NOW - timedelta(days=400))

    sampling.prune(NOW)

    assert {row.name for row in ObservedContainer.objects.all()} == {"late", "runs"}
    assert "compute_sample_p20260505" in names()


@pytest.mark.django_db
def test_what_a_rolled_back_transaction_made_is_not_taken_for_there() -> None:
    moment = datetime(2031, 5, 4, tzinfo=UTC)
    with transaction.atomic():
        partitions.ensure(moment)
        transaction.set_rollback(True)

    partitions.ensure(moment)

    assert "compute_sample_p20310504" in names()


@pytest.fixture
def far_day(django_db_blocker: DjangoDbBlocker) -> Iterator[datetime]:
    """A day that no other test uses; its partitions are dropped at the end."""
    moment = datetime(2035, 5, 4, tzinfo=UTC)
    yield moment
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        for name in names():
            if name.rsplit("_p", 1)[-1].startswith("2035"):
                cursor.execute(f"DROP TABLE {name}")
    partitions._there.clear()


@pytest.mark.django_db(transaction=True)
def test_two_processes_at_once_make_each_partition_once_and_who_knows_it_asks_no_more(
    far_day: datetime, django_assert_num_queries: object
) -> None:
    problems: list[Exception] = []

    def make() -> None:
        try:
            partitions._there.clear()  # as another process, which has seen nothing yet
            partitions.ensure(far_day)
        except Exception as problem:  # noqa: BLE001 - told below
            problems.append(problem)
        finally:
            connection.close()

    threads = [threading.Thread(target=make) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert problems == []
    assert "compute_sample_p20350504" in names()
    with django_assert_num_queries(0):  # type: ignore[operator]
        partitions.ensure(far_day + timedelta(hours=3))


@pytest.mark.django_db(transaction=True)
def test_making_one_waits_for_no_reader_and_no_writer(far_day: datetime) -> None:
    partitions.ensure(far_day)
    done = threading.Event()

    def make_the_next() -> None:
        partitions.ensure(far_day + timedelta(days=2))
        connection.close()
        done.set()

    with transaction.atomic():
        make_node()
        Sample.objects.create(node=make_node(), at=far_day, reachable=True)
        list(Sample.objects.all())
        thread = threading.Thread(target=make_the_next)
        thread.start()
        in_time = done.wait(10)
    thread.join(10)

    assert in_time


@pytest.mark.django_db(transaction=True)
def test_dropping_does_not_wait_for_a_long_reader(far_day: datetime) -> None:
    partitions.ensure(far_day)
    problems: list[Exception] = []

    def drop() -> None:
        try:
            partitions.drop_old(far_day + timedelta(days=100))
        except OperationalError as problem:
            problems.append(problem)
        finally:
            connection.close()

    with transaction.atomic():
        list(Sample.objects.filter(at=far_day))
        thread = threading.Thread(target=drop)
        thread.start()
        thread.join(10)

    assert "lock timeout" in str(problems[0])
    assert "compute_sample_p20350504" in names()
