"""manage.py move, end_reservation: one reservation leaves its node, or ends, because an operator says so."""

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from accounts.models import AuditEntry
from compute import clocks
from compute.models import Allocation, Forward, Node, Volume
from reservations import claims, relocation
from reservations.management.commands import move as move_command
from reservations.models import Container, Event, Reservation, UsagePeriod
from tests.factories import at, make_gateway, make_node, make_reservation, make_service, make_storage, profile
from tests.unit.conftest import Machines
from tests.unit.reservations.looks import nothing_is_left, story

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _the_tests_own_clock(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django.utils.timezone.now", machines.clock)
    monkeypatch.setattr(clocks, "require", lambda: None)
    monkeypatch.setattr(move_command, "WAIT_S", 0.0)


@pytest.fixture
def nodes(machines: Machines) -> list[Node]:
    """One, on which everything begins, then two, then zero."""
    return [
        make_node("one", ram_mib=9000, cores=8),
        make_node("two", ram_mib=8000, cores=8),
        make_node("zero", ram_mib=7000, cores=8),
    ]


def run(*words: object) -> str:
    out = StringIO()
    call_command(*map(str, words), stdout=out)
    return out.getvalue()


def refusal(*words: object) -> str:
    before = list(Event.objects.values_list("pk", flat=True)), list(Allocation.objects.values_list("pk", flat=True))
    with pytest.raises(CommandError) as refused:
        run(*words)
    after = list(Event.objects.values_list("pk", flat=True)), list(Allocation.objects.values_list("pk", flat=True))
    assert after == before
    return str(refused.value)


def run_one(machines: Machines, **values: Any) -> Reservation:
    reservation = machines.settle(make_reservation(**values))
    assert (reservation.state, reservation.node_name) == ("running", "one")
    machines.clock.forward(minutes=5)
    return reservation


# ---- a move -----------------------------------------------------------------------------------------------


def test_what_runs_is_moved_and_keeps_its_address(machines: Machines, nodes: list[Node]) -> None:
    reservation = run_one(machines)
    address = [endpoint.address for endpoint in reservation.endpoints.all()]

    said = run("move", reservation.pk)
    moved = machines.settle(reservation)

    assert said == f"#{reservation.pk} nginx moves from one to two.\n"
    assert (moved.state, moved.generation, moved.node_name) == ("running", 2, "two")
    assert [endpoint.address for endpoint in moved.endpoints.all()] == address
    assert Forward.objects.get().node.name == "two"
    assert machines.engine(nodes[0]).empty
    assert story(moved) == ["booked", "starting", "running", "starting", "running"]
    event = Event.objects.get(text="An operator moves it; it is started on another node.")
    assert event.by == "manage.py move"
    audit = AuditEntry.objects.get(action="reservation.move")
    assert (audit.target, audit.data) == (f"reservation:{reservation.pk}", {"from": "one", "to": "two"})


def test_it_comes_to_the_node_that_was_named(machines: Machines, nodes: list[Node]) -> None:
    reservation = run_one(machines)

    run("move", reservation.pk, "--to=zero")

    assert machines.settle(reservation).node_name == "zero"


def test_a_move_is_not_billed_and_nothing_is_billed_twice(machines: Machines, nodes: list[Node]) -> None:
    reservation = run_one(machines)
    asked = machines.clock.now
    run("move", reservation.pk)
    machines.clock.forward(seconds=20)

    machines.settle(reservation)

    first, second = UsagePeriod.objects.order_by("during")
    assert first.during.upper == asked
    assert second.during.lower >= asked + timedelta(seconds=20)
    assert second.during.upper is None


def test_what_ended_unseen_is_billed_until_its_last_sight(machines: Machines, nodes: list[Node]) -> None:
    reservation = run_one(machines)
    seen_last = Container.objects.get().observed_at
    machines.engine(nodes[0]).end_by_itself(f"berth-{reservation.pk}-1-main")

    run("move", reservation.pk)

    assert not UsagePeriod.objects.filter(during__endswith__gt=seen_last).exists()
    assert not UsagePeriod.objects.filter(during__endswith=None).exists()


def test_what_is_booked_for_later_gets_a_place_elsewhere(machines: Machines, nodes: list[Node]) -> None:
    reservation = make_reservation(start=at(5))

    run("move", reservation.pk)

    row = Reservation.objects.get()
    assert (row.state, row.node_name, row.claim_token) == ("booked", "two", None)
    assert [a.node.name for a in Allocation.objects.held()] == ["two"]


def test_a_stopped_one_moves_and_runs_there_when_it_is_wanted_again(machines: Machines, nodes: list[Node]) -> None:
    reservation = run_one(machines)
    Reservation.objects.update(wish="stop")
    machines.reconcile(reservation)

    run("move", reservation.pk)
    stopped = machines.reconcile(reservation)
    Reservation.objects.update(wish="run")
    back = machines.settle(reservation)

    assert (stopped.state, back.state, back.node_name) == ("stopped", "running", "two")
    assert machines.engine(nodes[0]).empty
    assert UsagePeriod.objects.count() == 2


def test_a_remote_volume_comes_along(machines: Machines, nodes: list[Node]) -> None:
    machines.with_ssh = True
    make_storage()
    reservation = run_one(machines, service=make_service(mount_path="/data"), storage=profile("C2"))

    run("move", reservation.pk)
    machines.settle(reservation)

    assert Volume.objects.get().node == nodes[1]


def test_a_moved_one_ends_like_every_other(machines: Machines, nodes: list[Node]) -> None:
    reservation = run_one(machines)
    run("move", reservation.pk)
    machines.settle(reservation)

    run("end_reservation", reservation.pk, "--reason=The rack is moved.")
    over = machines.settle(reservation)

    assert over.state == "ended"
    assert nothing_is_left(machines)


def test_a_dry_run_of_a_move_changes_nothing(machines: Machines, nodes: list[Node]) -> None:
    reservation = run_one(machines)

    said = run("move", reservation.pk, "--dry-run")

    assert "would move from one to two. Nothing was changed." in said
    assert (Reservation.objects.get().generation, Allocation.objects.count()) == (1, 1)
    assert not AuditEntry.objects.filter(action="reservation.move").exists()


# ---- refused ----------------------------------------------------------------------------------------------


def test_local_data_is_only_lost_when_that_was_said(machines: Machines, nodes: list[Node]) -> None:
    machines.with_ssh = True
    reservation = run_one(machines, service=make_service(mount_path="/data"))

    refused = [refusal("move", reservation.pk), refusal("move", reservation.pk, "--dry-run")]
    run("move", reservation.pk, "--lose-local-data")
    moved = machines.settle(reservation)

    assert all("on the disk of one and would be lost" in sentence for sentence in refused)
    assert (moved.state, moved.node_name) == ("running", "two")
    assert Event.objects.filter(text__contains="What was on its local volume is lost.").count() == 1


def test_where_nothing_fits_it_stays(machines: Machines, nodes: list[Node]) -> None:
    reservation = run_one(machines)
    Node.objects.exclude(name="one").update(ram_mib=100)

    refused = [refusal("move", reservation.pk), refusal("move", reservation.pk, "--dry-run")]
    named = refusal("move", reservation.pk, "--to=two")

    assert all("It fits nowhere else: No resources available" in sentence for sentence in refused)
    assert "two has no room for it" in named
    assert machines.settle(reservation).node_name == "one"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"state": "cordoned"}, "two is cordoned: it is given nothing new"),
        ({"health": "unknown", "health_reason": "no answer"}, "two is not in service: no answer"),
        ({"disk_problem": "Its disk is nearly full."}, "two is given nothing new: Its disk is nearly full."),
    ],
)
def test_a_node_that_takes_nothing_is_refused(
    change: dict[str, str], sentence: str, machines: Machines, nodes: list[Node]
) -> None:
    reservation = run_one(machines)
    Node.objects.filter(name="two").update(**change)

    assert sentence in refusal("move", reservation.pk, "--to=two")


def test_its_address_never_changes_by_a_move(machines: Machines, nodes: list[Node]) -> None:
    other = make_gateway(name="other", public_address="198.18.9.9")
    make_node("far", ram_mib=90_000, gateway=other)
    Node.objects.filter(name__in=["two", "zero"]).update(state="cordoned")
    reservation = machines.settle(make_reservation())
    assert reservation.node_name == "far"
    Node.objects.filter(name__in=["two", "zero"]).update(state="active")

    assert "behind another gateway (gate)" in refusal("move", reservation.pk, "--to=two")
    assert "It fits nowhere else" in refusal("move", reservation.pk)


def test_a_node_without_ssh_cannot_mount_its_remote_volume(machines: Machines, nodes: list[Node]) -> None:
    machines.with_ssh = True
    make_storage()
    reservation = run_one(machines, service=make_service(mount_path="/data"), storage=profile("C2"))
    Node.objects.filter(name="two").update(ssh="")

    assert "no SSH to two" in refusal("move", reservation.pk, "--to=two")


def test_a_silent_node_keeps_what_it_has_until_it_is_lost(machines: Machines, nodes: list[Node]) -> None:
    reservation = run_one(machines)
    machines.engine(nodes[0]).trouble.silent = True
    unseen = refusal("move", reservation.pk)
    Node.objects.filter(name="one").update(health="unknown")
    known = refusal("move", reservation.pk)

    assert "does not tell how its container is" in unseen
    assert "started elsewhere by itself" in known


def test_one_in_a_workers_hands_is_left_to_it(machines: Machines, nodes: list[Node]) -> None:
    reservation = run_one(machines)
    claimed = claims.claim(reservation.pk, machines.clock.now)

    assert "A worker is looking at it" in refusal("move", reservation.pk)
    assert claimed
    assert Reservation.objects.get().claim_token == claimed.claim_token


def test_one_that_was_ended_meanwhile_is_not_moved(
    machines: Machines, nodes: list[Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    reservation = run_one(machines)
    look = relocation._last_served

    def ended_meanwhile(row: Reservation, container: Container) -> object:
        run("end_reservation", row.pk, "--reason=Now.")
        return look(row, container)

    monkeypatch.setattr(relocation, "_last_served", ended_meanwhile)
    with pytest.raises(CommandError, match=r"is ending already|Somebody else changed it"):
        run("move", reservation.pk)

    assert machines.settle(reservation).state == "ended"
    assert nothing_is_left(machines)


@pytest.mark.parametrize(
    ("words", "sentence"), [(["--to=nowhere"], "no node 'nowhere'"), (["--to=one"], "on one already")]
)
def test_a_place_that_cannot_be_is_named(
    words: list[str], sentence: str, machines: Machines, nodes: list[Node]
) -> None:
    reservation = run_one(machines)

    assert sentence in refusal("move", reservation.pk, *words)


def test_what_is_over_is_not_moved(machines: Machines, nodes: list[Node]) -> None:
    reservation = run_one(machines)
    machines.clock.now = at(2)
    late = refusal("move", reservation.pk)
    machines.settle(reservation)

    assert "Its time is over." in late
    assert "It is ended already." in refusal("move", reservation.pk)


@pytest.mark.parametrize("words", [["move"], ["end_reservation", "--reason=x"]])
@pytest.mark.parametrize("number", ["4711", "0", "-1", "99999999999999999999"])
def test_a_number_that_nobody_has_is_named(words: list[str], number: str) -> None:
    command, *more = words
    with pytest.raises(CommandError, match=f"There is no reservation {number}"):
        run(command, *more, "--", number)


# ---- an end -----------------------------------------------------------------------------------------------


def test_the_customer_reads_why_it_was_ended(machines: Machines, nodes: list[Node]) -> None:
    reservation = run_one(machines)

    said = run("end_reservation", reservation.pk, "--reason= The rack is moved. ")
    ending = Reservation.objects.get()
    machines.settle(reservation)
    again = run("end_reservation", reservation.pk, "--reason=Once more.")

    assert "is being ended" in said
    assert ending.reason == "Ended by an operator: The rack is moved."
    assert Event.objects.get(new_state="ending").by == "manage.py end_reservation"
    assert AuditEntry.objects.filter(action="reservation.end").count() == 1
    assert "is over already; nothing is changed" in again


def test_a_dry_run_of_an_end_ends_nothing(machines: Machines, nodes: list[Node]) -> None:
    reservation = run_one(machines)

    said = run("end_reservation", reservation.pk, "--reason=Later.", "--dry-run")

    assert "would be ended" in said
    assert Reservation.objects.get().state == "running"


def test_when_one_number_is_wrong_none_is_ended(machines: Machines, nodes: list[Node]) -> None:
    reservation = run_one(machines)

    with pytest.raises(CommandError, match="There is no reservation 4711"):
        run("end_reservation", reservation.pk, 4711, "--reason=x")

    assert Reservation.objects.get().state == "running"


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [("", "must say something"), ("  ", "must say something"), ("x" * 301, "at most 300"), ("\x00", "--reason")],
)
def test_a_reason_that_nobody_can_read_ends_nothing(
    reason: str, sentence: str, machines: Machines, nodes: list[Node]
) -> None:
    reservation = run_one(machines)

    with pytest.raises(CommandError, match=sentence):
        run("end_reservation", reservation.pk, f"--reason={reason}")

    assert Reservation.objects.get().state == "running"


# ---- a restart --------------------------------------------------------------------------------------------


def test_one_is_restarted_where_it_is_and_the_customer_reads_why(machines: Machines, nodes: list[Node]) -> None:
    reservation = run_one(machines)

    preview = run("restart_reservation", reservation.pk, "--reason=It hangs.", "--dry-run")
    said = run("restart_reservation", reservation.pk, "--reason=It hangs.")
    again = machines.settle(machines.reconcile(reservation))

    assert "would be restarted" in preview
    assert "is being restarted" in said
    assert (again.state, again.node_name, again.generation) == ("running", "one", 1)
    assert story(again) == ["booked", "starting", "running", "starting", "running"]
    assert Event.objects.filter(text__contains="It hangs.").count() == 1
    assert AuditEntry.objects.filter(action="reservation.restart").count() == 1


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_what_does_not_run_is_not_restarted(more: list[str], machines: Machines, nodes: list[Node]) -> None:
    reservation = make_reservation(start=at(3))

    assert "does not run" in refusal("restart_reservation", reservation.pk, "--reason=It hangs.", *more)
