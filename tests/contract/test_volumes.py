"""The promises of compute.volumes on the lab's nodes and its storage server. There is no fake of a file system."""

import secrets
from collections.abc import Iterator

import pytest

from compute import volumes
from compute.shell import CommandFailed, Host, SshOptions
from compute.spec import RemoteStore, VolumeSpec
from lab import Lab

KINDS = ["local", "remote"]


@pytest.fixture
def nodes(quiet_lab: Lab, ssh_options: SshOptions) -> list[Host]:
    return [Host(node.ssh, ssh_options) for node in quiet_lab.info.nodes]


@pytest.fixture
def node(nodes: list[Host]) -> Host:
    return nodes[0]


@pytest.fixture
def store(quiet_lab: Lab) -> RemoteStore:
    storage = quiet_lab.info.storage
    return RemoteStore(storage.ssh.split("@")[0], storage.address, storage.path)


@pytest.fixture
def server(quiet_lab: Lab, ssh_options: SshOptions) -> Host:
    """The storage server as the portal reaches it."""
    return Host(quiet_lab.info.storage.ssh, ssh_options)


@pytest.fixture
def remote(nodes: list[Host], store: RemoteStore, server: Host) -> Iterator[VolumeSpec]:
    volume = VolumeSpec(f"vol-contract-{secrets.token_hex(4)}", 1, store)
    yield volume
    for node in nodes:
        volumes.detach(node, volume)
    volumes.remove_remote(server, store, volume.name)


@pytest.fixture
def local(node: Host) -> Iterator[VolumeSpec]:
    volume = VolumeSpec(f"vol-contract-{secrets.token_hex(4)}", 1)
    yield volume
    volumes.remove_local(node, volume)


@pytest.fixture(params=KINDS)
def volume(request: pytest.FixtureRequest) -> VolumeSpec:
    found: VolumeSpec = request.getfixturevalue(request.param)
    return found


def write(node: Host, path: str, text: str) -> None:
    node.run(["sh", "-c", 'printf %s "$1" > "$2"', "sh", text, path])


def read(node: Host, path: str) -> str:
    return node.run(["cat", path])


def test_attaching_twice_mounts_once(node: Host, volume: VolumeSpec) -> None:
    first = volumes.attach(node, volume)
    second = volumes.attach(node, volume)

    mounts = node.run(["findmnt", "-rn", "-o", "TARGET"]).splitlines()
    assert first == second == f"/var/lib/berth/volumes/{volume.name}/data"
    assert mounts.count(f"/var/lib/berth/volumes/{volume.name}") == 1
    assert f"volumes/{volume.name}" in volumes.list_mounted(node)


def test_detaching_twice_and_detaching_nothing_is_success(node: Host, volume: VolumeSpec) -> None:
    volumes.detach(node, volume)
    volumes.attach(node, volume)

    volumes.detach(node, volume)
    volumes.detach(node, volume)

    assert not [place for place in volumes.list_mounted(node) if volume.name in place]
    assert volume.name not in node.run(["losetup", "-l", "-n", "-O", "BACK-FILE"])


def test_no_more_than_its_size_can_be_written(node: Host, volume: VolumeSpec) -> None:
    directory = volumes.attach(node, volume)

    node.run(["fallocate", "-l", str(8 * 10**8), f"{directory}/fits"])
    with pytest.raises(CommandFailed, match="No space left"):
        node.run(["fallocate", "-l", str(2 * 10**8), f"{directory}/too-much"])


def test_what_was_written_is_there_after_detaching_and_attaching(node: Host, volume: VolumeSpec) -> None:
    write(node, f"{volumes.attach(node, volume)}/kept", "as it was")

    volumes.detach(node, volume)
    directory = volumes.attach(node, volume)

    assert read(node, f"{directory}/kept") == "as it was"


def test_programs_in_a_volume_gain_no_rights_and_devices_are_dead(node: Host, volume: VolumeSpec) -> None:
    volumes.attach(node, volume)

    options = node.run(["findmnt", "-n", "-o", "OPTIONS", f"/var/lib/berth/volumes/{volume.name}"])

    assert {"nosuid", "nodev"} <= set(options.strip().split(","))


def test_a_removed_local_volume_is_gone_and_removing_it_again_is_success(node: Host, local: VolumeSpec) -> None:
    volumes.attach(node, local)
    assert local.name in volumes.list_local(node)

    volumes.remove_local(node, local)
    volumes.remove_local(node, local)

    assert local.name not in volumes.list_local(node)
    assert not [place for place in volumes.list_mounted(node) if local.name in place]


def test_a_remote_volume_follows_to_another_node(nodes: list[Host], remote: VolumeSpec) -> None:
    write(nodes[0], f"{volumes.attach(nodes[0], remote)}/kept", "it came along")
    volumes.detach(nodes[0], remote)

    directory = volumes.attach(nodes[1], remote)

    assert read(nodes[1], f"{directory}/kept") == "it came along"


def test_two_nodes_cannot_write_to_one_remote_volume(nodes: list[Host], remote: VolumeSpec) -> None:
    directory = volumes.attach(nodes[0], remote)

    with pytest.raises(CommandFailed):
        volumes.attach(nodes[1], remote)

    write(nodes[0], f"{directory}/still", "mine")
    assert read(nodes[0], f"{directory}/still") == "mine"
    assert not [place for place in volumes.list_mounted(nodes[1]) if place == f"volumes/{remote.name}"]


def test_the_server_lists_its_volumes_and_a_removed_one_is_gone(
    node: Host, server: Host, store: RemoteStore, remote: VolumeSpec
) -> None:
    before = volumes.list_remote(server, store)
    volumes.attach(node, remote)
    volumes.detach(node, remote)
    while_there = volumes.list_remote(server, store)

    volumes.remove_remote(server, store, remote.name)
    volumes.remove_remote(server, store, remote.name)

    assert while_there - before == {remote.name}
    assert remote.name not in volumes.list_remote(server, store)
