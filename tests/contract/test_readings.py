"""What an engine tells of its containers to be shown over time, tried on the fake and on a real Docker Engine."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from compute import vitals
from compute.engine import ContainerEngine, NoAnswer
from compute.readings import ContainerSeen, Details
from compute.shell import Host, SshOptions
from compute.spec import LABEL_RESERVATION, ContainerSpec
from lab import Lab
from tests.contract.benches import EngineBench
from tests.contract.conftest import MakeSpec
from tests.contract.real import RealEngineBench

HOG = "x=0123456789abcdef; while :; do x=$x$x; done"
real_only = pytest.mark.parametrize("bench", ["real"], indirect=True)


def run(engine: ContainerEngine, spec: ContainerSpec) -> ContainerSpec:
    engine.make_network(spec)
    engine.start(spec)
    return spec


def seen(engine: ContainerEngine, name: str) -> ContainerSeen | None:
    return next((one for one in engine.list_states().containers if one.name == name), None)


def inspected(engine: ContainerEngine, name: str) -> Details:
    one = seen(engine, name)
    details = engine.details(one.engine_id) if one else None
    assert details is not None
    return details


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that in time"
        time.sleep(0.05)


def test_the_list_tells_who_runs_for_which_reservation_and_the_engines_version(
    bench: EngineBench, make_spec: MakeSpec
) -> None:
    spec = run(bench.engine, make_spec())
    bench.put_stranger("not-ours")

    listing = bench.engine.list_states()

    one = next(one for one in listing.containers if one.name == spec.name)
    assert (one.state, one.running, one.health, one.exit_code) == ("running", True, "", None)
    assert one.lately
    assert one.reservation_id == int(spec.labels[LABEL_RESERVATION])
    assert one.engine_id == bench.engine.observe(spec.name).engine_id
    assert (listing.complete, listing.version) == (True, bench.engine.info().version)
    assert "not-ours" not in {one.name for one in listing.containers}


def test_one_that_was_only_created_and_one_that_ended_are_listed_too(
    engine: ContainerEngine, make_spec: MakeSpec
) -> None:
    created, ended = make_spec(), run(engine, make_spec())
    engine.create(created)
    engine.stop(ended.name, 0)

    of_created, of_ended = seen(engine, created.name), seen(engine, ended.name)

    assert of_created
    assert of_ended
    assert (of_created.state, of_created.exit_code) == ("created", None)
    assert (of_ended.state, of_ended.exit_code, of_ended.lately) == ("exited", 137, True)


def test_an_inspect_tells_limits_and_times(engine: ContainerEngine, make_spec: MakeSpec) -> None:
    spec = run(engine, make_spec(ram_mib=48))
    running = inspected(engine, spec.name)
    engine.stop(spec.name, 0)

    ended = inspected(engine, spec.name)

    now = datetime.now(UTC)
    assert (running.state, running.exit_code, running.memory_limit_mib) == ("running", None, 48)
    assert running.started_at
    assert now - timedelta(minutes=1) < running.started_at <= now + timedelta(seconds=1)
    assert (ended.state, ended.exit_code, ended.out_of_memory) == ("exited", 137, False)
    assert ended.finished_at
    assert ended.finished_at >= running.started_at


def test_one_that_was_never_started_has_no_times(engine: ContainerEngine, make_spec: MakeSpec) -> None:
    spec = make_spec()
    engine.create(spec)

    created = inspected(engine, spec.name)

    assert (created.state, created.started_at, created.finished_at, created.exit_code) == ("created", None, None, None)


def test_one_that_is_started_again_has_a_later_start(engine: ContainerEngine, make_spec: MakeSpec) -> None:
    spec = run(engine, make_spec())
    first = inspected(engine, spec.name)
    engine.stop(spec.name, 0)
    engine.start(spec)

    second = inspected(engine, spec.name)

    assert first.started_at
    assert second.started_at
    assert second.started_at > first.started_at


def test_a_running_one_uses_memory_and_its_counters_grow(engine: ContainerEngine, make_spec: MakeSpec) -> None:
    spec = run(engine, make_spec())
    engine_id = engine.observe(spec.name).engine_id

    first, second = engine.usage(engine_id), engine.usage(engine_id)

    assert first
    assert second
    assert 0 < (first.memory_mib or 0) < 64
    assert 0 < (first.cpu_s or 0) <= (second.cpu_s or 0)
    assert 0 <= (first.received or 0) <= (second.received or 0)
    assert first.sent is not None


def test_what_does_not_run_uses_nothing(engine: ContainerEngine, make_spec: MakeSpec) -> None:
    created, ended = make_spec(), run(engine, make_spec())
    engine.create(created)
    engine.stop(ended.name, 0)

    assert engine.usage(engine.observe(created.name).engine_id) is None
    assert engine.usage(engine.observe(ended.name).engine_id) is None


def test_of_what_is_not_there_nothing_is_told(engine: ContainerEngine) -> None:
    assert engine.details("0" * 64) is None
    assert engine.usage("0" * 64) is None


def test_an_engine_that_gives_no_answer_tells_nothing(bench: EngineBench) -> None:
    silent = bench.unreachable()

    for read in (silent.list_states, lambda: silent.details("0" * 64), lambda: silent.usage("0" * 64)):
        with pytest.raises(NoAnswer):
            read()


@real_only
def test_health_is_told_by_list_and_inspect_alike(bench: RealEngineBench, make_spec: MakeSpec) -> None:
    spec = make_spec()
    second = 10**9
    body: dict[str, Any] = {
        "Image": bench.image,
        "Labels": spec.labels,
        "Healthcheck": {"Test": ["CMD-SHELL", "sleep 0.5; test ! -e /ill"], "Interval": second, "Retries": 1},
    }
    bench.driver._post("/containers/create", body, name=spec.name)
    bench.api.start(spec.name)

    def both(health: str) -> Callable[[], bool]:
        def told() -> bool:
            one = seen(bench.engine, spec.name)
            return bool(one and one.health == inspected(bench.engine, spec.name).health == health)

        return told

    until(both("starting"))
    until(both("healthy"))
    bench.api.exec_start(bench.api.exec_create(spec.name, ["touch", "/ill"])["Id"])
    until(both("unhealthy"))


@real_only
def test_one_that_ended_for_lack_of_memory_says_so(bench: RealEngineBench, make_spec: MakeSpec) -> None:
    spec = run(bench.engine, make_spec(ram_mib=16, command=("sh", "-c", HOG)))
    bench.api.wait(spec.name, timeout=30)

    details = inspected(bench.engine, spec.name)

    assert (details.state, details.out_of_memory) == ("exited", True)


@real_only
def test_a_machine_tells_of_itself_and_of_what_was_killed_in_a_container_that_goes_on(
    bench: RealEngineBench, make_spec: MakeSpec, quiet_lab: Lab, ssh_options: SshOptions
) -> None:
    command = ("sh", "-c", f"sh -c '{HOG}'; while :; do sleep 1; done")
    spec = run(bench.engine, make_spec(ram_mib=16, cores=Decimal(1), command=command))
    engine_id = bench.engine.observe(spec.name).engine_id
    host = Host(quiet_lab.info.nodes[0].ssh, ssh_options)

    until(lambda: vitals.read(host).oom_kills.get(engine_id) == 1)

    said = vitals.read(host)
    assert bench.engine.observe(spec.name).presence == "running"
    assert (said.memory_total_mib or 0) > (said.memory_free_mib or 0) > 0
    assert (said.cores or 0) > 0
    assert (said.cpu_s or 0) > 0
    assert (said.uptime_s or 0) > 0
    assert None not in (said.load_1, said.load_5, said.load_15)
    assert (said.volumes_size_mib or 0) >= (said.volumes_free_mib or 0) > 0
    assert (said.images_size_mib or 0) >= (said.images_free_mib or 0) > 0
