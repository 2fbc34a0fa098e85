"""Who may connect to a port: what may be written, what the gateway then has, and what moves with the reservation."""

from typing import Any

import pytest

from accounts.models import AuditEntry
from compute import capacity, forwarding
from compute.models import Forward, Gateway, Node
from compute.spec import ForwardSpec
from reservations import access, actions, moving, starting
from reservations.access import CannotRestrict, allow, sources_of
from reservations.actions import InvalidBooking
from reservations.claims import claim
from reservations.models import Endpoint, Reservation
from tests.factories import NOW, make_gateway, make_node, make_reservation
from tests.fakes import FakeGateway
from tests.unit.conftest import Machines, Queue

pytestmark = pytest.mark.django_db
ONE, OTHER = "198.51.100.1", "198.51.100.2"


@pytest.fixture
def running(machines: Machines) -> Reservation:
    make_node("one", cores=8)
    return machines.settle(make_reservation())


@pytest.fixture
def fake(machines: Machines, running: Reservation) -> FakeGateway:
    return machines.gateway(Gateway.objects.get())


def only(running: Reservation, *sources: str) -> bool:
    return allow(reservation=running, endpoint="web", sources=sources, by=running.created_by, now=NOW)


def forward() -> Forward:
    return Forward.objects.select_related("gateway", "node").get(released_at=None)


def sync() -> None:
    forwarding.sync(Gateway.objects.get(), only_for=[forward().pk])


# ---- what may be written ----------------------------------------------------------------------------------


def test_addresses_and_networks_are_kept_as_networks_each_once() -> None:
    typed = ["203.0.113.7", " 198.51.100.0/24 ", "203.0.113.7/32", "10.1.2.3/8", "192.0.2.0/255.255.255.0"]

    assert sources_of(typed) == ["203.0.113.7/32", "198.51.100.0/24", "10.0.0.0/8", "192.0.2.0/24"]


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("example.org", "“example.org” is no address or network"),
        ("203.0.113", "“203.0.113” is no address"),
        ("203.0.113.256", "is no address"),
        ("203.0.113.7/33", "is no address"),
        ("203.0.113.7/-1", "is no address"),
        ("203.0.113.7/24/8", "is no address"),
        ("203.0.113.007", "is no address"),
        ("", "is no address"),
        ("1" * 5000, "is no address"),
        ("🦆" * 500, "is no address"),
        ("٢٠٣.0.113.7", "is no address"),
        ("203.0.113.7\0", r"'203.0.113.7\x00' is no address"),
        ("-s 0.0.0.0", "is no address"),
        ("2001:db8::1", "“2001:db8::1” is of IPv6; only IPv4 is forwarded"),
        ("::/0", "only IPv4 is forwarded"),
        ("0.0.0.0/0", "“0.0.0.0/0” is everybody: leave the list empty"),
        ("1.2.3.4/0", "is everybody"),
    ],
)
def test_an_allow_list_entry_that_is_no_address_or_network_is_named(entry: str, says: str) -> None:
    with pytest.raises(InvalidBooking) as refused:
        sources_of(["203.0.113.7", entry])

    assert says in refused.value.problems["allowed_sources"]
    assert len(refused.value.problems["allowed_sources"]) < 300


def test_at_most_32_are_kept_and_the_same_again_does_not_count() -> None:
    many = [f"203.0.113.{n}" for n in range(32)]

    assert len(sources_of([*many, *many])) == 32
    with pytest.raises(InvalidBooking, match="At most 32 addresses and networks, and these are 33"):
        sources_of([*many, "10.0.0.0/8"])


def test_a_text_has_one_a_line_or_commas_or_blanks_between() -> None:
    assert access.split("10.0.0.1\r\n10.0.0.2, 10.0.0.3;10.0.0.4\t\n\n ") == [f"10.0.0.{n}" for n in (1, 2, 3, 4)]
    assert access.split(" \n ") == []


# ---- what then is so --------------------------------------------------------------------------------------


def test_only_who_is_on_the_list_gets_in_once_the_hint_is_followed(
    running: Reservation, fake: FakeGateway, queue: Queue, django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        assert only(running, ONE)
    port = forward().public_port
    before = fake.lets_in(OTHER, port)
    sync()

    assert queue.forwards == [(forward().gateway_id, forward().pk)]
    assert (before, fake.lets_in(OTHER, port), fake.lets_in(ONE, port)) == (True, False, True)
    assert forward().applied


def test_connections_from_a_source_that_was_taken_off_are_ended_and_others_stay(
    running: Reservation, fake: FakeGateway
) -> None:
    to = forward().spec
    stays, goes = (ForwardSpec(*to_tuple(to), sources=(source,)) for source in (ONE, OTHER))
    fake.connections = {stays, goes}

    only(running, ONE)
    sync()

    assert fake.connections == {stays}


def to_tuple(spec: ForwardSpec) -> tuple[str, int, str, int]:
    return spec.public_address, spec.public_port, spec.node_address, spec.node_port


def test_the_round_finds_a_change_whose_hint_was_lost_and_calls_it_no_drift(
    running: Reservation, fake: FakeGateway
) -> None:
    only(running, ONE)

    drift = forwarding.check(Gateway.objects.get(), NOW)

    assert (drift, fake.lets_in(OTHER, forward().public_port)) == (0, False)


def test_the_rules_of_a_list_that_was_lifted_are_no_drift(running: Reservation, fake: FakeGateway) -> None:
    only(running, ONE)
    sync()
    only(running)

    drift = forwarding.check(Gateway.objects.get(), NOW)

    assert (drift, fake.lets_in(OTHER, forward().public_port)) == (0, True)


def test_a_rule_of_the_list_that_somebody_took_away_is_drift_and_comes_back(
    running: Reservation, fake: FakeGateway
) -> None:
    only(running, ONE)
    sync()
    rules = fake.rules
    fake.rules = type(rules)(rules.nat, tuple(rule for rule in rules.filter if f"-s {ONE}/32" not in rule))

    assert forwarding.check(Gateway.objects.get(), NOW) == 1
    assert fake.rules == rules


def test_a_list_that_was_changed_during_the_apply_is_not_marked_as_applied(
    running: Reservation, fake: FakeGateway
) -> None:
    only(running, ONE)
    fake.trouble.before = lambda call: void(Forward.objects.update(allowed_sources=[f"{OTHER}/32"], applied=False))

    sync()

    assert not forward().applied


def void(answer: object) -> None:
    """A hook answers nothing."""


def test_the_same_list_again_changes_nothing(running: Reservation, fake: FakeGateway) -> None:
    only(running, ONE)
    events = running.events.count()

    assert not only(running, f"{ONE}/32", ONE)
    assert running.events.count() == events


def test_it_is_in_the_history_and_in_the_audit_log(running: Reservation) -> None:
    only(running, ONE, "10.0.0.0/8")
    only(running, *[f"10.0.0.{n}" for n in range(32)])
    only(running)

    said = list(running.events.filter(new_state="").values_list("text", flat=True))
    entries = AuditEntry.objects.filter(action="reservation.allow").order_by("pk")
    assert said[0] == f"Only {ONE}, 10.0.0.0/8 may connect to port web."
    assert "and 26 more may connect" in said[1]
    assert said[2] == "Port web is open to everybody."
    assert entries[0].data == {"endpoint": "web", "sources": [f"{ONE}/32", "10.0.0.0/8"]}
    assert entries[0].actor == running.created_by


def test_a_list_can_be_made_before_the_start_and_is_there_from_the_first_instant(machines: Machines) -> None:
    make_node("one", cores=8)
    reservation = make_reservation()
    only(reservation, ONE)

    machines.settle(reservation)

    fake, port = machines.gateway(Gateway.objects.get()), forward().public_port
    assert (fake.lets_in(ONE, port), fake.lets_in(OTHER, port)) == (True, False)


def test_a_bad_entry_changes_nothing(running: Reservation) -> None:
    only(running, ONE)

    with pytest.raises(InvalidBooking):
        only(running, OTHER, "nonsense")

    assert forward().allowed_sources == [f"{ONE}/32"]


def test_what_is_over_or_has_no_such_port_is_refused(running: Reservation, machines: Machines) -> None:
    with pytest.raises(Endpoint.DoesNotExist):
        allow(reservation=running, endpoint="nothing", sources=[ONE], by="test", now=NOW)
    actions.end(reservation=running, text="Deleted.", by="test", now=NOW)

    with pytest.raises(CannotRestrict, match="It is over"):
        only(running, ONE)


def test_where_the_node_is_reached_directly_nobody_can_be_held_back(running: Reservation) -> None:
    Gateway.objects.update(driver=Gateway.Driver.DIRECT)

    with pytest.raises(CannotRestrict, match="no gateway that could hold anybody back"):
        only(running, ONE)
    assert not only(running)  # nothing to do


# ---- it moves with the reservation ------------------------------------------------------------------------


def test_it_comes_along_to_another_node_of_the_gateway(running: Reservation, fake: FakeGateway) -> None:
    only(running, ONE)
    make_node("two", cores=8)
    claimed = claim(running.pk, NOW)
    assert claimed is not None

    moving.move(claimed, starting.container_of(claimed), "its node was lost", NOW)
    sync()

    port = forward().public_port
    assert forward().node.name == "two"
    assert (fake.lets_in(ONE, port), fake.lets_in(OTHER, port)) == (True, False)


def test_it_comes_along_to_another_gateway(running: Reservation) -> None:
    only(running, ONE)
    Node.objects.update(state=Node.State.DRAINING)
    elsewhere = make_gateway(name="far", public_address="198.18.0.2")
    make_node("two", cores=8, gateway=elsewhere)
    claimed = claim(running.pk, NOW)
    assert claimed is not None

    moving.move(claimed, starting.container_of(claimed), "its node is being emptied", NOW)

    assert (forward().gateway, forward().allowed_sources) == (elsewhere, [f"{ONE}/32"])


def test_it_comes_along_to_other_ports(running: Reservation) -> None:
    only(running, ONE)

    [fresh] = capacity.change_ports([forward()], NOW, actions.port_rest())

    assert fresh.allowed_sources == [f"{ONE}/32"]
