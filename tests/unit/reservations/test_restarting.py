"""An operator restarts what runs: same place, same address, and the customer reads why."""

from datetime import datetime
from typing import Any

import pytest

from accounts.models import AuditEntry
from compute.engine import NoAnswer
from compute.models import Node
from compute.spec import Presence
from reservations import actions, reconcile, restarting, watch
from reservations.models import Reservation, UsagePeriod
from reservations.restarting import CannotRestart
from tests.factories import NOW, make_node, make_reservation, make_user
from tests.fakes.trouble import Crash
from tests.unit.conftest import Machines

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def running(machines: Machines) -> Reservation:
    make_node()
    row = machines.settle(make_reservation())
    assert row.state == "running"
    return row


def ask(row: Reservation, reason: str = "it hangs") -> None:
    restarting.restart(reservation=row, by=make_user(), reason=reason, now=NOW)


def texts(row: Reservation) -> list[str]:
    return list(row.events.order_by("pk").values_list("text", flat=True))


def test_it_is_stopped_and_started_where_it_is(machines: Machines, running: Reservation, monkeypatch: Any) -> None:
    engine, stops = next(iter(machines.engines.values())), list[str]()
    stop = engine.stop

    def noted(name: str, grace_s: int) -> None:
        stops.append(name)
        stop(name, grace_s)

    monkeypatch.setattr(engine, "stop", noted)
    machines.clock.forward(seconds=30)

    ask(running)
    row = machines.settle(running)

    name = row.current_container.machine_name  # type: ignore[union-attr]
    assert (row.state, row.generation, row.restart_asked_at, row.restarts) == ("running", 1, None, 0)
    assert stops == [name]
    assert engine.containers[name].presence == Presence.RUNNING
    assert UsagePeriod.objects.filter(reservation=row).count() == 2
    assert "A restart was asked for by the operators: it hangs" in texts(row)
    assert AuditEntry.objects.filter(action="reservation.restart", data__reason="it hangs").count() == 1


def test_asking_twice_is_asking_once(machines: Machines, running: Reservation, sent_hints: list[int]) -> None:
    ask(running)
    ask(running)

    assert texts(running).count("A restart was asked for by the operators: it hangs") == 1
    row = machines.settle(running)
    machines.reconcile(row)
    assert texts(row).count("It is restarted.") == 1
    assert sent_hints.count(row.pk) >= 1


@pytest.mark.parametrize("state", ["booked", "stopped", "ended"])
def test_what_does_not_run_is_not_restarted(state: str, machines: Machines, running: Reservation) -> None:
    Reservation.objects.filter(pk=running.pk).update(state=state)

    with pytest.raises(CannotRestart, match="does not run"):
        ask(running)
    assert not AuditEntry.objects.filter(action="reservation.restart").exists()


def test_what_is_about_to_be_stopped_is_not_restarted(machines: Machines, running: Reservation) -> None:
    actions.wish(reservation=running, wish=Reservation.Wish.STOP, by=running.created_by, now=NOW)  # type: ignore[arg-type]

    with pytest.raises(CannotRestart):
        ask(running)


def test_it_waits_for_a_node_that_gives_no_answer(machines: Machines, running: Reservation) -> None:
    engine = next(iter(machines.engines.values()))
    ask(running)
    engine.trouble.silent = True
    row = machines.reconcile(running)
    assert (row.state, row.restart_asked_at) == ("running", NOW)
    engine.trouble.silent = False

    machines.clock.forward(minutes=1)
    row = machines.settle(row)

    assert (row.state, row.restart_asked_at) == ("running", None)
    assert "It is restarted." in texts(row)


def test_one_that_ended_by_itself_meanwhile_is_started_once(machines: Machines, running: Reservation) -> None:
    engine = next(iter(machines.engines.values()))
    ask(running)
    engine.end_by_itself(running.current_container.machine_name)  # type: ignore[union-attr]

    row = machines.settle(running)

    assert (row.state, row.restart_asked_at) == ("running", None)
    assert [text for text in texts(row) if "restarted" in text or "started again" in text] == ["It is restarted."]


@pytest.fixture
def lost_once(machines: Machines, running: Reservation, monkeypatch: Any) -> list[datetime]:
    """The first stop is carried out, and its answer is lost 30 s later; when it was carried out."""
    engine, stopped = next(iter(machines.engines.values())), list[datetime]()
    stop = engine.stop

    def stop_and_say_nothing(name: str, grace_s: int) -> None:
        stop(name, grace_s)
        if not stopped:
            stopped.append(machines.clock())
            machines.clock.forward(seconds=30)
            raise NoAnswer("timed out")

    monkeypatch.setattr(engine, "stop", stop_and_say_nothing)
    return stopped


def test_one_whose_answer_was_lost_is_no_end_by_itself_and_is_paid_for_until_it_was_stopped(
    machines: Machines, running: Reservation, lost_once: list[datetime]
) -> None:
    machines.clock.forward(minutes=20)
    watch.watch(Node.objects.get(), machines.clock())
    machines.clock.forward(seconds=9)

    ask(running)
    machines.reconcile(running)
    machines.clock.forward(seconds=30)
    row = machines.settle(running)

    assert (row.state, row.restarts, row.restart_asked_at) == ("running", 0, None)
    assert not [text for text in texts(row) if "ended by itself" in text]
    first, second = UsagePeriod.objects.filter(reservation=row).order_by("pk")
    assert lost_once == [first.during.upper]
    assert second.during.lower == machines.clock()


def test_a_stop_on_wish_whose_answer_was_lost_is_paid_for_until_it_was_stopped(
    machines: Machines, running: Reservation, lost_once: list[datetime]
) -> None:
    machines.clock.forward(minutes=5)
    actions.wish(reservation=running, wish=Reservation.Wish.STOP, by=make_user("customer"), now=machines.clock())

    machines.reconcile(running)
    machines.clock.forward(seconds=30)
    row = machines.settle(running)

    assert row.state == "stopped"
    assert [period.during.upper for period in UsagePeriod.objects.filter(reservation=row)] == lost_once


def test_one_that_nobody_watched_since_is_paid_for_all_the_same(
    machines: Machines, running: Reservation, lost_once: list[datetime]
) -> None:
    machines.clock.forward(minutes=5)

    ask(running)
    machines.reconcile(running)
    row = machines.settle(running)

    assert UsagePeriod.objects.filter(reservation=row, during__endswith=lost_once[0]).count() == 1


def test_the_last_restart_of_one_that_kept_ending_is_not_its_end(
    machines: Machines, running: Reservation, lost_once: list[datetime]
) -> None:
    Reservation.objects.filter(pk=running.pk).update(restarts=reconcile.MOST_RESTARTS)
    machines.clock.forward(seconds=20)

    ask(running)
    machines.reconcile(running)
    machines.clock.forward(seconds=10)
    row = machines.settle(running)

    assert (row.state, row.failure, row.restarts) == ("running", "", 0)


@pytest.mark.parametrize("dies_before", [True, False])
def test_a_worker_that_dies_in_the_middle_leaves_a_restart(
    dies_before: bool, machines: Machines, running: Reservation
) -> None:
    engine = next(iter(machines.engines.values()))
    machines.clock.forward(minutes=5)

    def dies(call: str) -> None:
        if call == "stop":
            engine.trouble.before = engine.trouble.after = lambda call: None
            raise Crash(call)

    setattr(engine.trouble, "before" if dies_before else "after", dies)
    ask(running)
    with pytest.raises(Crash):
        machines.reconcile(running)
    machines.clock.forward(minutes=3)
    row = machines.settle(running)

    assert (row.state, row.restarts) == ("running", 0)
    assert texts(row).count("It is restarted.") == 1
    assert not [text for text in texts(row) if "ended by itself" in text]


def test_a_wish_that_comes_while_a_worker_looks_is_not_lost(
    machines: Machines, running: Reservation, monkeypatch: Any
) -> None:
    engine = next(iter(machines.engines.values()))
    observe = engine.observe

    def observe_and_be_asked(name: str) -> Any:
        monkeypatch.setattr(engine, "observe", observe)
        seen = observe(name)
        ask(running)
        return seen

    monkeypatch.setattr(engine, "observe", observe_and_be_asked)
    row = machines.reconcile(running)
    assert row.look_at == NOW  # still due, and not only at its end

    assert "It is restarted." in texts(machines.settle(row))
