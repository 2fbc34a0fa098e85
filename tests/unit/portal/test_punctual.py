"""What a process does whose clock is not the database's: nothing that goes by time."""

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from compute import clocks, skew
from compute.models import Node
from portal import punctual
from reservations import doctor, reconcile, tasks
from reservations.models import Reservation
from tests.factories import make_node, make_reservation

pytestmark = pytest.mark.django_db
SetClock = Callable[[float], None]
OFF = pytest.mark.parametrize("seconds", [600, -600])


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    """This process's clock is so many seconds ahead; its monotonic clock goes on as ever."""
    real = time.time
    monkeypatch.setattr(clocks, "_asked", None)
    monkeypatch.setattr(clocks, "_said_at", None)

    def put(seconds: float) -> None:
        monkeypatch.setattr(time, "time", lambda: real() + seconds)

    put(0)
    return put


@pytest.fixture
def due() -> Reservation:
    make_node()
    return make_reservation(now=timezone.now() - timedelta(seconds=30))


def test_a_right_clock_is_right_and_the_database_is_asked_rarely(
    set_clock: SetClock, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(2):
        assert [clocks.problem() for _ in range(5)] == [""] * 5


@OFF
def test_by_how_much_it_is_off(set_clock: SetClock, seconds: int) -> None:
    set_clock(seconds)

    assert clocks.skew_s() == pytest.approx(seconds, abs=2)
    assert f"{'ahead of' if seconds > 0 else 'behind'} the database's" in clocks.problem()


def test_a_clock_that_is_set_while_we_run_is_asked_about_at_once(set_clock: SetClock) -> None:
    assert not clocks.is_off()
    set_clock(600)
    assert clocks.is_off()
    set_clock(0)
    assert not clocks.is_off()


def test_a_few_seconds_are_tolerated(set_clock: SetClock) -> None:
    set_clock(skew.TOLERANCE_S - 1)
    assert not clocks.is_off()
    set_clock(skew.TOLERANCE_S + 2)
    assert clocks.is_off()


def test_the_log_says_it_once_a_minute(set_clock: SetClock, caplog: pytest.LogCaptureFixture) -> None:
    set_clock(600)
    with caplog.at_level(logging.ERROR, "compute.clocks"):
        assert all(clocks.is_off() for _ in range(5))

    assert len(caplog.records) == 1


@OFF
def test_nothing_is_begun_or_ended(set_clock: SetClock, due: Reservation, sent_hints: list[int], seconds: int) -> None:
    set_clock(seconds)
    sent_hints.clear()

    reconcile.reconcile(due.pk)
    tasks.reconcile(due.pk)
    tasks.sweep()

    assert Reservation.objects.get().state == "booked"
    assert Reservation.objects.get().claim_token is None
    assert sent_hints == []


def test_a_right_clock_sweeps(set_clock: SetClock, due: Reservation, sent_hints: list[int]) -> None:
    sent_hints.clear()
    tasks.sweep()

    assert sent_hints == [due.pk]


@OFF
def test_commands_that_go_by_time_say_why_they_do_nothing(set_clock: SetClock, due: Reservation, seconds: int) -> None:
    set_clock(seconds)
    Node.objects.update(health=Node.Health.LOST)
    lost = ["remove_node", Node.objects.get().name, "--lost"]

    for command in (["reconcile"], lost):
        with pytest.raises(CommandError, match=r"Nothing was done: this process's clock is \d+ s .* the database's"):
            call_command(*command, stdout=StringIO())

    assert Reservation.objects.get().state == "booked"


def test_doctor_names_the_process(set_clock: SetClock) -> None:
    set_clock(600)
    assert clocks.is_off()
    set_clock(0)

    [finding] = doctor._clocks(timezone.now())

    assert (finding.promise, finding.where) == (7, clocks.process_name)
    assert "ahead of the database's" in finding.sentence


def test_readyz_names_its_own_clock(set_clock: SetClock, settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = False
    set_clock(-600)

    answer = Client().get("/readyz")

    assert answer.status_code == 503
    assert "behind the database's" in answer.json()["problems"]["clock"]


@OFF
def test_nothing_is_dated_by_a_wrong_clock(set_clock: SetClock, seconds: int) -> None:
    headers: dict[str, Any] = {"expires": "2026-05-04T10:00:00+00:00"}
    punctual.leave_out_expiry(headers)
    assert headers["expires"]

    set_clock(seconds)
    punctual.leave_out_expiry(headers)
    assert headers["expires"] is None


class Consumer:
    """Celery's, as far as it is used: notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def add_task_queue(self, queue: str) -> None:
        self.told.append(f"take {queue}")

    def cancel_task_queue(self, queue: str) -> None:
        self.told.append(f"leave {queue}")

    def call_soon(self, do: Callable[[str], None], queue: str) -> None:
        do(queue)


def test_a_worker_takes_no_work_while_its_clock_is_off(set_clock: SetClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(punctual, "close_old_connections", lambda: None)  # the test's own
    consumer, hours = Consumer(), iter([600, 600, 0, 0, -600])

    def pause(seconds: float) -> bool:
        set_clock(following := next(hours, 1e9))
        return following == 1e9

    punctual.keep_apart(consumer, "work", pause)

    assert consumer.told == ["leave work", "take work", "leave work"]


def test_the_timetable_goes_on_when_the_clock_was_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = Celery("timetable", broker="memory://", set_as_current=False)
    app.conf.beat_schedule = {"sweep": {"task": "sweep", "schedule": 1.0}}
    sent: list[str] = []
    monkeypatch.setattr(punctual.Timetable, "apply_async", lambda self, entry, **more: sent.append(entry.name))
    timetable = punctual.Timetable(app=app, schedule_filename=str(tmp_path / "schedule"))
    for entry in timetable.schedule.values():
        entry.last_run_at = app.now() + timedelta(minutes=10)  # as a clock wrote it that was ahead

    wait_s = min(timetable.tick() for _ in range(2))
    last = [entry.last_run_at for entry in timetable.schedule.values() if entry.last_run_at]
    timetable.close()

    assert wait_s <= 1
    assert max(last) <= app.now()
