"""Rounds of readings: what is written of nodes and containers, and who is waited for."""

import threading
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from compute import asking, drivers, sampling, series, tasks, vitals
from compute.models import ContainerSample, Node, ObservedContainer, Sample
from compute.readings import Usage, Vitals
from compute.spec import LABEL_RESERVATION
from reservations.models import Reservation
from tests.factories import NOW, make_node, make_reservation
from tests.fakes import FakeEngine
from tests.unit.compute.readings import STEP
from tests.unit.conftest import Machines

pytestmark = pytest.mark.django_db
OURS = {LABEL_RESERVATION: "7"}


@pytest.fixture
def node(machines: Machines) -> Node:
    return make_node()


@pytest.fixture
def engine(machines: Machines, node: Node) -> FakeEngine:
    return machines.engine(node)


@pytest.fixture(autouse=True)
def _right_after_the_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every reading is taken half a second after its round began."""
    real = asking.ask_all

    def ask_all(questions: Any, at: Any, **named: Any) -> Any:
        return real(questions, at, **{"clock": lambda: at.timestamp() + 0.5} | named)

    monkeypatch.setattr(sampling, "ask_all", ask_all)


def look(*nodes: Node, at: Any = NOW, **named: Any) -> int:
    return sampling.sample([node.pk for node in nodes], at, at, **named)


def put(engine: FakeEngine, name: str = "berth-7-1-main", **values: Any) -> str:
    """A running container of reservation 7; the engine's id."""
    engine.put_stranger(name, OURS)
    for key, value in values.items():
        setattr(engine.containers[name], key, value)
    return engine.containers[name].engine_id


def test_a_round_begins_once_however_often_it_is_asked_for(machines: Machines) -> None:
    nodes = {make_node().pk for _ in range(3)}

    at, parts = sampling.begin_round(NOW + timedelta(seconds=7))
    again = sampling.begin_round(NOW + timedelta(seconds=12))
    late = sampling.begin_round(NOW - timedelta(seconds=1))
    after = sampling.begin_round(NOW + timedelta(seconds=15))

    assert (at, {node for part in parts for node in part}) == (NOW, nodes)
    assert again == (NOW, [])
    assert late[1] == []
    assert after[0] == NOW + STEP
    assert len(after[1]) == 1


def test_a_clock_that_was_ahead_holds_up_no_round(machines: Machines) -> None:
    make_node()
    sampling.begin_round(NOW + timedelta(days=1))

    found = [len(sampling.begin_round(NOW + timedelta(seconds=s))[1]) for s in (0, 5, 15, 10)]

    assert found == [1, 0, 1, 0]


def test_removed_nodes_are_not_read_and_many_are_split(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "PART", 2)
    for _ in range(5):
        make_node()
    make_node(state=Node.State.REMOVED)

    _, parts = sampling.begin_round(NOW)

    assert sorted(len(part) for part in parts) == [1, 2, 2]


def test_a_node_without_ssh_tells_what_its_engine_tells(node: Node, engine: FakeEngine) -> None:
    put(engine)

    look(node)

    sample = Sample.objects.get()
    assert (sample.node_id, sample.at, sample.reachable, sample.late_s) == (node.pk, NOW, True, 0.5)
    assert (sample.engine_version, sample.containers, sample.containers_expected) == ("20.10.24", 1, 0)
    assert sample.took_s is not None
    assert (sample.memory_free_mib, sample.load_1, sample.cores_used, sample.volumes_free_mib) == (None,) * 4


def test_a_machine_tells_of_itself_over_ssh(
    node: Node, machines: Machines, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines.with_ssh = True
    said = Vitals(memory_total_mib=8000, memory_free_mib=4000, load_1=0.5, cores=4, cpu_s=100.0, uptime_s=500)
    monkeypatch.setattr(vitals, "read", lambda host, timeout_s: said)
    look(node)
    said = replace(said, cpu_s=130.0, uptime_s=515, volumes_free_mib=17)

    look(node, at=NOW + STEP)

    first, second = Sample.objects.order_by("at")
    assert (first.memory_total_mib, first.memory_free_mib, first.load_1, first.cores_used) == (8000, 4000, 0.5, None)
    assert (second.cores_used, second.volumes_free_mib) == (2.0, 17)


def test_after_a_reboot_the_counter_begins_anew(
    node: Node, machines: Machines, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines.with_ssh = True
    said = Vitals(cpu_s=100.0, uptime_s=500)
    monkeypatch.setattr(vitals, "read", lambda host, timeout_s: said)
    look(node)
    said = Vitals(cpu_s=30.0, uptime_s=10)

    look(node, at=NOW + STEP)

    assert Sample.objects.latest("at").cores_used == 2.0


def test_the_containers_that_should_run_are_those_of_running_reservations(machines: Machines) -> None:
    node = make_node(cores=8)
    running, stopped = make_reservation(), make_reservation()
    for reservation in (running, stopped):
        machines.settle(reservation)
    Reservation.objects.filter(pk=stopped.pk).update(state="stopped")

    look(node)

    assert Sample.objects.get().containers_expected == 1


def test_a_container_is_written_down_with_its_rates_since_the_round_before(node: Node, engine: FakeEngine) -> None:
    put(engine, usage=Usage(cpu_s=10.0, memory_mib=64.5, received=1000, sent=500))
    look(node)
    engine.containers["berth-7-1-main"].usage = Usage(cpu_s=17.5, memory_mib=70.0, received=2500, sent=500)

    look(node, at=NOW + STEP)

    first, second = ContainerSample.objects.order_by("at")
    assert (first.running, first.memory_mib, first.cores_used, first.cpu_s) == (True, 64.5, None, 10.0)
    assert (second.cores_used, second.received_per_s, second.sent_per_s) == (0.5, 100.0, 0.0)
    assert (second.memory_mib, second.received) == (70.0, 2500)


def test_a_rate_goes_by_when_the_node_was_really_read(
    node: Node, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(engine, usage=Usage(cpu_s=10.0))
    look(node)
    monkeypatch.setattr(
        sampling,
        "ask_all",
        lambda questions, at, **named: asking.ask_all(questions, at, clock=lambda: at.timestamp() + 5.5, **named),
    )
    engine.containers["berth-7-1-main"].usage = Usage(cpu_s=20.0)

    look(node, at=NOW + STEP)

    assert ContainerSample.objects.latest("at").cores_used == 0.5  # 10 s in 20 s


def test_a_container_that_was_started_again_counts_from_nothing(node: Node, engine: FakeEngine) -> None:
    put(engine, usage=Usage(cpu_s=10.0, received=10, sent=10), started_at=NOW - timedelta(hours=1))
    look(node)
    container = engine.containers["berth-7-1-main"]
    container.usage = Usage(cpu_s=15.0, received=5, sent=30)
    container.started_at, container.lately = NOW + timedelta(seconds=3), True

    look(node, at=NOW + STEP)

    sample = ContainerSample.objects.latest("at")
    assert (sample.cores_used, sample.sent_per_s) == (1.0, 2.0)
    assert ObservedContainer.objects.get().restarts == 1


def test_a_counter_that_goes_back_without_a_restart_tells_nothing(node: Node, engine: FakeEngine) -> None:
    put(engine, usage=Usage(cpu_s=10.0, received=1000, sent=1000))
    look(node)
    engine.containers["berth-7-1-main"].usage = Usage(cpu_s=11.5, received=900, sent=1000)

    look(node, at=NOW + STEP)

    sample = ContainerSample.objects.latest("at")
    assert sample.cores_used == pytest.approx(0.1)
    assert (sample.received_per_s, sample.sent_per_s) == (None, 0.0)


def test_only_what_is_not_as_before_is_inspected(node: Node, engine: FakeEngine) -> None:
    put(engine, "berth-7-1-main")
    put(engine, "berth-8-1-main")
    look(node)
    engine.trouble.calls.clear()
    look(node, at=NOW + STEP)
    calm = list(engine.trouble.calls)
    engine.trouble.calls.clear()
    engine.containers["berth-8-1-main"].health = "unhealthy"

    look(node, at=NOW + 2 * STEP)

    assert calm == ["list_states", "usage", "usage"]
    assert engine.trouble.calls.count("details") == 1
    assert ObservedContainer.objects.get(name="berth-8-1-main").health == "unhealthy"


def test_after_a_gap_everything_is_inspected_again(node: Node, engine: FakeEngine) -> None:
    put(engine)
    look(node)
    engine.trouble.calls.clear()

    look(node, at=NOW + timedelta(minutes=5))

    assert "details" in engine.trouble.calls


def test_a_row_is_written_only_when_something_changed(node: Node, engine: FakeEngine) -> None:
    put(engine, memory_limit_mib=64)
    look(node)
    look(node, at=NOW + STEP)
    before = ObservedContainer.objects.get()
    engine.end_by_itself("berth-7-1-main", exit_code=137, out_of_memory=True)

    look(node, at=NOW + 2 * STEP)

    after = ObservedContainer.objects.get()
    assert (before.state, before.changed_at, before.memory_limit_mib, before.reservation_id) == ("running", NOW, 64, 7)
    assert (after.pk, after.state, after.exit_code, after.out_of_memory) == (before.pk, "exited", 137, True)
    assert (after.oom_kills, after.changed_at, after.first_seen_at) == (1, NOW + 2 * STEP, NOW)
    assert not ContainerSample.objects.latest("at").running


def test_processes_killed_for_memory_are_added_up_over_restarts(
    node: Node, machines: Machines, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines.with_ssh = True
    engine_id = put(engine, started_at=NOW - timedelta(hours=1))
    counter = 2
    monkeypatch.setattr(vitals, "read", lambda host, timeout_s: Vitals(oom_kills={engine_id: counter}))
    look(node)
    look(node, at=NOW + STEP)
    twice = ObservedContainer.objects.get().oom_kills
    container = engine.containers["berth-7-1-main"]
    container.started_at, container.lately, counter = NOW + STEP, True, 1

    look(node, at=NOW + 2 * STEP)

    assert (twice, ObservedContainer.objects.get().oom_kills) == (2, 3)


def test_what_a_complete_list_does_not_have_is_gone(node: Node, engine: FakeEngine) -> None:
    put(engine)
    look(node)
    engine.containers.clear()

    look(node, at=NOW + STEP)

    row = ObservedContainer.objects.get()
    assert (row.state, row.changed_at) == ("gone", NOW + STEP)
    assert ContainerSample.objects.count() == 1


@pytest.mark.parametrize("how", ["partial", "silent"])
def test_nobody_is_gone_when_the_list_is_not_complete(how: str, node: Node, engine: FakeEngine) -> None:
    put(engine)
    look(node)
    engine.containers.clear()
    engine.partial = how == "partial"
    engine.trouble.silent = how == "silent"

    look(node, at=NOW + STEP)

    assert ObservedContainer.objects.get().state == "running"
    assert Sample.objects.latest("at").reachable == (how == "partial")


def test_a_round_that_is_done_twice_is_there_once(node: Node, engine: FakeEngine) -> None:
    put(engine)

    look(node)
    look(node)

    assert (Sample.objects.count(), ContainerSample.objects.count(), ObservedContainer.objects.count()) == (1, 1, 1)


def test_what_comes_too_late_is_left_out(node: Node, engine: FakeEngine) -> None:
    assert sampling.sample([node.pk], NOW, NOW + sampling.LATE) == 0
    assert not Sample.objects.exists()


def test_a_node_that_the_probe_calls_silent_is_not_asked(node: Node, engine: FakeEngine) -> None:
    Node.objects.update(health=Node.Health.UNKNOWN)

    look(node)

    assert engine.trouble.calls == []
    assert not Sample.objects.get().reachable


def test_a_usage_without_answer_leaves_the_rest_of_the_reading(node: Node, engine: FakeEngine) -> None:
    put(engine)
    engine.trouble.lost_answers.add("usage")

    look(node)

    assert Sample.objects.get().reachable
    sample = ContainerSample.objects.get()
    assert (sample.running, sample.memory_mib) == (True, None)


def test_a_hanging_node_holds_up_no_other_and_is_not_waited_for_again(
    machines: Machines, node: Node, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [make_node() for _ in range(5)]
    free = threading.Event()

    def hang(call: str) -> None:
        free.wait(30)

    engine.trouble.before = hang
    monkeypatch.setattr(asking, "THREADS", 2)
    begun = time.monotonic()
    look(node, *others, lasts_s=0.5)
    first = time.monotonic() - begun
    asked = len(engine.trouble.calls)

    begun = time.monotonic()
    look(node, *others, at=NOW + STEP, lasts_s=5)
    second = time.monotonic() - begun
    free.set()

    reachable = dict(Sample.objects.filter(at=NOW).values_list("node", "reachable"))
    assert reachable == {node.pk: False, **{other.pk: True for other in others}}
    assert first < 2
    assert second < 2
    assert len(engine.trouble.calls) == asked
    assert not Sample.objects.get(node=node, at=NOW + STEP).reachable


def test_who_had_no_turn_in_time_is_not_called_silent(
    machines: Machines, node: Node, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = threading.Event()

    def hang(call: str) -> None:
        free.wait(30)

    engine.trouble.before = hang

    found = asking.ask_all([asking.Question(node), asking.Question(make_node())], NOW, lasts_s=0.3, threads=1)
    free.set()

    assert [(reading.node_id, reading.listing) for reading in found] == [(node.pk, None)]


def test_the_threads_that_ask_open_no_database_connection(
    machines: Machines, node: Node, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(engine)
    seen: list[str] = []
    engine.trouble.before = lambda call: seen.append(threading.current_thread().name)

    def refuse(self: Any, *args: Any) -> Any:
        raise AssertionError("a query")

    def engine_of(row: Node) -> FakeEngine:
        monkeypatch.setattr("django.db.backends.base.base.BaseDatabaseWrapper.connect", refuse)
        return machines.engine(row)

    monkeypatch.setattr(drivers, "engine", engine_of)
    readings = asking.ask_all([asking.Question(node)], NOW, lasts_s=5)

    assert set(seen) == {"reading 0"}
    assert readings[0].listing


def test_the_newest_reading_is_what_pages_show(node: Node, engine: FakeEngine) -> None:
    put(engine)
    look(node)
    now = NOW + timedelta(seconds=5)

    assert series.latest_of_nodes(now)[node.pk].containers == 1
    assert series.of_reservation(7, NOW, NOW + STEP, now=now).values["running"] == [1.0]


@pytest.mark.parametrize("many", [1, 50])
def test_a_part_takes_the_same_number_of_queries_however_many_nodes(
    many: int, machines: Machines, django_assert_max_num_queries: Any
) -> None:
    nodes = [make_node() for _ in range(many)]
    for one in nodes:
        put(machines.engine(one), f"berth-{one.pk}-1-main")
    look(*nodes)
    for one in nodes:
        machines.engine(one).end_by_itself(f"berth-{one.pk}-1-main")

    with django_assert_max_num_queries(28):
        look(*nodes, at=NOW + STEP)


def test_the_timetables_task_sends_each_part_once(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    node = make_node()
    sent: list[tuple[list[int], str]] = []
    monkeypatch.setattr(tasks.sample, "apply_async", lambda args, **options: sent.append(args))
    monkeypatch.setattr("django.utils.timezone.now", lambda: NOW)

    tasks.begin_sampling()
    tasks.begin_sampling()

    assert [ids for ids, _ in sent] == [[node.pk]]
    tasks.sample(*sent[0])
    assert Sample.objects.get().reachable
