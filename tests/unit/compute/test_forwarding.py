"""`applied` never says less than what may be on the gateway, and nobody waits for ever for another's apply."""

import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import connection

from compute import capacity, forwarding
from compute.models import Forward, Gateway, Node
from compute.shell import NoAnswer
from compute.spec import ForwardSpec
from reservations import actions
from reservations.models import Reservation
from tests.factories import NOW, make_node, make_reservation
from tests.fakes import FakeGateway
from tests.unit.compute.test_gateway import REDIS, WEB, FakeHost, tracked
from tests.unit.compute.test_gateway import gateway as iptables
from tests.unit.conftest import Machines

pytestmark = pytest.mark.django_db


@pytest.fixture
def node() -> Node:
    return make_node("one", cores=8)


@pytest.fixture
def fake(machines: Machines, node: Node) -> FakeGateway:
    return machines.gateway(node.gateway)


@pytest.fixture
def forward(node: Node) -> Forward:
    """Of a booking that is not started."""
    make_reservation()
    return Forward.objects.select_related("gateway", "node").get()


# ---- what may be there ------------------------------------------------------------------------------------


def test_a_rule_whose_apply_timed_out_is_taken_away_and_its_connections_cut(
    machines: Machines, fake: FakeGateway, node: Node
) -> None:
    reservation = make_reservation()
    fake.trouble.lost_answers.add("apply")
    machines.reconcile(reservation)
    fake.connections.add(Forward.objects.select_related("gateway", "node").get().spec)
    was_open = fake.open_ports
    fake.trouble.lost_answers.clear()

    actions.end(reservation=Reservation.objects.get(), text="Deleted.", by="test", now=machines.clock.now)
    machines.settle(Reservation.objects.get())

    assert len(was_open) == 1
    assert (fake.open_ports, fake.connections) == (set(), set())


@pytest.mark.parametrize(("wanted", "applied"), [(True, True), (False, False)])
def test_ports_that_are_given_back_may_be_there_if_they_were_wanted(
    wanted: bool, applied: bool, forward: Forward
) -> None:
    Forward.objects.update(wanted=wanted)

    capacity.release_ports([forward], NOW, timedelta(0))

    assert Forward.objects.values_list("wanted", "applied").get() == (False, applied)


def void(answer: object) -> None:
    """A hook answers nothing."""


def test_what_moved_during_the_apply_is_not_marked_as_applied(fake: FakeGateway, forward: Forward) -> None:
    other = make_node("two")
    Forward.objects.update(wanted=True)
    fake.trouble.before = lambda call: void(Forward.objects.update(node=other, applied=False))

    forwarding.sync(forward.gateway)

    assert Forward.objects.values_list("node", "applied").get() == (other.pk, False)


@pytest.mark.parametrize("field", ["public_port", "node_port"])
def test_what_got_another_port_during_the_apply_is_not_marked_as_applied(
    field: str, fake: FakeGateway, forward: Forward
) -> None:
    Forward.objects.update(wanted=True)
    fake.trouble.before = lambda call: void(Forward.objects.update(**{field: 29_999, "applied": False}))

    forwarding.sync(forward.gateway)

    assert not Forward.objects.get().applied


def test_what_was_applied_as_it_is_is_marked(fake: FakeGateway, forward: Forward) -> None:
    Forward.objects.update(wanted=True)

    forwarding.sync(forward.gateway)

    assert Forward.objects.get().applied


def test_what_is_on_its_way_is_no_drift_whether_it_is_there_or_not(
    machines: Machines, fake: FakeGateway, forward: Forward
) -> None:
    forwarding.sync(forward.gateway)
    Forward.objects.update(wanted=False, applied=True)  # ended while its apply was under way
    missing = forwarding.check(Gateway.objects.get(), NOW)
    Forward.objects.update(wanted=True)
    forwarding.sync(forward.gateway)
    Forward.objects.update(applied=False)  # its apply gave no answer
    there = forwarding.check(Gateway.objects.get(), NOW)
    fake.flush()

    assert (missing, there) == (0, 0)
    assert forwarding.check(Gateway.objects.get(), NOW) == 4


# ---- one at a time, but not for ever ----------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "WAIT_S", 0.1)


@pytest.fixture
def applying_elsewhere(forward: Forward) -> Iterator[None]:
    """Another process holds the gateway."""
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s, %s)", [forwarding.LOCK_SPACE, forward.gateway_id])
    yield
    other.close()


@pytest.mark.usefixtures("impatient", "applying_elsewhere")
def test_a_gateway_that_another_process_keeps_busy_gives_no_answer(fake: FakeGateway, forward: Forward) -> None:
    with pytest.raises(NoAnswer, match="the gateway gate is busy"):
        forwarding.sync(forward.gateway)

    assert fake.applied == 0


@pytest.mark.usefixtures("impatient")
def test_nobody_waits_in_line_for_a_gateway_in_trouble(
    fake: FakeGateway, forward: Forward, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "WAIT_S", 20.0)
    Gateway.objects.update(problem="it does not answer")
    begun = time.monotonic()

    with forwarding._in_process[forward.gateway_id], pytest.raises(NoAnswer, match="the gateway gate is busy"):
        forwarding.sync(Gateway.objects.get())

    assert time.monotonic() - begun < 10


def test_a_gateway_that_another_thread_keeps_busy_gives_no_answer(fake: FakeGateway, forward: Forward) -> None:
    with forwarding._in_process[forward.gateway_id], pytest.raises(NoAnswer, match="the gateway gate is busy"):
        forwarding.sync(forward.gateway)

    forwarding.sync(forward.gateway)

    assert fake.applied == 1


def test_while_one_checks_a_gateway_another_returns_at_once(fake: FakeGateway, forward: Forward) -> None:
    calls: list[str] = []

    def meanwhile(call: str) -> None:
        calls.append(call)
        if len(calls) == 1:
            forwarding.check(Gateway.objects.get(), NOW)

    fake.trouble.before = meanwhile
    forwarding.check(Gateway.objects.get(), NOW)
    forwarding.check(Gateway.objects.get(), NOW)

    assert calls.count("found") == 2


# ---- other people's connections ---------------------------------------------------------------------------

FOREIGN = ForwardSpec("203.0.113.9", 20_002, "172.17.0.2", 80)


def test_connections_to_another_address_of_the_machine_are_left_alone() -> None:
    lines = [tracked(20_002, "172.17.0.2", 80, public="203.0.113.9"), tracked(20_003, "10.99.0.12", 20_003)]
    host = FakeHost({"conntrack -L": "\n".join(lines)})

    ended = iptables(host).cut_all_but([WEB, REDIS], "198.18.0.1", 20_000, 29_999)

    assert ended == 1
    assert "203.0.113.9" not in "".join(stdin for _, stdin in host.ran)


def test_connections_of_another_protocol_are_left_alone() -> None:
    line = tracked(20_003, "10.99.0.12", 20_003).replace("tcp      6", "udp      17")

    assert iptables(FakeHost({"conntrack -L": line})).cut_all_but([], "198.18.0.1", 20_000, 29_999) == 0


def test_the_check_of_a_gateway_ends_what_is_dead_and_leaves_what_is_foreign(
    fake: FakeGateway, forward: Forward
) -> None:
    dead = ForwardSpec("198.18.0.1", 20_002, "10.99.0.12", 20_002)
    fake.connections |= {FOREIGN, dead}

    forwarding.check(Gateway.objects.get(), NOW)

    assert fake.connections == {FOREIGN}
