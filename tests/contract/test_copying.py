"""Images are copied from the storage server into a backup and back: whole, sparse, never over another one."""

import gzip
import hashlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from compute import freezing, sftp, volumes
from compute.shell import CommandFailed, Host
from compute.spec import RemoteStore, VolumeSpec
from lab import Lab
from portal.backup import images
from tests.contract.test_volumes import node, nodes, read, remote, server, store, write

__all__ = ["node", "nodes", "remote", "server", "store"]
MIB = 2**20


@pytest.fixture
def there(server: Host) -> Iterator[sftp.Session]:
    with sftp.session(server) as session:
        yield session


@pytest.fixture
def path(store: RemoteStore, there: sftp.Session) -> Iterator[str]:
    found = f"{store.path}/copied.img"
    yield found
    for suffix in ("", images.HALF):
        if there.facts(found + suffix):
            there.remove(found + suffix)


@pytest.fixture
def packed(tmp_path: Path) -> tuple[Path, int, str]:
    """A file of a backup, the size of its image and that one's checksum: 40 MiB, of which 3 have something in them."""
    content = bytearray(40 * MIB)
    for place in (0, 17, 39):
        content[place * MIB : (place + 1) * MIB] = os.urandom(MIB)
    source = tmp_path / "source"
    source.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    file = tmp_path / "image.gz"
    file.write_bytes(gzip.compress(bytes(content), 1))
    return file, len(content), digest


def ignore(done: int) -> None:
    """Progress that nobody looks at."""


def blocks(lab: Lab, path: str) -> int:
    """How much of the disk the file takes, in MiB."""
    return int(lab.exec("storage", ["du", "-m", f"/var/lib/storage{path}"]).stdout.split()[0])


def test_an_image_comes_back_as_it_was_and_as_sparse(
    quiet_lab: Lab, there: sftp.Session, path: str, packed: tuple[Path, int, str], tmp_path: Path
) -> None:
    file, size, sha256 = packed

    assert images.put(there, file, path, size, sha256, ignore)
    saved = images.save(there, path, size, tmp_path / "again.gz", ignore)

    assert saved.image_sha256 == sha256
    assert gzip.decompress((tmp_path / "again.gz").read_bytes()) == gzip.decompress(file.read_bytes())
    assert saved.bytes == (tmp_path / "again.gz").stat().st_size < 4 * MIB
    assert blocks(quiet_lab, path) <= 4


def test_an_image_that_is_there_is_left_alone(there: sftp.Session, path: str, packed: tuple[Path, int, str]) -> None:
    file, size, sha256 = packed
    images.put(there, file, path, size, sha256, ignore)
    assert not images.put(there, file, path, size, sha256, ignore)

    with there.writing(path) as mine:
        mine.at(5 * MIB, b"newer")

    with pytest.raises(images.DiffersThere):
        images.put(there, file, path, size, sha256, ignore)
    assert b"".join(there.read(path, 5 * MIB, 5 * MIB + 5)) == b"newer"


@pytest.mark.parametrize("begun", ["rightly", "with something else"])
def test_half_an_image_is_gone_on_with(
    there: sftp.Session, path: str, packed: tuple[Path, int, str], begun: str
) -> None:
    file, size, sha256 = packed
    half = gzip.decompress(file.read_bytes())[: 18 * MIB]
    with there.writing(path + images.HALF) as mine:
        mine.at(0, half if begun == "rightly" else b"x" * len(half))

    assert images.put(there, file, path, size, sha256, ignore)

    assert images.checksum(there, path, size, ignore) == sha256
    assert there.facts(path + images.HALF) is None


def test_what_cannot_be_unpacked_gets_no_name(there: sftp.Session, path: str, packed: tuple[Path, int, str]) -> None:
    file, size, sha256 = packed
    file.write_bytes(file.read_bytes()[:-1000])

    with pytest.raises(images.BadImage):
        images.put(there, file, path, size, sha256, ignore)

    assert there.facts(path) is None


def test_a_file_is_never_renamed_over_another(there: sftp.Session, path: str) -> None:
    for name in (path, path + images.HALF):
        with there.writing(name) as mine:
            mine.at(0, name.encode())

    with pytest.raises(CommandFailed):
        there.rename(path + images.HALF, path)

    assert b"".join(there.read(path, 0, 999)) == path.encode()


def test_a_volume_in_use_is_copied_whole_while_it_is_frozen(
    node: Host, remote: VolumeSpec, store: RemoteStore, there: sftp.Session, tmp_path: Path
) -> None:
    folder = volumes.attach(node, remote)
    write(node, f"{folder}/note", "before")
    write(node, "/root/writer", f"i=0; while :; do i=$((i+1)); echo $i >{folder}/count; sync {folder}/count; done")
    node.run(["sh", "-c", "sh /root/writer >/dev/null 2>&1 & echo $! >/root/writer.pid"])
    image, size = f"{store.path}/{remote.name}.img", remote.size_gb * 10**9
    try:
        for _ in range(3):  # on a busy machine a GB may take longer than a volume may be frozen
            with freezing.frozen(node, remote.name, 15) as freeze:
                at_first = images.head(there, image)
                images.save(there, image, size, tmp_path / "image.gz", ignore)
                unchanged = images.head(there, image) == at_first
                if freeze.thaw():  # else it was let go in the midst, and may have changed
                    assert unchanged
                    break
        assert freeze.held
        count = read(node, f"{folder}/count")
        time.sleep(0.3)
        assert read(node, f"{folder}/count") != count  # it writes on
    finally:
        node.run(["sh", "-c", "kill $(cat /root/writer.pid); rm /root/writer*"])

    copy = tmp_path / "image"
    unpacked = f"zcat {tmp_path}/image.gz | dd of={copy} conv=sparse bs=1M status=none"
    subprocess.run(["sh", "-c", unpacked], check=True, timeout=60)
    checked = subprocess.run(["e2fsck", "-fn", str(copy)], capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stdout
    assert "recovering" not in checked.stdout
    assert _in(copy, "note") == "before"
    assert int(_in(copy, "count")) > 0


def _in(image: Path, name: str) -> str:
    """A file of the file system, without mounting it."""
    command = ["debugfs", "-R", f"cat /data/{name}", str(image)]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout


def test_the_node_lets_go_by_itself(node: Host, remote: VolumeSpec) -> None:
    folder = volumes.attach(node, remote)

    with freezing.frozen(node, remote.name, 1) as freeze:
        write(node, f"{folder}/late", "written when it was let go")
        assert not freeze.thaw()

    assert read(node, f"{folder}/late") == "written when it was let go"


def test_the_node_lets_go_when_who_asked_is_killed(node: Host, remote: VolumeSpec) -> None:
    folder = volumes.attach(node, remote)

    with freezing.frozen(node, remote.name, 15) as freeze:
        freeze.program.kill()
        begun = time.monotonic()
        write(node, f"{folder}/later", "written")

        assert time.monotonic() - begun < 5
        assert not freeze.thaw()


def test_a_step_on_the_volume_waits_for_the_thaw(node: Host, remote: VolumeSpec) -> None:
    volumes.attach(node, remote)

    with freezing.frozen(node, remote.name, 2):
        volumes.detach(node, remote)

    assert f"volumes/{remote.name}" not in volumes.list_mounted(node)


def test_what_is_not_mounted_cannot_be_frozen(node: Host, remote: VolumeSpec) -> None:
    with pytest.raises(CommandFailed, match="not mounted"), freezing.frozen(node, remote.name, 1):
        pass
