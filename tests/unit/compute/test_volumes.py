"""The scripts that volumes run on a node: what reaches the shell is quoted, and only what belongs there."""

import shlex
import subprocess

import pytest

from compute import volumes
from compute.shell import CommandFailed
from compute.spec import RemoteStore, VolumeSpec
from tests.unit.compute.test_gateway import FakeHost

STORE = RemoteStore("berth", "10.99.0.21", "/volumes")
NASTY = RemoteStore("be'rth", "10.99.0.21; touch /tmp/pwned", "/a b/$(id)", 2222)


def script_of(volume: VolumeSpec) -> str:
    host = FakeHost()
    volumes.attach(host, volume)  # type: ignore[arg-type]  # only `run` is used
    ((line, script),) = host.ran
    assert line == "sh -s"
    return script


def test_the_container_gets_a_directory_inside_the_volume() -> None:
    assert volumes.attach(FakeHost(), VolumeSpec("vol-1", 2)) == "/var/lib/berth/volumes/vol-1/data"  # type: ignore[arg-type]


def test_a_local_volume_needs_no_storage_server() -> None:
    script = script_of(VolumeSpec("vol-1", 2))

    assert "IdentityFile" not in script
    assert "bytes=2000000000\n" in script
    assert "image=/var/lib/berth/images/vol-1.img\n" in script


def test_a_remote_volume_is_protected_against_a_second_node() -> None:
    script = script_of(VolumeSpec("vol-1", 2, STORE))

    assert "features='-O mmp'\n" in script
    assert "direct=--direct-io=on\n" in script
    assert "StrictHostKeyChecking=yes" in script


@pytest.mark.parametrize("remote", [STORE, NASTY])
def test_whatever_a_store_is_called_the_shell_reads_it_as_one_word(remote: RemoteStore) -> None:
    head = script_of(VolumeSpec("vol-1", 2, remote)).split("\nexec 9")[0]

    said = subprocess.run(
        ["sh", "-s"], input=f'{head}\nprintf "%s" "$remote"', capture_output=True, text=True, check=True
    ).stdout

    assert said == f"{remote.account}@{remote.address}:{remote.path}"


@pytest.mark.parametrize("volume", [VolumeSpec("vol-1", 2), VolumeSpec("vol-1", 2, NASTY)])
def test_every_script_is_one_that_the_shell_understands(volume: VolumeSpec) -> None:
    host = FakeHost()
    volumes.attach(host, volume)  # type: ignore[arg-type]
    volumes.detach(host, volume)  # type: ignore[arg-type]
    volumes.remove_local(host, volume)  # type: ignore[arg-type]

    for _, script in host.ran:
        assert script.startswith("set -aeu\n")
        subprocess.run(["sh", "-n"], input=script, text=True, check=True)


def test_a_remote_volume_that_is_still_listed_was_not_removed() -> None:
    class Server:
        target = "berth@store"

        def sftp(self, commands: list[str], *, timeout_s: float = 20) -> str:
            return "sftp> ls -1 /volumes\n/volumes/vol-1.img\n/volumes/vol-2.img.new\n/volumes/notes.txt\n"

    assert volumes.list_remote(Server(), STORE) == {"vol-1", "vol-2"}  # type: ignore[arg-type]
    with pytest.raises(CommandFailed, match="vol-1 could not be removed"):
        volumes.remove_remote(Server(), STORE, "vol-1")  # type: ignore[arg-type]


def test_what_is_mounted_and_what_is_on_the_disk_is_read_from_lists() -> None:
    host = FakeHost(
        {
            "findmnt": "/var/lib/berth/volumes/vol-1\n/var/lib/berth/stores/vol-1\n",
            "ls -1": "vol-1.img\nvol-2.img.new\nlost+found\n",
        }
    )

    assert volumes.list_mounted(host) == {"volumes/vol-1", "stores/vol-1"}  # type: ignore[arg-type]
    assert volumes.list_local(host) == {"vol-1", "vol-2"}  # type: ignore[arg-type]
    assert shlex.split(host.ran[0][0])[0] == "sh"
