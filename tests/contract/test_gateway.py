"""The promises of compute.gateway.Gateway, tried on the fake and on the lab's gateway."""

import pytest

from compute.gateway import Rules, render
from compute.shell import NoAnswer
from tests.contract.benches import GatewayBench


def rules(bench: GatewayBench, count: int) -> Rules:
    return render(bench.forwards[:count], bench.private_subnet)


def test_nothing_is_found_before_the_first_apply(gateway_bench: GatewayBench) -> None:
    assert gateway_bench.gateway.found() == Rules((), ())


@pytest.mark.parametrize("count", [0, 1, 3])
def test_what_is_applied_is_found_exactly(gateway_bench: GatewayBench, count: int) -> None:
    wanted = rules(gateway_bench, count)

    gateway_bench.gateway.apply(wanted)

    assert gateway_bench.gateway.found() == wanted
    assert wanted.difference(gateway_bench.gateway.found()) == 0


def test_applying_twice_changes_nothing(gateway_bench: GatewayBench) -> None:
    wanted = rules(gateway_bench, 3)
    gateway_bench.gateway.apply(wanted)
    before = gateway_bench.everything()

    gateway_bench.gateway.apply(wanted)

    assert gateway_bench.everything() == before
    assert gateway_bench.jumps() == 2


def test_a_new_content_replaces_the_old_whole(gateway_bench: GatewayBench) -> None:
    gateway_bench.gateway.apply(rules(gateway_bench, 3))
    fewer = rules(gateway_bench, 1)

    gateway_bench.gateway.apply(fewer)

    assert gateway_bench.gateway.found() == fewer


def test_foreign_rules_stay_byte_for_byte(gateway_bench: GatewayBench) -> None:
    before = gateway_bench.foreign()

    gateway_bench.gateway.apply(rules(gateway_bench, 3))
    gateway_bench.gateway.apply(rules(gateway_bench, 0))

    assert gateway_bench.foreign() == before


def test_after_a_flush_nothing_is_found_and_one_apply_restores_all(gateway_bench: GatewayBench) -> None:
    wanted = rules(gateway_bench, 3)
    gateway_bench.gateway.apply(wanted)
    gateway_bench.flush()

    found = gateway_bench.gateway.found()
    gateway_bench.gateway.apply(wanted)

    assert found == Rules((), ())
    assert gateway_bench.gateway.found() == wanted
    assert gateway_bench.jumps() == 2


def test_cut_ends_the_connections_of_these_forwards_only(gateway_bench: GatewayBench) -> None:
    dead, alive, _ = gateway_bench.forwards
    gateway_bench.gateway.apply(rules(gateway_bench, 2))

    with gateway_bench.connected(dead), gateway_bench.connected(alive):
        assert {dead.public_port, alive.public_port} <= gateway_bench.tracked()
        gateway_bench.gateway.cut([dead])
        left = gateway_bench.tracked()

    assert dead.public_port not in left
    assert alive.public_port in left


def test_cutting_where_there_is_no_connection_is_success(gateway_bench: GatewayBench) -> None:
    gateway_bench.gateway.cut(gateway_bench.forwards)
    gateway_bench.gateway.cut([])


def test_connections_that_no_forward_explains_are_ended_and_counted(gateway_bench: GatewayBench) -> None:
    dead, alive, _ = gateway_bench.forwards
    gateway_bench.gateway.apply(rules(gateway_bench, 2))

    with gateway_bench.connected(dead), gateway_bench.connected(alive):
        ended = gateway_bench.gateway.cut_all_but([alive], alive.public_address, 30_000, 30_010)
        again = gateway_bench.gateway.cut_all_but([alive], alive.public_address, 30_000, 30_010)
        left = gateway_bench.tracked()

    assert (ended, again) == (1, 0)
    assert left & {dead.public_port, alive.public_port} == {alive.public_port}


def test_connections_on_ports_that_are_not_lent_are_left_alone(gateway_bench: GatewayBench) -> None:
    forward = gateway_bench.forwards[0]
    gateway_bench.gateway.apply(rules(gateway_bench, 1))

    with gateway_bench.connected(forward):
        ended = gateway_bench.gateway.cut_all_but([], forward.public_address, 20_000, 29_999)
        left = gateway_bench.tracked()

    assert ended == 0
    assert forward.public_port in left


def test_a_gateway_that_gives_no_answer_says_so(gateway_bench: GatewayBench) -> None:
    silent = gateway_bench.unreachable()

    for ask in (
        lambda: silent.apply(rules(gateway_bench, 1)),
        silent.found,
        lambda: silent.cut(gateway_bench.forwards),
        lambda: silent.cut_all_but([], "198.18.0.1", 30_000, 30_010),
    ):
        with pytest.raises(NoAnswer):
            ask()
