"""The rules of a gateway as text, and what its driver makes of conntrack's lists."""

from dataclasses import dataclass, field, replace

import pytest

from compute.gateway import Rules, render
from compute.iptables_gateway import DirectGateway, IptablesGateway, as_restore
from compute.shell import CommandFailed, NoAnswer
from compute.spec import ForwardSpec

SUBNET = "10.99.0.0/24"
WEB = ForwardSpec("198.18.0.1", 20_000, "10.99.0.11", 20_000)
REDIS = ForwardSpec("198.18.0.1", 20_001, "10.99.0.12", 20_001)


@dataclass
class FakeHost:
    """Answers each program from a table; notes what ran."""

    answers: dict[str, str] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)
    code: int = 1
    ran: list[tuple[str, str]] = field(default_factory=list)
    target: str = "root@host"

    def run(self, argv: list[str], *, stdin: str = "", timeout_s: float = 20) -> str:
        line = " ".join(argv)
        self.ran.append((line, stdin))
        if line in self.failing:
            raise CommandFailed("gateway", argv, self.code, "no")
        return next((answer for part, answer in self.answers.items() if part in line), "")


def gateway(host: FakeHost) -> IptablesGateway:
    return IptablesGateway(host)  # type: ignore[arg-type]  # only `run` is used


# ---- rules ------------------------------------------------------------------------------------------------


def test_without_forwards_only_answers_pass_and_the_rest_is_dropped() -> None:
    rules = render([], SUBNET)

    assert rules.nat == ()
    assert rules.filter == (
        "-A BERTH-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A BERTH-FORWARD ! -s 10.99.0.0/24 -d 10.99.0.0/24 -j DROP",
    )


def test_rules_stand_in_the_order_of_ports_however_the_forwards_come() -> None:
    assert render([REDIS, WEB], SUBNET) == render([WEB, REDIS], SUBNET)
    assert "20000" in render([REDIS, WEB], SUBNET).nat[0]


def test_the_drop_comes_last_and_each_forward_passes_by_its_own_port_only() -> None:
    rules = render([WEB, REDIS], SUBNET)

    assert rules.filter[-1].endswith("-j DROP")
    assert [line.endswith("-j ACCEPT") for line in rules.filter[:-1]] == [True, True, True]
    assert "--ctorigdstport 20001 -m tcp --dport 20001" in rules.filter[2]


def test_where_some_may_come_in_the_node_begins_no_connection_in_its_middle() -> None:
    """Else what was ended would begin anew, from inside, on a gateway that hides the nodes behind its address."""
    some = replace(WEB, sources=("203.0.113.7/32",))
    middle = (
        "-A BERTH-FORWARD -s 10.99.0.11/32 -p tcp -m conntrack --ctstate NEW -m tcp --sport 20000"
        " ! --tcp-flags FIN,SYN,RST,ACK SYN -j DROP"
    )

    assert render([some, REDIS], SUBNET).filter[3] == middle
    assert not [line for line in render([WEB, REDIS], SUBNET).filter if "--sport" in line]
    assert not [line for line in render([replace(some, protocol="udp")], SUBNET).filter if "--sport" in line]


def test_the_difference_counts_missing_and_superfluous_rules() -> None:
    one, two = render([WEB], SUBNET), render([WEB, REDIS], SUBNET)

    assert one.difference(one) == 0
    assert one.difference(two) == two.difference(one) == 2
    assert one.difference(Rules((), ())) == 4


def test_a_restore_names_each_chain_so_that_it_is_replaced_whole() -> None:
    text = as_restore(render([WEB], SUBNET))

    assert text.count("COMMIT\n") == 2
    assert ":BERTH-DNAT - [0:0]\n" in text
    assert ":BERTH-FORWARD - [0:0]\n" in text
    assert text.endswith("\n")


def test_the_filter_is_in_place_before_anything_is_forwarded() -> None:
    text = as_restore(render([WEB], SUBNET))

    assert text.index("*filter") < text.index("*nat")


# ---- the driver -------------------------------------------------------------------------------------------


def test_jumps_are_made_once_and_looked_for_again_after_something_was_missing() -> None:
    host = FakeHost(failing={"iptables -w 5 -t nat -C PREROUTING -j BERTH-DNAT"})
    driver = gateway(host)

    driver.apply(render([], SUBNET))
    driver.apply(render([], SUBNET))
    driver.found()
    driver.apply(render([], SUBNET))

    inserted = [line for line, _ in host.ran if "-I PREROUTING -j BERTH-DNAT" in line]
    assert len(inserted) == 2
    assert not [line for line, _ in host.ran if "-I FORWARD" in line]


@pytest.mark.parametrize(("code", "problem"), [(4, NoAnswer), (2, CommandFailed)])
def test_a_lock_that_others_hold_is_waited_for_and_is_no_refusal(code: int, problem: type[Exception]) -> None:
    host = FakeHost(failing={"iptables-restore -w 5 --noflush"}, code=code)

    with pytest.raises(problem):
        gateway(host).apply(render([WEB], SUBNET))


def test_a_jump_is_not_taken_to_be_missing_because_others_hold_the_lock() -> None:
    host = FakeHost(failing={"iptables -w 5 -t filter -C FORWARD -j BERTH-FORWARD"}, code=4)

    with pytest.raises(NoAnswer):
        gateway(host).apply(render([WEB], SUBNET))
    assert not [line for line, _ in host.ran if " -I " in line]


def test_chains_that_nothing_jumps_to_count_as_missing() -> None:
    saved = "-A PREROUTING -j BERTH-DNAT\n" + "\n".join(render([WEB], SUBNET).nat)

    assert gateway(FakeHost({"iptables-save": saved})).found() == Rules((), ())


def test_only_our_own_lines_are_found() -> None:
    rules = render([WEB], SUBNET)
    jumps = ["-A PREROUTING -j BERTH-DNAT", "-A FORWARD -j BERTH-FORWARD", "-A FORWARD -p icmp -j ACCEPT"]
    saved = "\n".join(["*nat", *jumps, *rules.nat, *rules.filter, "-A BERTH-DNAT-OTHER -j DROP", "COMMIT"])

    assert gateway(FakeHost({"iptables-save": saved})).found() == rules


# ---- connections ------------------------------------------------------------------------------------------


def tracked(port: int, target: str, target_port: int, state: str = "ESTABLISHED", public: str = "198.18.0.1") -> str:
    return (
        f"ipv4     2 tcp      6 431999 {state} src=198.18.0.100 dst={public} sport=4711 dport={port} "
        f"src={target} dst=198.18.0.100 sport={target_port} dport=4711 [ASSURED] mark=0 use=1"
    )


def cut_lines(host: FakeHost) -> list[str]:
    return [line for _, stdin in host.ran for line in stdin.splitlines()]


def test_connections_that_no_forward_explains_are_ended() -> None:
    lines = [
        tracked(20_000, "10.99.0.11", 20_000),  # explained
        tracked(20_001, "10.99.0.99", 20_001),  # leads where nobody lends any more
        tracked(20_002, "10.99.0.12", 20_002),  # no forward at all
        tracked(443, "10.99.0.12", 443),  # not a port of ours
        "icmp 1 29 src=198.18.0.100 dst=198.18.0.1 type=8 code=0 id=1",
        "",
    ]
    host = FakeHost({"conntrack -L": "\n".join(lines)})

    ended = gateway(host).cut_all_but([WEB, REDIS], "198.18.0.1", 20_000, 29_999)

    assert ended == 2
    assert [line.split("--orig-port-dst ")[1].split()[0] for line in sorted(cut_lines(host))] == ["20001", "20002"]


def test_a_connection_that_was_not_answered_yet_is_read_alike() -> None:
    line = tracked(20_000, "10.99.0.11", 20_000, "SYN_SENT").replace(" src=10.99", " [UNREPLIED] src=10.99")

    assert gateway(FakeHost({"conntrack -L": line})).cut_all_but([WEB], "198.18.0.1", 20_000, 29_999) == 0
    assert gateway(FakeHost({"conntrack -L": line})).cut_all_but([], "198.18.0.1", 20_000, 29_999) == 1


def test_many_connections_of_one_dead_forward_are_cut_by_one_command() -> None:
    host = FakeHost({"conntrack -L": "\n".join([tracked(20_005, "10.99.0.11", 20_005)] * 50)})

    gateway(host).cut_all_but([], "198.18.0.1", 20_000, 29_999)

    assert len(cut_lines(host)) == 1


def test_cutting_nothing_runs_nothing() -> None:
    host = FakeHost()

    gateway(host).cut([])

    assert host.ran == []


def test_a_direct_gateway_has_nothing_to_apply() -> None:
    direct = DirectGateway()
    direct.apply(render([WEB], SUBNET))
    direct.cut([WEB])

    assert direct.found() == Rules((), ())
    assert direct.cut_all_but([], "198.18.0.1", 1, 65_535) == 0
