"""Volumes and their UUID: nobody gets, or loses, the data of another one whose volume had the same number."""

import uuid
from dataclasses import replace

import pytest

from compute import sftp, volumes
from compute.shell import CommandFailed, Host
from compute.spec import RemoteStore, VolumeSpec
from tests.contract.test_volumes import local, node, nodes, read, remote, server, store, write

__all__ = ["local", "node", "nodes", "remote", "server", "store"]
OURS, OTHER = str(uuid.UUID(int=1)), str(uuid.UUID(int=2**127 + 5))


@pytest.fixture(params=["local", "remote"])
def volume(request: pytest.FixtureRequest) -> VolumeSpec:
    """With a UUID; what the fixture below it removes has none, and so is removed whatever it is."""
    found: VolumeSpec = request.getfixturevalue(request.param)
    return replace(found, uuid=OURS)


def other(volume: VolumeSpec) -> VolumeSpec:
    """Of the same name, as a database restored from an older backup makes it."""
    return replace(volume, uuid=OTHER, fresh=True)


def test_the_file_system_gets_the_uuid_and_is_known_by_it(node: Host, volume: VolumeSpec) -> None:
    write(node, f"{volumes.attach(node, volume)}/kept", "as it was")
    source = node.run(["findmnt", "-n", "-o", "SOURCE", f"{volumes.MOUNTED_AT}/{volume.name}"]).strip()
    assert node.run(["blkid", "-p", "-s", "UUID", "-o", "value", source]).strip() == OURS
    volumes.detach(node, volume)

    assert read(node, f"{volumes.attach(node, replace(volume, fresh=False))}/kept") == "as it was"


def test_an_image_of_another_uuid_is_never_mounted(node: Host, volume: VolumeSpec) -> None:
    write(node, f"{volumes.attach(node, volume)}/secret", "another customer's")
    volumes.detach(node, volume)

    with pytest.raises(volumes.ForeignImage, match="another one than the database knows"):
        volumes.attach(node, other(volume))

    assert f"volumes/{volume.name}" not in volumes.list_mounted(node)
    assert read(node, f"{volumes.attach(node, volume)}/secret") == "another customer's"


def test_what_is_mounted_already_is_not_given_to_another_uuid(node: Host, volume: VolumeSpec) -> None:
    volumes.attach(node, volume)

    with pytest.raises(volumes.ForeignImage):
        volumes.attach(node, other(volume))


def test_an_older_volume_without_a_known_uuid_is_still_attached(node: Host, volume: VolumeSpec) -> None:
    write(node, f"{volumes.attach(node, volume)}/kept", "as it was")
    volumes.detach(node, volume)

    assert read(node, f"{volumes.attach(node, replace(volume, uuid='', fresh=False))}/kept") == "as it was"


def test_removing_a_local_volume_spares_another_ones_image(node: Host, local: VolumeSpec) -> None:
    volume = replace(local, uuid=OURS)
    volumes.attach(node, volume)

    volumes.remove_local(node, other(volume))
    assert volume.name in volumes.list_local(node)

    volumes.remove_local(node, volume)
    assert volume.name not in volumes.list_local(node)


def test_removing_a_remote_volume_spares_another_ones_image(
    node: Host, server: Host, store: RemoteStore, remote: VolumeSpec
) -> None:
    volume = replace(remote, uuid=OURS)
    volumes.attach(node, volume)
    volumes.detach(node, volume)

    volumes.remove_remote(server, store, volume.name, OTHER)
    assert volume.name in volumes.list_remote(server, store)

    volumes.remove_remote(server, store, volume.name, OURS)
    volumes.remove_remote(server, store, volume.name, OURS)
    assert volume.name not in volumes.list_remote(server, store)


def test_a_few_bytes_of_a_file_are_read_over_sftp(
    node: Host, server: Host, store: RemoteStore, remote: VolumeSpec
) -> None:
    volumes.attach(node, replace(remote, uuid=OTHER))
    path = f"{store.path}/{remote.name}.img"

    assert sftp.read_at(server, path, 1128, 16) == uuid.UUID(OTHER).bytes
    assert sftp.read_at(server, path, remote.size_gb * 10**9, 16) == b""
    assert sftp.read_at(server, f"{store.path}/nothing", 0, 16) is None
    with pytest.raises(CommandFailed, match="cannot be read"):
        sftp.read_at(server, store.path, 0, 16)
