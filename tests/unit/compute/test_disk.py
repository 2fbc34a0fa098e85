"""How much containers wrote: the script as it runs on a node, and what is made of its answer."""

from pathlib import Path

import pytest

from compute import disk
from compute.shell import Host, SshOptions
from compute.spec import Writes
from tests.fakes import FakeEngine

HERE = Host("", SshOptions(None, None, Path("nowhere")))  # this machine stands for the node


def test_each_containers_folders_are_added_up(tmp_path: Path) -> None:
    layer, declared = tmp_path / "it's a layer", tmp_path / "declared"
    for folder in (layer, declared):
        folder.mkdir()
        (folder / "file").write_bytes(b"x" * 2 * 2**20)
    places = {"berth-1-1-main": Writes("id", (str(layer), str(declared))), "berth-2-1-main": Writes()}

    found = disk.parse(HERE.run(["sh", "-s"], stdin=disk.script(places)))

    assert found.written_mib == {"berth-1-1-main": 4}
    assert not found.late


def test_a_folder_that_is_gone_counts_nothing(tmp_path: Path) -> None:
    places = {"berth-1-1-main": Writes("id", (str(tmp_path / "gone"),))}

    found = disk.parse(HERE.run(["sh", "-s"], stdin=disk.script(places)))

    assert found.written_mib == {"berth-1-1-main": 0}


def test_a_folder_that_takes_too_long_is_late_and_the_others_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "bin" / "du"
    slow.parent.mkdir()
    slow.write_text('#!/bin/sh\ncase "$*" in *slow*) exec sleep 30 ;; esac\nexec /usr/bin/du "$@"\n')
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:/usr/bin:/bin")
    monkeypatch.setattr(disk, "_SCRIPT", disk._SCRIPT.replace(f" {disk.EACH_S} du", " 0.1 du"))
    (tmp_path / "quick").mkdir()
    places = {"a": Writes("1", (str(tmp_path / "slow"),)), "b": Writes("2", (str(tmp_path / "quick"),))}

    found = disk.parse(HERE.run(["sh", "-s"], stdin=disk.script(places)))

    assert (set(found.late), set(found.written_mib)) == ({"a"}, {"b"})


def test_one_whose_turn_does_not_come_since_others_take_long_is_not_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A late one on a full disk is ended, so nobody is called late for what a neighbour did."""
    monkeypatch.setattr(disk, "_SCRIPT", disk._SCRIPT.replace(f"-ge {disk.ALL_S} ", "-ge 0 "))
    places = {"b": Writes("2", (str(tmp_path),))}

    found = disk.parse(HERE.run(["sh", "-s"], stdin=disk.script(places)))

    assert (set(found.late), found.written_mib) == (set(), {})


@pytest.mark.parametrize(
    ("size", "free", "full"),
    [(100_000, 5_001, False), (100_000, 4_999, True), (10_000, 1_023, True), (10_000, 1_024, False)],
)
def test_a_disk_is_nearly_full_below_a_twentieth_or_a_gibibyte(size: int, free: int, full: bool) -> None:
    found = disk.parse(f"disk /var/lib/docker {size * 1024} {free * 1024}\n")

    assert bool(found.problem) == full


def test_where_there_is_only_the_engine_it_is_asked() -> None:
    engine = FakeEngine(images={"image"}, written={"a": 7, "b": 9})
    for name in ("a", "b"):
        engine.put_stranger(name, {"berth.reservation": "1"})

    assert disk.measure(engine, None, ["a", "never"]).written_mib == {"a": 7}
