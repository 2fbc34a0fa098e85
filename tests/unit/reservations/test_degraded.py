"""Volumes that are not well: told once, healed when their storage answers; images that no row knows."""

from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import User
from compute import drivers, storage, volumes
from compute.capacity import NoCapacity
from compute.models import Node, StorageServer, Volume
from compute.shell import CommandFailed, Host, NoAnswer
from compute.spec import RemoteStore, VolumeSpec
from compute.volumes import Condition
from reservations import actions, degraded, doctor, drift, leftovers
from reservations.models import Container, Reservation
from tests.factories import (
    NOW,
    make_booking,
    make_reservation,
    make_service,
    make_storage,
    make_user,
    profile,
    workspace_of,
)
from tests.unit.conftest import Machines

pytestmark = pytest.mark.django_db


class Conditions:
    """Every volume is in this condition, and its storage answers or not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.how, self.answers, self.silent = Condition.WELL, True, False
        monkeypatch.setattr(volumes, "check", self.check)
        monkeypatch.setattr(volumes, "storage_answers", lambda node, volume: self.answers)

    def check(self, node: Host, attached: list[VolumeSpec]) -> dict[str, Condition]:
        if self.silent:
            raise NoAnswer("node is silent")
        return {volume.name: self.how for volume in attached}


@pytest.fixture
def conditions(monkeypatch: pytest.MonkeyPatch) -> Conditions:
    return Conditions(monkeypatch)


@pytest.fixture
def server(node: Node) -> StorageServer:
    return make_storage()


@pytest.fixture
def running(machines: Machines, server: StorageServer, conditions: Conditions) -> Reservation:
    machines.with_ssh = True
    service, user = make_service(mount_path="/data"), make_user("ada")
    reservation = machines.reconcile(make_reservation(user, service=service, storage=profile("C2")))
    assert reservation.state == "running"
    return reservation


def look(machines: Machines) -> str:
    degraded.check(Node.objects.get(), machines.clock.now)
    return Volume.objects.get().problem


def told(reservation: Reservation) -> list[str]:
    return list(reservation.events.filter(new_state="").order_by("pk").values_list("text", flat=True))


def test_a_well_volume_is_nothing_to_tell(machines: Machines, running: Reservation) -> None:
    assert look(machines) == ""
    assert told(running) == []
    assert running.notes == []


@pytest.mark.parametrize("how", [Condition.HUNG, Condition.DEAD, Condition.READ_ONLY, Condition.GONE])
def test_a_degraded_volume_is_told_once_and_shown(
    how: Condition, machines: Machines, running: Reservation, conditions: Conditions
) -> None:
    conditions.how = how

    assert look(machines) == look(machines) == degraded.PROBLEMS[how]

    assert told(running) == [f"{degraded.PROBLEMS[how]} {degraded.WILL_HEAL}"]
    assert Reservation.objects.get().notes == [degraded.PROBLEMS[how]]


def test_what_is_well_again_by_itself_is_told(machines: Machines, running: Reservation, conditions: Conditions) -> None:
    conditions.how = Condition.HUNG
    look(machines)
    conditions.how = Condition.WELL

    assert look(machines) == ""
    assert told(running)[-1] == degraded.WELL_AGAIN
    assert Container.objects.get().presence == "running"


@pytest.mark.parametrize("how", [Condition.BUSY, None])
def test_without_an_answer_nothing_is_concluded(
    how: Condition | None, machines: Machines, running: Reservation, conditions: Conditions
) -> None:
    conditions.how = Condition.DEAD
    before = look(machines)
    conditions.how, conditions.silent = how or Condition.WELL, how is None

    assert look(machines) == before != ""


def test_it_is_started_again_when_its_storage_answers(
    machines: Machines, running: Reservation, conditions: Conditions, sent_hints: list[int]
) -> None:
    conditions.how = Condition.READ_ONLY
    look(machines)
    assert running.pk in sent_hints
    engine = machines.engine(Node.objects.get())
    before = len(engine.trouble.calls)

    def now_well(call: str) -> None:
        if call == "attach":
            conditions.how = Condition.WELL

    machines.storage.before = now_well
    after = machines.reconcile(running)

    assert (after.state, after.generation, after.restarts) == ("running", 1, 0)
    assert "stop" in engine.trouble.calls[before:]
    assert Volume.objects.get().problem == ""
    assert degraded.MOUNTED_ANEW in after.events.values_list("text", flat=True)


@pytest.mark.parametrize("why", ["the server is known to be silent", "the node cannot reach it", "it only hangs"])
def test_nothing_is_stopped_before_its_storage_answers(
    why: str, machines: Machines, running: Reservation, conditions: Conditions, server: StorageServer
) -> None:
    conditions.how = Condition.HUNG if "hangs" in why else Condition.DEAD
    conditions.answers = "reach" not in why
    if "known" in why:
        StorageServer.objects.update(problem="It does not answer")
    look(machines)

    assert machines.reconcile(running).state == "running"
    assert "stop" not in machines.engine(Node.objects.get()).trouble.calls


def test_it_is_not_started_again_and_again(machines: Machines, running: Reservation, conditions: Conditions) -> None:
    conditions.how = Condition.DEAD
    look(machines)
    machines.reconcile(running)
    calls = machines.engine(Node.objects.get()).trouble.calls
    look(machines)
    machines.reconcile(running)
    assert calls.count("stop") == 1

    machines.clock.now += timedelta(minutes=3)
    machines.reconcile(running)
    assert calls.count("stop") == 2


def test_what_is_not_in_use_is_not_degraded(machines: Machines, running: Reservation, conditions: Conditions) -> None:
    conditions.how = Condition.DEAD
    look(machines)
    degraded.forget()
    assert Volume.objects.get().problem

    Reservation.objects.update(state="stopped")
    degraded.forget()
    assert Volume.objects.get().problem == ""


def test_doctor_names_it(machines: Machines, running: Reservation, monkeypatch: pytest.MonkeyPatch) -> None:
    Volume.objects.update(problem="It is not well.")
    monkeypatch.setattr(volumes, "list_mounted", lambda host: set())
    monkeypatch.setattr(volumes, "list_local", lambda host: set())

    found = [finding.sentence for finding in drift._volumes(Node.objects.get())]

    assert any("is degraded: It is not well." in sentence for sentence in found)


def test_doctor_names_it_although_its_node_does_not_tell_of_mounts(
    machines: Machines, running: Reservation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(host: Host) -> set[str]:
        raise NoAnswer("no SSH connection")

    Volume.objects.update(problem="It is not well.")
    monkeypatch.setattr(volumes, "list_mounted", silent)

    found = [finding.sentence for finding in doctor.examine(NOW)]

    assert any("is degraded: It is not well." in sentence for sentence in found)
    assert any("could not be checked" in sentence for sentence in found)


def test_doctor_names_it_although_it_is_ill_in_another_way_at_the_second_look(
    machines: Machines, running: Reservation
) -> None:
    looks = []
    for how in (Condition.HUNG, Condition.DEAD):
        Volume.objects.update(problem=degraded.PROBLEMS[how])
        looks.append(doctor.examine(NOW))

    found = [finding.sentence for finding in doctor.lasting(*looks)]

    assert [sentence for sentence in found if "is degraded: The connection to its storage was lost" in sentence]


# ---- storage servers ----------------------------------------------------------------------------------------


class Server:
    def __init__(self, answer: str | Exception) -> None:
        self.answer = answer

    def sftp(self, commands: list[str], *, timeout_s: float = 20) -> str:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


DF = "sftp> df /volumes\n        Size         Used        Avail       (root)    %Capacity\n  100  {0}  2  2  {0}%\n"


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (DF.format(97), ""),
        (DF.format(98), "Its disk is full to 98 %."),
        (NoAnswer("silent"), "It does not answer: silent"),
        (CommandFailed("store", ["sftp"], 1, "no"), "It does not answer: sftp on store failed with exit code 1: no"),
    ],
)
def test_a_probe_writes_how_the_server_is(
    answer: str | Exception, problem: str, server: StorageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drivers, "storage", lambda row: Server(answer))

    assert storage.probe(server, NOW) == (not problem)

    server.refresh_from_db()
    assert server.problem == problem
    assert (server.last_seen_at == NOW) == isinstance(answer, str)


def test_a_server_that_is_back_has_those_looked_at_that_wait_for_it(
    machines: Machines,
    running: Reservation,
    conditions: Conditions,
    monkeypatch: pytest.MonkeyPatch,
    sent_hints: list[int],
) -> None:
    conditions.how = Condition.DEAD
    StorageServer.objects.update(problem="It does not answer")
    look(machines)
    sent_hints.clear()
    monkeypatch.setattr(drivers, "storage", lambda row: Server(DF.format(5)))

    degraded.check_server(StorageServer.objects.get(), NOW)
    degraded.check_server(StorageServer.objects.get(), NOW)

    assert sent_hints == [running.pk]


def test_a_server_that_is_not_well_gets_no_new_volumes(server: StorageServer, machines: Machines) -> None:
    StorageServer.objects.filter(pk=server.pk).update(problem="It does not answer")
    with pytest.raises(NoCapacity, match="storage server gives no answer"):
        actions.pick_storage(1)
    user: User = make_user("eve")
    booking = make_booking(service=make_service(mount_path="/data"), storage=profile("C3"))
    with pytest.raises(NoCapacity, match="storage server"):
        actions.book(booking=booking, workspace=workspace_of(user), by=user, now=timezone.now())

    server.pk, server.name, server._state.adding = None, "store2", True
    server.save()
    other = StorageServer.objects.get(name="store2")
    assert actions.pick_storage(1) == other


# ---- images that no row knows ---------------------------------------------------------------------------------


def sequence() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT last_value FROM compute_volume_id_seq")
        return int(cursor.fetchone()[0])


def test_the_numbers_of_unknown_images_are_skipped_and_never_gone_back_to(db: None) -> None:
    start = sequence()

    leftovers.skip_known_ids([f"vol-{start + 50}", "notes", "vol-1"])
    assert sequence() == start + 50
    leftovers.skip_known_ids([f"vol-{start + 3}"])
    leftovers.skip_known_ids([])

    assert Volume.objects.create(size_gb=1).pk == start + 51


def test_unknown_images_are_told_and_their_numbers_skipped(
    machines: Machines, server: StorageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines.with_ssh = True
    Node.objects.update(ssh="root@one")
    known = Volume.objects.create(size_gb=1, server=server)
    unknown = f"vol-{known.pk + 70}"

    def list_remote(portal: Host, store: RemoteStore) -> set[str]:
        return {known.machine_name, unknown}

    monkeypatch.setattr(volumes, "list_remote", list_remote)
    monkeypatch.setattr(volumes, "list_local", lambda host: {"vol-900000", "lost+found"})
    monkeypatch.setattr(volumes, "list_mounted", lambda host: set())

    leftovers.sweep_servers()
    assert sequence() == known.pk + 70
    node = Node.objects.get()
    told = [(found.where, found.sentence) for found in drift._volumes(node)]
    told += [(found.where, found.sentence) for found in doctor._storage(NOW)]
    assert [found for found in told if "does not know" in found[1]] == [
        (node.name, "the image of vol-900000 is there, and the database does not know it"),
        (server.name, f"{unknown} is stored, and the database does not know it"),
    ]
