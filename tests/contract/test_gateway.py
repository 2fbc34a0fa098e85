"""The promises of compute.gateway.Gateway, tried on the fake and on the lab's gateway."""

from dataclasses import replace

import pytest

from compute.gateway import Rules, render
from compute.shell import NoAnswer
from compute.spec import ForwardSpec
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


# ---- who may come in ---------------------------------------------------------------------------------------


def only(forward: ForwardSpec, *sources: str) -> ForwardSpec:
    return replace(forward, sources=sources)


def apply(bench: GatewayBench, *forwards: ForwardSpec) -> Rules:
    wanted = render(forwards, bench.private_subnet)
    bench.gateway.apply(wanted)
    return wanted


def test_a_list_of_sources_is_found_exactly_as_it_was_applied(gateway_bench: GatewayBench) -> None:
    first, second, third = gateway_bench.forwards

    wanted = apply(gateway_bench, only(first, "198.18.0.0/16", "203.0.113.7/32"), second, only(third, "10.0.0.0/8"))
    before = gateway_bench.everything()
    gateway_bench.gateway.apply(wanted)

    assert gateway_bench.gateway.found() == wanted
    assert gateway_bench.everything() == before


def test_everybody_on_the_list_is_as_no_list(gateway_bench: GatewayBench) -> None:
    forward = gateway_bench.forwards[0]

    wanted = apply(gateway_bench, only(forward, "0.0.0.0/0"))

    assert gateway_bench.gateway.found() == wanted == render([forward], gateway_bench.private_subnet)


def test_only_who_is_on_the_list_gets_in_and_after_a_change_only_the_other(gateway_bench: GatewayBench) -> None:
    one, other = gateway_bench.clients
    forward = gateway_bench.forwards[0]
    tries = []

    for source in (one, other):
        apply(gateway_bench, only(forward, f"{source}/32"))
        tries.append([gateway_bench.gets_in(forward, client) for client in (one, other)])
    apply(gateway_bench, forward)
    tries.append([gateway_bench.gets_in(forward, client) for client in (one, other)])

    assert tries == [[True, False], [False, True], [True, True]]


def test_who_is_not_on_the_list_does_not_reach_the_gateway_itself_either(gateway_bench: GatewayBench) -> None:
    one, other = gateway_bench.clients
    forward = gateway_bench.forwards[0]
    apply(gateway_bench, only(forward, f"{one}/32"))

    with gateway_bench.listens_itself(forward):
        assert not gateway_bench.gets_in(forward, other)


def test_connections_from_who_was_taken_off_the_list_are_ended_and_the_others_stay(
    gateway_bench: GatewayBench,
) -> None:
    one, other = gateway_bench.clients
    forward, elsewhere, _ = gateway_bench.forwards
    apply(gateway_bench, forward, elsewhere)

    with (
        gateway_bench.connected(forward, one),
        gateway_bench.connected(forward, other),
        gateway_bench.connected(elsewhere, other),
    ):
        apply(gateway_bench, only(forward, f"{one}/32"), elsewhere)
        gateway_bench.gateway.cut_strangers([only(forward, f"{one}/32"), elsewhere])
        left = gateway_bench.sources()

    ports = {forward.public_port, elsewhere.public_port}
    assert {found for found in left if found[0] in ports} == {
        (forward.public_port, one),
        (elsewhere.public_port, other),
    }


def test_a_round_ends_and_counts_connections_that_the_list_does_not_allow(gateway_bench: GatewayBench) -> None:
    one, other = gateway_bench.clients
    forward = gateway_bench.forwards[0]
    apply(gateway_bench, forward)
    wanted = [only(forward, f"{other}/32")]
    gateway_bench.gateway.cut(gateway_bench.forwards)  # what the kernel still knows of other tests

    with gateway_bench.connected(forward, one), gateway_bench.connected(forward, other):
        ended = gateway_bench.gateway.cut_all_but(wanted, forward.public_address, 30_000, 30_010)
        left = gateway_bench.sources()

    assert ended == 1
    assert {found for found in left if found[0] == forward.public_port} == {(forward.public_port, other)}


def test_ending_strangers_where_there_are_none_is_success(gateway_bench: GatewayBench) -> None:
    gateway_bench.gateway.cut_strangers([])
    gateway_bench.gateway.cut_strangers([only(forward, "192.0.2.1/32") for forward in gateway_bench.forwards])


def test_a_gateway_that_gives_no_answer_says_so(gateway_bench: GatewayBench) -> None:
    silent = gateway_bench.unreachable()

    for ask in (
        lambda: silent.apply(rules(gateway_bench, 1)),
        silent.found,
        lambda: silent.cut(gateway_bench.forwards),
        lambda: silent.cut_strangers([only(gateway_bench.forwards[0], "192.0.2.1/32")]),
        lambda: silent.cut_all_but([], "198.18.0.1", 30_000, 30_010),
    ):
        with pytest.raises(NoAnswer):
            ask()
