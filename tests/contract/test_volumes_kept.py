"""What volumes promise when the storage server, or an earlier step, is not as it should be."""

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest

from compute import volumes
from compute.shell import CommandFailed, Host
from compute.spec import VolumeSpec
from lab import Lab
from tests.contract.test_volumes import local, node, nodes, read, remote, server, store, volume, write
from tests.live import wait_for

__all__ = ["local", "node", "nodes", "remote", "server", "store", "volume"]


@pytest.fixture
def silent_storage(quiet_lab: Lab) -> Iterator[None]:
    quiet_lab.stop_machine("storage")
    yield
    quiet_lab.start_machine("storage")


def kill_sshfs(node: Host, name: str) -> None:
    """The store's program dies; its mount stays, and nobody can look at it."""
    node.run(["sh", "-c", f"kill -9 $(pgrep -f '[s]shfs.*/stores/{name}$')"])
    with pytest.raises(CommandFailed, match="not connected"):
        node.run(["stat", f"{volumes.ROOT}/stores/{name}"])


def mounts_of(node: Host, name: str) -> list[str]:
    return [place for place in node.run(["cut", "-d ", "-f5", "/proc/self/mountinfo"]).split() if name in place]


def test_the_missing_image_of_a_used_volume_is_never_made_anew(node: Host, volume: VolumeSpec) -> None:
    with pytest.raises(CommandFailed, match=f"the image of {volume.name} is missing"):
        volumes.attach(node, replace(volume, fresh=False))

    assert f"volumes/{volume.name}" not in volumes.list_mounted(node)
    assert volume.name not in volumes.list_local(node)


def test_a_used_volume_is_attached_with_what_is_in_it(node: Host, volume: VolumeSpec) -> None:
    write(node, f"{volumes.attach(node, volume)}/kept", "as it was")
    volumes.detach(node, volume)

    assert read(node, f"{volumes.attach(node, replace(volume, fresh=False))}/kept") == "as it was"


@contextmanager
def a_step_goes_on(lab: Lab, name: str) -> Iterator[None]:
    """Something on the first node holds the volume's lock, from the beginning to the end of the body."""
    lock, node = f"/run/berth-{name}.lock", lab.info.nodes[0].name
    holder = lab.popen(node, ["flock", lock, "cat"], stdin=subprocess.PIPE)
    try:
        wait_for(lambda: lab.exec(node, ["flock", "-n", lock, "true"], check=False).returncode, seconds=10)
        yield
    finally:
        holder.communicate(timeout=10)  # the end of its input: it lets go


def test_attach_and_detach_of_one_volume_take_turns(quiet_lab: Lab, node: Host, volume: VolumeSpec) -> None:
    volumes.attach(node, volume)

    with ThreadPoolExecutor() as side:
        with a_step_goes_on(quiet_lab, volume.name):
            detaching = side.submit(volumes.detach, node, volume)
            with pytest.raises(TimeoutError):
                detaching.result(timeout=1)
            assert mounts_of(node, volume.name)
        detaching.result(timeout=15)

    assert not mounts_of(node, volume.name)


def test_the_lock_is_free_again_when_the_step_is_over(node: Host, volume: VolumeSpec) -> None:
    volumes.attach(node, volume)

    node.run(["flock", "-n", f"/run/berth-{volume.name}.lock", "true"])


def test_the_mount_of_a_dead_sshfs_is_taken_away(node: Host, remote: VolumeSpec) -> None:
    volumes.attach(node, remote)
    kill_sshfs(node, remote.name)

    volumes.detach(node, remote)

    assert not mounts_of(node, remote.name)


def test_a_volume_on_a_dead_sshfs_is_mounted_anew(node: Host, remote: VolumeSpec) -> None:
    write(node, f"{volumes.attach(node, remote)}/kept", "as it was")
    node.run(["sync"])
    kill_sshfs(node, remote.name)

    directory = volumes.attach(node, replace(remote, fresh=False))

    assert read(node, f"{directory}/kept") == "as it was"
    write(node, f"{directory}/kept", "written again")


def test_mounts_and_images_are_told_in_one_call(node: Host, local: VolumeSpec) -> None:
    volumes.attach(node, local)

    mounted, images = volumes.list_both(node)

    assert (mounted, images) == (volumes.list_mounted(node), volumes.list_local(node))
    assert f"volumes/{local.name}" in mounted
    assert local.name in images


def test_a_silent_storage_server_is_no_refusal_and_not_the_nodes_silence(
    node: Host, remote: VolumeSpec, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue("silent_storage")

    with pytest.raises(volumes.StorageSilent, match="does not answer"):
        volumes.attach(node, remote)

    assert not mounts_of(node, remote.name)
