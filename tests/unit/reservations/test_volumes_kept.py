"""Volumes from the first attach to their removal: never made anew, deleted by their owner, swept from machines."""

from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import User
from compute import capacity, slots, volumes
from compute.capacity import NoCapacity
from compute.models import Node, StorageServer, Volume
from compute.scheduler import Request, Short
from compute.shell import Host, NoAnswer
from compute.spec import VolumeSpec
from reservations import actions, leftovers, quota
from reservations.models import Container, Orphan, Reservation, WorkspaceVolume
from tests.factories import (
    NOW,
    at,
    make_booking,
    make_node,
    make_reservation,
    make_service,
    make_storage,
    make_token,
    make_user,
    profile,
    workspace_of,
)
from tests.unit.conftest import Machines

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _ssh(machines: Machines) -> None:
    machines.with_ssh = True


@pytest.fixture
def user() -> User:
    return make_user("ada")


@pytest.fixture
def store(node: Node) -> StorageServer:
    return make_storage()


def book(user: User, code: str = "C3", **values: Any) -> Reservation:
    return make_reservation(user, service=make_service(mount_path="/data"), storage=profile(code), **values)


def end(machines: Machines, reservation: Reservation) -> Reservation:
    actions.end(reservation=Reservation.objects.get(pk=reservation.pk), text="Deleted.", by="test", now=NOW)
    return machines.settle(reservation)


def kept(machines: Machines, user: User) -> WorkspaceVolume:
    """A volume that was used, and that nobody uses now."""
    reservation = book(user)
    machines.reconcile(reservation)
    end(machines, reservation)
    return WorkspaceVolume.objects.get()


# ---- made once --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["C1", "C2", "C3"])
def test_only_the_first_attach_may_make_the_image(
    code: str, machines: Machines, user: User, store: StorageServer
) -> None:
    reservation = book(user, code)
    assert machines.reconcile(reservation).state == "running"

    volume = Volume.objects.get()
    assert volume.formatted_at == NOW
    assert not volume.spec.fresh
    assert Volume(pk=1, size_gb=1).spec.fresh


def test_an_attach_without_an_answer_leaves_the_volume_fresh(
    machines: Machines, user: User, store: StorageServer
) -> None:
    machines.storage.silent = True
    machines.reconcile(book(user))

    assert Volume.objects.get().formatted_at is None


def test_a_volume_that_was_read_before_its_first_attach_is_not_made_again_elsewhere(
    machines: Machines, user: User, store: StorageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node falls silent right after the attach; the same look then begins on the other one."""
    make_node("two")
    seen: list[bool] = []
    attach = volumes.attach

    def note(node: Host, volume: VolumeSpec) -> str:
        seen.append(volume.fresh)
        return attach(node, volume)

    monkeypatch.setattr(volumes, "attach", note)
    reservation = book(user)
    trouble = machines.engine(Container.objects.get().node).trouble

    def fall_silent(call: str) -> None:
        """Once before the volume's row is read, and for good after the attach."""
        trouble.silent = call == "create"
        if (call == "has_image" and trouble.calls.count(call) == 1) or seen:
            raise NoAnswer("silent")

    trouble.before = fall_silent
    machines.settle(reservation)

    assert seen[0]
    assert seen[1:]
    assert not any(seen[1:])


def test_a_silent_storage_server_is_waited_for_and_the_node_is_not_blamed(
    machines: Machines, user: User, store: StorageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(node: Host, volume: VolumeSpec) -> str:
        raise volumes.StorageSilent("the storage server of vol-1 does not answer")

    monkeypatch.setattr(volumes, "attach", silent)
    reservation = book(user)
    for _ in range(5):
        reservation = machines.reconcile(reservation)

    assert (reservation.state, reservation.generation) == ("starting", 1)
    assert "storage server" in reservation.reason
    assert Node.objects.get().health == "ok"


# ---- deleted by its owner ---------------------------------------------------------------------------------


def test_a_deleted_volume_no_longer_counts_and_is_then_removed(
    machines: Machines, user: User, store: StorageServer
) -> None:
    volume = kept(machines, user)
    assert machines.images_on_server == {volume.volume.machine_name}

    actions.delete_volume(volume=volume, by=user, now=NOW)
    assert quota.kept_gb(workspace_of(user)) == 0
    with pytest.raises(actions.InvalidBooking, match="no such volume"):
        book(user, volume=volume)

    leftovers.remove_deleted()
    assert machines.images_on_server == set()
    assert Volume.objects.get().state == "removed"


def test_a_silent_server_keeps_the_deletion_waiting(machines: Machines, user: User, store: StorageServer) -> None:
    volume = kept(machines, user)
    actions.delete_volume(volume=volume, by=user, now=NOW)
    machines.storage.silent = True

    leftovers.remove_deleted()

    assert Volume.objects.get().state == "removing"


def test_a_silent_server_is_asked_once_in_a_round_however_many_volumes_wait(
    machines: Machines, user: User, store: StorageServer
) -> None:
    first = kept(machines, user).volume
    actions.delete_volume(volume=WorkspaceVolume.objects.get(), by=user, now=NOW)
    Volume.objects.create(size_gb=1, kept=True, server=first.server, state=Volume.State.REMOVING)
    machines.storage.silent = True
    before = machines.storage.calls.count("remove_remote")

    leftovers.remove_deleted()

    assert machines.storage.calls.count("remove_remote") - before == 1


def test_a_volume_in_use_is_not_deleted(machines: Machines, user: User, store: StorageServer) -> None:
    reservation = book(user)

    with pytest.raises(actions.VolumeInUse, match=f"is used by reservation #{reservation.pk}"):
        actions.delete_volume(volume=WorkspaceVolume.objects.get(), by=user, now=NOW)

    assert Volume.objects.get().state == "detached"


def test_a_kept_volume_that_was_never_attached_goes_with_its_reservation(
    machines: Machines, user: User, store: StorageServer
) -> None:
    end(machines, book(user, start=at(5)))

    assert Volume.objects.get().state == "removing"


def test_a_kept_volume_that_was_used_stays(machines: Machines, user: User, store: StorageServer) -> None:
    assert kept(machines, user).volume.state == "detached"


# ---- room -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["C2", "C3"])
def test_no_more_is_promised_than_the_storage_server_has(code: str, user: User, node: Node) -> None:
    make_storage(capacity_gb=10)
    book(user, "C3", storage_gb=6)

    with pytest.raises(NoCapacity, match="no storage server has 5 GB left"):
        book(user, code, storage_gb=5)
    assert book(user, code, storage_gb=4).storage_gb == 4


@pytest.mark.parametrize("code", ["C2", "C3"])
def test_a_node_of_which_there_is_only_the_engine_gets_no_remote_volume(
    code: str, user: User, store: StorageServer, node: Node
) -> None:
    Node.objects.update(ssh="")

    with pytest.raises(NoCapacity, match="that can mount remote storage"):
        book(user, code)
    assert book(user, "C1").state == "booked"


def test_neither_now_nor_later(node: Node) -> None:
    Node.objects.update(ssh="")
    request = Request(512, make_booking().size.cores, NOW, at(1), needs_host=True)

    assert capacity.choose(request) == Short.NO_HOST
    assert slots.next_slot(request) is None


# ---- the round over the nodes -----------------------------------------------------------------------------


class Disk:
    """What is on the node."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mounted: set[str] = set()
        self.images: set[str] = set()
        self.silent = False
        monkeypatch.setattr(volumes, "list_both", self.list_both)
        monkeypatch.setattr(volumes, "unmount", self.unmount)
        monkeypatch.setattr(volumes, "remove_local", self.remove_local)

    def list_both(self, host: Host) -> tuple[set[str], set[str]]:
        if self.silent:
            raise NoAnswer("silent")
        return {f"volumes/{name}" for name in self.mounted}, set(self.images)

    def unmount(self, host: Host, name: str) -> None:
        self.mounted.discard(name)

    def remove_local(self, host: Host, volume: VolumeSpec) -> None:
        self.mounted.discard(volume.name)
        self.images.discard(volume.name)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def sweep_twice(node: Node) -> None:
    leftovers.sweep(node, NOW)
    leftovers.sweep(node, at(1 / 60))


def test_a_mount_that_nobody_uses_is_taken_away_at_the_second_sight(disk: Disk, node: Node) -> None:
    volume = Volume.objects.create(size_gb=1)
    disk.mounted = {volume.machine_name}

    leftovers.sweep(node, NOW)
    assert disk.mounted
    leftovers.sweep(node, at(59 / 3600))
    assert disk.mounted
    leftovers.sweep(node, at(60 / 3600))
    assert not disk.mounted
    assert not Orphan.objects.exists()


def test_what_is_attached_or_may_still_be_used_stays(
    disk: Disk, machines: Machines, user: User, store: StorageServer, node: Node
) -> None:
    machines.reconcile(book(user))
    attached = Volume.objects.get()
    disk.mounted = {attached.machine_name, "vol-contract-1"}
    Volume.objects.update(node=None, state="detached")  # its container is there all the same

    sweep_twice(node)

    assert disk.mounted == {attached.machine_name, "vol-contract-1"}


def test_local_images_go_when_their_volume_was_removed_and_unknown_ones_stay(disk: Disk, node: Node) -> None:
    removed = Volume.objects.create(size_gb=1, state="removed")
    live = Volume.objects.create(size_gb=1, state="attached", node=node)
    disk.images = {removed.machine_name, live.machine_name, "vol-999999"}
    disk.mounted = {removed.machine_name}

    sweep_twice(node)

    assert disk.images == {live.machine_name, "vol-999999"}
    assert not disk.mounted


def test_a_silent_node_concludes_nothing(disk: Disk, node: Node) -> None:
    Orphan.objects.create(node=node, name="volume:vol-1", first_seen_at=NOW)
    disk.silent = True

    leftovers.sweep(node, at(1))

    assert Orphan.objects.exists()


# ---- pages and API ----------------------------------------------------------------------------------------


@pytest.fixture
def ada(user: User, settings: Any) -> Client:
    settings.SECURE_SSL_REDIRECT = False
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def call(user: User, method: str, path: str) -> Any:
    return Client().generic(method, f"/api/v1{path}", headers={"Authorization": f"Bearer {make_token(user)}"})


def test_the_list_shows_kept_volumes_and_leads_to_their_deletion(
    machines: Machines, user: User, store: StorageServer, ada: Client
) -> None:
    volume = kept(machines, user)
    path = f"/reservations/volumes/{volume.pk}/delete/"

    assert path in ada.get("/reservations/").content.decode()
    assert volume.name in ada.get(path).content.decode()
    assert ada.post(path).status_code == 302
    assert Volume.objects.get().state == "removing"
    assert volume.name not in ada.get("/reservations/?show=past").content.decode().split("Kept volumes")[1:]
    assert ada.get(path).status_code == 404


def test_the_page_refuses_while_it_is_used(user: User, store: StorageServer, ada: Client) -> None:
    reservation = book(user, start=timezone.now(), now=timezone.now())
    path = f"/reservations/volumes/{reservation.kept_volume_id}/delete/"

    assert "Delete volume" not in ada.get(path).content.decode()
    assert "delete that one first" in ada.post(path, follow=True).content.decode()
    assert Volume.objects.get().state == "detached"


def test_somebody_elses_volume_does_not_exist(
    machines: Machines, user: User, store: StorageServer, ada: Client
) -> None:
    eve = make_user("eve")
    volume = kept(machines, eve)

    assert ada.post(f"/reservations/volumes/{volume.pk}/delete/").status_code == 404
    assert call(user, "DELETE", f"/volumes/{volume.pk}").status_code == 404
    assert call(user, "GET", "/volumes").json() == []
    assert Volume.objects.get().state == "detached"


def test_the_api_lists_and_deletes(machines: Machines, user: User, store: StorageServer, ada: Client) -> None:
    volume = kept(machines, user)

    (row,) = call(user, "GET", "/volumes").json()
    assert (row["id"], row["name"], row["service"], row["used_by"]) == (volume.pk, volume.name, "nginx", None)
    assert call(user, "DELETE", f"/volumes/{volume.pk}").status_code == 202
    assert call(user, "GET", "/volumes").json() == []


def test_the_api_refuses_while_it_is_used(user: User, store: StorageServer, ada: Client) -> None:
    reservation = book(user)

    answer = call(user, "DELETE", f"/volumes/{reservation.kept_volume_id}")

    assert (answer.status_code, answer.json()["code"]) == (409, "in_use")
    assert call(user, "GET", "/volumes").json()[0]["used_by"] == reservation.pk
