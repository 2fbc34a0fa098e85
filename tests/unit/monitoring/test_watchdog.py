"""The watchdogs themselves: two look at once and it is told once; they go on whatever fails; they miss each other."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection

from compute import clocks
from monitoring import heartbeats
from monitoring.alerts import conditions, watchdog
from monitoring.alerts.conditions import Surroundings
from monitoring.alerts.watchdog import Watchdog
from monitoring.models import Delivery, Heartbeat, Incident
from tests.factories import NOW, make_node
from tests.unit.conftest import Time
from tests.unit.monitoring.watching import alive
from tests.unit.reservations.test_races import at_once

WORKER, BEAT = Heartbeat.Kind.WORKER, Heartbeat.Kind.BEAT


@pytest.fixture
def clock() -> Time:
    return Time(NOW)


@pytest.fixture(autouse=True)
def _around(monkeypatch: pytest.MonkeyPatch, clock: Time, settings: Any) -> None:
    """Redis is looked at by the integration test."""
    monkeypatch.setattr(conditions, "surroundings", lambda: Surroundings(swept_at=clock.now))
    monkeypatch.setattr(clocks, "is_off", lambda: False)
    settings.BERTH_ALERT_MAIL = ["ops@example.org"]


@pytest.mark.django_db(transaction=True)
def test_many_watchdogs_at_once_tell_it_once(clock: Time) -> None:
    node = make_node(health="unknown", health_reason="x")
    make_node("well", last_seen_at=NOW + timedelta(hours=1))
    for _ in range(6):
        alive(clock.now)
        answers = at_once(8, lambda number: watchdog.look(f"w{number}", clock.now))
        assert not [answer for answer in answers if isinstance(answer, Exception)]
        clock.forward(seconds=5)

    assert Incident.objects.count() == 1
    assert Delivery.objects.count() == 1
    make_node()  # so that the other is not most of them
    node.__class__.objects.filter(pk=node.pk).update(health="ok", last_seen_at=clock.now + timedelta(hours=1))
    for _ in range(6):
        alive(clock.now)
        at_once(8, lambda number: watchdog.look(f"w{number}", clock.now))
        clock.forward(seconds=5)
    assert list(Delivery.objects.order_by("pk").values_list("about", flat=True)) == ["opened", "closed"]


@pytest.mark.django_db(transaction=True)
def test_while_one_looks_the_others_do_not_wait(clock: Time) -> None:
    within, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [watchdog.LOCK])
        within.set()
        leave.wait(10)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [watchdog.LOCK])
        connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    within.wait(10)
    try:
        assert watchdog.look("me", clock.now) is None
    finally:
        leave.set()
        thread.join()
    assert watchdog.look("me", clock.now) is not None


@pytest.mark.django_db(transaction=True)
def test_whoever_comes_a_moment_later_leaves_it_at_that(clock: Time) -> None:
    alive(clock.now)
    assert watchdog.look("worker@test", clock.now) is not None
    clock.forward(seconds=3)
    assert watchdog.look("beat@test", clock.now) is None
    clock.forward(seconds=2)
    assert watchdog.look("beat@test", clock.now) is not None


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("kind", "missed"), [(WORKER, "no_beat"), (BEAT, "no_worker")])
def test_each_is_missed_by_the_other(clock: Time, kind: Heartbeat.Kind, missed: str) -> None:
    alive(clock.now)
    dog = Watchdog(f"{kind}@test", kind, clock)
    for _ in range(9):
        clock.forward(seconds=5)
        dog.watch()

    assert [(row.kind, row.severity) for row in Incident.objects.open()] == [(missed, "critical")]
    alive(clock.now)
    for _ in range(3):
        dog.watch()
        clock.forward(seconds=5)
    assert not Incident.objects.open().exists()


@pytest.mark.django_db(transaction=True)
def test_one_that_ends_as_it_should_is_not_missed_among_others(clock: Time) -> None:
    first, second = (Watchdog(f"worker{number}@test", WORKER, clock) for number in (1, 2))
    alive(clock.now, worker=False)
    first.watch()
    second.watch()
    assert [row.name for row in heartbeats.alive(clock.now)] == ["beat@test", "worker1@test", "worker2@test"]

    first.end()
    assert [row.name for row in heartbeats.alive(clock.now)] == ["beat@test", "worker2@test"]
    clock.forward(seconds=30)
    assert [row.name for row in heartbeats.processes(clock.now).silent] == ["beat@test", "worker2@test"]
    clock.forward(days=1)
    heartbeats.forget(clock.now)
    assert not Heartbeat.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_its_threads_go_on_whatever_fails(clock: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[str] = []
    done = threading.Event()
    failures: list[Exception | None] = [OperationalError("the database is away"), ValueError("a mistake"), None]

    def watch(self: Watchdog) -> None:
        rounds.append("watch")
        if problem := failures[len(rounds) - 1]:
            raise problem
        done.set()

    monkeypatch.setattr(watchdog, "EVERY_S", 0.01)
    monkeypatch.setattr(Watchdog, "watch", watch)
    monkeypatch.setattr(Watchdog, "tell", lambda self: None)
    failures += [None] * 1000
    dog = Watchdog("worker@test", WORKER, clock)
    dog.start()
    try:
        assert done.wait(10)
    finally:
        dog.end()
    assert all(not thread.is_alive() for thread in dog._threads)


@pytest.mark.django_db(transaction=True)
def test_a_process_whose_clock_is_off_gives_no_sign_and_tells_nothing(
    clock: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()

    def off() -> bool:
        asked.set()
        return True

    monkeypatch.setattr(clocks, "is_off", off)
    dog = Watchdog("worker@test", WORKER, clock)
    dog.start()
    try:
        assert asked.wait(10)
    finally:
        dog.ended.set()
        for thread in dog._threads:
            thread.join(5)

    assert not Heartbeat.objects.exists()
