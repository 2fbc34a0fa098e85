"""What an engine promises of a container's log, tried on the fake and on a real Docker Engine."""

import pytest

from compute.engine import NoAnswer
from compute.log_lines import MOST_CHARACTERS
from compute.spec import ContainerSpec
from tests.contract.benches import EngineBench
from tests.contract.conftest import MakeSpec


@pytest.fixture
def spec(bench: EngineBench, make_spec: MakeSpec) -> ContainerSpec:
    made = make_spec()
    bench.engine.make_network(made)
    bench.engine.start(made)
    return made


def texts(bench: EngineBench, spec: ContainerSpec, tail: int = 100, since_ns: int | None = None) -> list[str]:
    found = bench.engine.logs(spec.name, tail=tail, since_ns=since_ns)
    assert found is not None
    return [line.text for line in found.lines]


def test_what_it_wrote_is_told_in_its_order_and_again_the_same(bench: EngineBench, spec: ContainerSpec) -> None:
    before = len(texts(bench, spec))
    bench.say(spec.name, "one", "two", "")

    first = texts(bench, spec)

    assert first[before:] == ["one", "two", ""]
    assert texts(bench, spec) == first


def test_only_the_last_lines_are_told_and_only_those_after_an_instant(bench: EngineBench, spec: ContainerSpec) -> None:
    bench.say(spec.name, *[f"line {n}" for n in range(20)])
    found = bench.engine.logs(spec.name, tail=3)
    assert found is not None
    bench.say(spec.name, "later")

    assert [line.text for line in found.lines] == ["line 17", "line 18", "line 19"]
    assert texts(bench, spec, since_ns=found.lines[-1].ns) == ["later"]
    assert texts(bench, spec, since_ns=found.lines[0].ns) == ["line 18", "line 19", "later"]


def test_errors_are_told_apart(bench: EngineBench, spec: ContainerSpec) -> None:
    bench.say(spec.name, "all is well")
    bench.say(spec.name, "all is lost", error=True)

    found = bench.engine.logs(spec.name, tail=2)

    assert found is not None
    assert [(line.text, line.error) for line in found.lines] == [("all is well", False), ("all is lost", True)]


def test_what_a_terminal_would_obey_is_gone_and_long_lines_are_cut(bench: EngineBench, spec: ContainerSpec) -> None:
    bench.say(spec.name, "\x1b[31mred\x1b[0m\x07 \x1b]0;title\x07<b>ünï</b>", "x" * 50_000)

    red, long = texts(bench, spec, tail=20)[-2:]

    assert red == "red <b>ünï</b>"
    assert long == "x" * MOST_CHARACTERS + "…"


def test_a_container_that_ended_still_tells_and_one_that_is_gone_is_none(
    bench: EngineBench, spec: ContainerSpec
) -> None:
    bench.say(spec.name, "last words")
    bench.engine.stop(spec.name, grace_s=1)
    after = texts(bench, spec)
    bench.engine.remove(spec.name)

    assert "last words" in after
    assert bench.engine.logs(spec.name, tail=10) is None
    assert bench.engine.logs("berth-0-0-never", tail=10) is None


def test_an_engine_that_cannot_be_asked_gives_no_answer(bench: EngineBench) -> None:
    with pytest.raises(NoAnswer):
        bench.unreachable().logs("berth-0-0-never", tail=10)
