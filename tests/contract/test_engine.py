"""The promises of compute.engine.ContainerEngine, tried on the fake and on a real Docker Engine."""

from dataclasses import replace

import pytest

from compute.engine import ContainerEngine, EngineRefused, ImageMissing, NoAnswer, PortTaken
from compute.spec import LABEL_KEY, ContainerSpec, PortSpec, Presence
from tests.contract.benches import EngineBench
from tests.contract.conftest import MakeSpec


def ports(bench: EngineBench, *numbers: int) -> tuple[PortSpec, ...]:
    return tuple(PortSpec(80, bench.address, number) for number in numbers)


def run(engine: ContainerEngine, spec: ContainerSpec) -> ContainerSpec:
    engine.make_network(spec)
    engine.start(spec)
    return spec


def test_the_engine_tells_of_its_machine(engine: ContainerEngine) -> None:
    info = engine.info()

    assert info.version
    assert info.ram_mib > 0
    assert info.cores > 0


def test_an_image_that_was_pulled_is_there_and_pulling_it_again_is_success(bench: EngineBench) -> None:
    heard: list[tuple[int, int]] = []

    bench.engine.pull(bench.image, lambda done, total: heard.append((done, total)))
    bench.engine.pull(bench.image, lambda done, total: None)

    assert bench.engine.has_image(bench.image)
    assert all(0 <= done <= total for done, total in heard)


def test_an_image_that_the_registry_lacks_is_missing(bench: EngineBench) -> None:
    unknown = bench.image.split("@")[0] + "@sha256:" + "0" * 64

    assert not bench.engine.has_image(unknown)
    with pytest.raises(ImageMissing):
        bench.engine.pull(unknown, lambda done, total: None)


def test_a_tag_has_the_digest_by_which_it_can_be_pulled(bench: EngineBench) -> None:
    repository, digest = bench.image.split("@")

    assert bench.engine.digest(f"{repository}:1") == digest
    assert bench.engine.digest(f"{repository.replace('probe', 'nothing')}:1") is None


def test_a_repository_that_the_registry_lacks_is_missing(bench: EngineBench) -> None:
    unknown = bench.image.replace("probe@", "nothing@")

    with pytest.raises(ImageMissing):
        bench.engine.pull(unknown, lambda done, total: None)


def test_starting_an_image_that_is_not_on_the_node_says_so_and_leaves_no_container(
    bench: EngineBench, make_spec: MakeSpec
) -> None:
    spec = make_spec(image=bench.image.split("@")[0] + "@sha256:" + "0" * 64)
    bench.engine.make_network(spec)

    with pytest.raises(ImageMissing):
        bench.engine.create(spec)
    with pytest.raises(ImageMissing):
        bench.engine.start(spec)

    assert "container" not in bench.left(spec.name)


def test_a_started_container_is_seen_to_run_with_its_labels(engine: ContainerEngine, make_spec: MakeSpec) -> None:
    spec = run(engine, make_spec())

    seen = engine.observe(spec.name)

    assert (seen.presence, seen.name, seen.exit_code) == (Presence.RUNNING, spec.name, None)
    assert spec.labels.items() <= seen.labels.items()


def test_starting_twice_makes_one_container(engine: ContainerEngine, make_spec: MakeSpec) -> None:
    spec = run(engine, make_spec())
    first = engine.observe(spec.name)

    again = engine.start(spec)

    assert again.presence == Presence.RUNNING
    assert again.engine_id == first.engine_id
    assert [seen.name for seen in engine.list_ours()].count(spec.name) == 1


def test_a_container_can_be_created_before_its_network_and_started_after_it(
    engine: ContainerEngine, make_spec: MakeSpec
) -> None:
    spec = make_spec()
    engine.create(spec)
    engine.create(spec)
    created = engine.observe(spec.name)

    started = run(engine, spec)

    seen = engine.observe(started.name)
    assert created.presence == Presence.CREATED
    assert (seen.presence, seen.engine_id) == (Presence.RUNNING, created.engine_id)


def test_making_the_network_twice_makes_one(bench: EngineBench, make_spec: MakeSpec) -> None:
    spec = make_spec()

    bench.engine.make_network(spec)
    bench.engine.make_network(spec)

    assert bench.left(spec.name) == ["network"]


def test_a_stopped_container_is_started_again_and_stays_the_same(engine: ContainerEngine, make_spec: MakeSpec) -> None:
    spec = run(engine, make_spec())
    first = engine.observe(spec.name)
    engine.stop(spec.name, grace_s=1)

    engine.start(spec)

    seen = engine.observe(spec.name)
    assert (seen.presence, seen.engine_id) == (Presence.RUNNING, first.engine_id)


def test_stopping_twice_and_stopping_nothing_is_success(engine: ContainerEngine, make_spec: MakeSpec) -> None:
    spec = run(engine, make_spec())

    engine.stop(spec.name, grace_s=1)
    engine.stop(spec.name, grace_s=1)
    engine.stop("berth-0-0-never", grace_s=1)

    seen = engine.observe(spec.name)
    assert seen.presence == Presence.EXITED
    assert seen.exit_code is not None


def of_key(spec: ContainerSpec, key: str | None) -> ContainerSpec:
    """The same, for a reservation with another key."""
    labels = {name: value for name, value in spec.labels.items() if name != LABEL_KEY}
    return replace(spec, labels=labels | ({LABEL_KEY: key} if key else {}))


@pytest.mark.parametrize("other", ["another", None])
def test_a_container_of_the_same_name_with_another_key_is_neither_adopted_nor_started(
    engine: ContainerEngine, make_spec: MakeSpec, other: str | None
) -> None:
    theirs = run(engine, of_key(make_spec(), other))
    engine.stop(theirs.name, grace_s=1)
    ours = of_key(theirs, "ours")

    with pytest.raises(EngineRefused, match="belongs to another installation or to an older database"):
        engine.create(ours)
    with pytest.raises(EngineRefused, match="belongs to another installation or to an older database"):
        engine.start(ours)

    assert engine.observe(theirs.name).presence == Presence.EXITED


def test_a_container_with_the_same_key_is_adopted(engine: ContainerEngine, make_spec: MakeSpec) -> None:
    spec = run(engine, of_key(make_spec(mount_path="/data"), "ours"))
    first = engine.observe(spec.name)

    engine.create(spec)
    again = run(engine, spec)

    assert engine.observe(again.name).engine_id == first.engine_id


def test_a_network_of_the_same_name_with_another_key_is_not_adopted(bench: EngineBench, make_spec: MakeSpec) -> None:
    theirs = of_key(make_spec(), "another")
    bench.engine.make_network(theirs)

    with pytest.raises(EngineRefused, match="network of the name"):
        bench.engine.make_network(of_key(theirs, "ours"))


def test_a_volume_entry_of_the_same_name_with_another_key_is_not_mounted(
    bench: EngineBench, make_spec: MakeSpec
) -> None:
    theirs = of_key(make_spec(mount_path="/data"), "another")
    bench.engine.create(theirs)
    bench.lose_container(theirs.name)

    with pytest.raises(EngineRefused, match="volume of the name"):
        bench.engine.create(of_key(theirs, "ours"))

    assert bench.left(theirs.name) == ["volume"]


def test_removing_with_a_key_leaves_all_that_has_another_one(bench: EngineBench, make_spec: MakeSpec) -> None:
    theirs = run(bench.engine, of_key(make_spec(mount_path="/data"), "another"))

    bench.engine.remove(theirs.name, key="ours")
    left = bench.left(theirs.name)
    bench.engine.remove(theirs.name, key="another")

    assert left == ["container", "network", "volume"]
    assert bench.left(theirs.name) == []


def test_where_a_container_writes_is_told_and_nothing_of_one_that_is_not_there(
    engine: ContainerEngine, make_spec: MakeSpec
) -> None:
    spec = run(engine, make_spec(mount_path="/data"))

    found = engine.writes(spec.name)

    assert found.engine_id == engine.observe(spec.name).engine_id
    assert len(found.folders) == 1
    assert engine.writes("berth-0-0-never").folders == ()


def test_how_much_each_of_ours_wrote_is_told(bench: EngineBench, make_spec: MakeSpec) -> None:
    spec = run(bench.engine, make_spec())
    bench.put_stranger("a-stranger")
    bench.write(spec.name, mib=3)

    found = bench.engine.written_mib()

    assert found[spec.name] == 3
    assert "a-stranger" not in found


def test_what_never_was_is_absent(engine: ContainerEngine) -> None:
    assert engine.observe("berth-0-0-never").presence == Presence.ABSENT


def test_an_engine_that_gives_no_answer_says_nothing_of_absence(bench: EngineBench, make_spec: MakeSpec) -> None:
    spec = run(bench.engine, make_spec())
    silent = bench.unreachable()

    for ask in (
        lambda: silent.observe(spec.name),
        lambda: silent.observe("berth-0-0-never"),
        silent.list_ours,
        silent.list_traces,
        silent.info,
        lambda: silent.has_image(bench.image),
        lambda: silent.create(spec),
        lambda: silent.digest(bench.image),
        lambda: silent.start(spec),
        lambda: silent.stop(spec.name, grace_s=1),
        lambda: silent.remove(spec.name),
        lambda: silent.writes(spec.name),
        silent.written_mib,
        lambda: silent.make_network(spec),
        lambda: silent.pull(bench.image, lambda done, total: None),
    ):
        with pytest.raises(NoAnswer):
            ask()


def test_removing_takes_container_network_and_volume_and_twice_is_success(
    bench: EngineBench, make_spec: MakeSpec
) -> None:
    spec = run(bench.engine, make_spec(mount_path="/data"))
    assert bench.left(spec.name) == ["container", "network", "volume"]

    bench.engine.remove(spec.name)
    bench.engine.remove(spec.name)

    assert bench.left(spec.name) == []
    assert bench.engine.observe(spec.name).presence == Presence.ABSENT


def test_a_network_without_its_container_is_removed_too(bench: EngineBench, make_spec: MakeSpec) -> None:
    spec = make_spec()
    bench.engine.make_network(spec)

    bench.engine.remove(spec.name)

    assert bench.left(spec.name) == []


def test_removing_one_leaves_the_other(bench: EngineBench, make_spec: MakeSpec) -> None:
    one = run(bench.engine, make_spec(mount_path="/data"))
    other = run(bench.engine, make_spec(mount_path="/data"))

    bench.engine.remove(one.name)

    assert bench.left(other.name) == ["container", "network", "volume"]
    assert bench.engine.observe(other.name).presence == Presence.RUNNING


def test_the_list_has_all_of_ours_whatever_their_state_and_nobody_elses(
    bench: EngineBench, make_spec: MakeSpec
) -> None:
    running = run(bench.engine, make_spec())
    stopped = run(bench.engine, make_spec())
    bench.engine.stop(stopped.name, grace_s=1)
    bench.put_stranger("a-stranger")

    found = {seen.name: seen for seen in bench.engine.list_ours()}

    assert found[running.name].presence == Presence.RUNNING
    assert found[stopped.name].presence == Presence.EXITED
    assert found[running.name].labels.items() >= running.labels.items()
    assert "a-stranger" not in found


def test_traces_are_containers_networks_and_volumes_of_ours_and_nobody_elses(
    bench: EngineBench, make_spec: MakeSpec
) -> None:
    whole = run(bench.engine, make_spec(mount_path="/data"))
    network_only = make_spec()
    bench.engine.make_network(network_only)
    bench.put_stranger("a-stranger")

    found = bench.engine.list_traces()

    assert {whole.name, network_only.name} <= found
    assert "a-stranger" not in found
    bench.engine.remove(whole.name)
    assert whole.name not in bench.engine.list_traces()


def test_a_strangers_container_is_untouched_by_all_that_is_done(bench: EngineBench, make_spec: MakeSpec) -> None:
    bench.put_stranger("a-stranger")
    spec = run(bench.engine, make_spec(mount_path="/data"))

    bench.engine.stop(spec.name, grace_s=1)
    bench.engine.remove(spec.name)

    assert bench.stranger_runs("a-stranger")


def test_a_port_that_a_stranger_has_is_taken(bench: EngineBench, make_spec: MakeSpec) -> None:
    bench.occupy(30_100)
    spec = make_spec(ports=ports(bench, 30_100))
    bench.engine.make_network(spec)

    with pytest.raises(PortTaken):
        bench.engine.start(spec)

    assert bench.engine.observe(spec.name).presence != Presence.RUNNING


def test_after_a_taken_port_the_container_is_removed_and_started_on_another(
    bench: EngineBench, make_spec: MakeSpec
) -> None:
    bench.occupy(30_101)
    spec = make_spec(ports=ports(bench, 30_101))
    bench.engine.make_network(spec)
    with pytest.raises(PortTaken):
        bench.engine.start(spec)

    bench.engine.remove(spec.name)
    other = make_spec(name=spec.name, labels=spec.labels, ports=ports(bench, 30_102))
    run(bench.engine, other)

    assert bench.engine.observe(spec.name).presence == Presence.RUNNING


def test_two_of_ours_cannot_have_one_port(bench: EngineBench, make_spec: MakeSpec) -> None:
    run(bench.engine, make_spec(ports=ports(bench, 30_103)))
    second = make_spec(ports=ports(bench, 30_103))
    bench.engine.make_network(second)

    with pytest.raises(PortTaken):
        bench.engine.start(second)
