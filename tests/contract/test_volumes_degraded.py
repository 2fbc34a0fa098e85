"""A volume whose storage fails: what is seen of it, and that no step waits for it without a limit."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from compute import volumes
from compute.shell import Host
from compute.spec import VolumeSpec
from compute.volumes import Condition
from lab import Lab
from tests.contract.test_volumes import local, node, nodes, read, remote, server, store, volume, write
from tests.contract.test_volumes_kept import a_step_goes_on, kill_sshfs, mounts_of
from tests.live import wait_for

__all__ = ["local", "node", "nodes", "remote", "server", "store", "volume"]
AT_ONCE = timedelta(0)


@contextmanager
def hanging_storage(lab: Lab) -> Iterator[None]:
    """Its sshd answers, and what reads and writes for it does not: as with a disk that hangs."""

    def tell(signal: str) -> None:
        lab.exec("storage", ["pkill", f"-{signal}", "-xf", "sshd: berth@internal-sftp"], check=False)

    tell("STOP")
    try:
        yield
    finally:
        tell("CONT")


@contextmanager
def cut_storage(lab: Lab) -> Iterator[None]:
    lab.cut("storage")
    try:
        yield
    finally:
        lab.heal("storage")


def condition(node: Host, volume: VolumeSpec, *, hung_for: timedelta = volumes.HUNG_FOR) -> Condition:
    return volumes.check(node, [volume], hung_for=hung_for)[volume.name]


def test_a_volume_in_use_is_well_and_one_that_is_not_mounted_is_gone(node: Host, volume: VolumeSpec) -> None:
    volumes.attach(node, volume)
    assert condition(node, volume) == Condition.WELL
    assert volumes.storage_answers(node, volume)

    volumes.detach(node, volume)
    assert condition(node, volume) == Condition.GONE


def test_nothing_is_concluded_while_a_step_goes_on(quiet_lab: Lab, node: Host, volume: VolumeSpec) -> None:
    volumes.attach(node, volume)

    with a_step_goes_on(quiet_lab, volume.name):
        assert condition(node, volume) == Condition.BUSY

    assert condition(node, volume) == Condition.WELL


def test_all_volumes_of_a_node_are_looked_at_in_one_call(node: Host, local: VolumeSpec, remote: VolumeSpec) -> None:
    volumes.attach(node, local)

    assert volumes.check(node, [local, remote]) == {local.name: Condition.WELL, remote.name: Condition.GONE}
    assert volumes.check(node, []) == {}


def test_a_killed_sshfs_is_seen(node: Host, remote: VolumeSpec) -> None:
    volumes.attach(node, remote)
    kill_sshfs(node, remote.name)

    assert condition(node, remote) == Condition.DEAD


def test_a_read_only_file_system_is_seen_and_mounted_anew(node: Host, volume: VolumeSpec) -> None:
    """`emergency_ro` as after a failed write; "shutdown" of the test ioctl is not in every kernel."""
    write(node, f"{volumes.attach(node, volume)}/kept", "as it was")
    node.run(["mount", "-o", "remount,ro", f"{volumes.MOUNTED_AT}/{volume.name}"])
    assert condition(node, volume) == Condition.READ_ONLY

    directory = volumes.attach(node, replace(volume, fresh=False))

    assert read(node, f"{directory}/kept") == "as it was"
    write(node, f"{directory}/kept", "written again")
    assert condition(node, volume) == Condition.WELL


def test_after_an_outage_it_is_seen_and_mounted_anew(node: Host, quiet_lab: Lab, remote: VolumeSpec) -> None:
    write(node, f"{volumes.attach(node, remote)}/kept", "as it was")
    node.run(["sync"])
    with cut_storage(quiet_lab):
        wait_for(lambda: condition(node, remote) in {Condition.DEAD, Condition.READ_ONLY}, seconds=60)
        assert not volumes.storage_answers(node, remote)
    assert volumes.storage_answers(node, remote)
    assert condition(node, remote) != Condition.WELL

    directory = volumes.attach(node, replace(remote, fresh=False))

    assert read(node, f"{directory}/kept") == "as it was"
    write(node, f"{directory}/kept", "written again")
    assert condition(node, remote) == Condition.WELL


def test_a_storage_that_hangs_for_a_moment_is_well_again_by_itself(
    node: Host, quiet_lab: Lab, remote: VolumeSpec
) -> None:
    directory = volumes.attach(node, remote)
    with hanging_storage(quiet_lab):
        assert condition(node, remote) == Condition.HUNG

    assert condition(node, remote) == Condition.WELL
    write(node, f"{directory}/kept", "written")


def test_who_waits_for_a_hanging_storage_gets_an_error_when_it_is_cut_off(
    node: Host, quiet_lab: Lab, remote: VolumeSpec
) -> None:
    directory = volumes.attach(node, remote)
    node.run(["sh", "-c", f"echo synced >{directory}/kept; sync {directory}/kept"])
    with hanging_storage(quiet_lab):
        node.run(["sh", "-c", f"dd if=/dev/zero of={directory}/more bs=1M count=8 conv=fsync >/dev/null 2>&1 &"])
        wait_for(lambda: node.run(["sh", "-c", f"pgrep -r D -f {directory}/more || true"]), seconds=10)
        assert condition(node, remote) == Condition.HUNG

        assert condition(node, remote, hung_for=AT_ONCE) == Condition.DEAD
        wait_for(lambda: not node.run(["sh", "-c", f"pgrep -f {directory}/mor[e] || true"]), seconds=10)
        volumes.detach(node, remote)

    assert not mounts_of(node, remote.name)
    assert not node.run(["sh", "-c", f"pgrep -f '[s]shfs.*{remote.name}' || true"])
    assert read(node, f"{volumes.attach(node, replace(remote, fresh=False))}/kept") == "synced\n"


@pytest.mark.parametrize("step", ["attach", "detach"])
def test_no_step_waits_for_a_hanging_storage_without_a_limit(
    node: Host, quiet_lab: Lab, remote: VolumeSpec, step: str
) -> None:
    directory = volumes.attach(node, remote)
    with hanging_storage(quiet_lab):
        node.run(["sh", "-c", f"dd if=/dev/zero of={directory}/more bs=1M count=8 >/dev/null 2>&1 &"])
        begin = time.monotonic()
        if step == "attach":  # what hangs is the old connection: a new one is made
            volumes.attach(node, replace(remote, fresh=False))
        else:
            volumes.detach(node, remote)
            assert not mounts_of(node, remote.name)
        took = time.monotonic() - begin

    assert took < volumes.TIMEOUT_S - 10
    node.run(["flock", "-n", f"/run/berth-{remote.name}.lock", "true"])
