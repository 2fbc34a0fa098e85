"""What a killed machine can leave in the kernel, outside of its namespaces: cgroups, loop devices, unrecorded inits."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .process import CommandFailed, LabError, ProcessId, run, wait_until

_CGROUPS = Path("/sys/fs/cgroup")
_BLOCK = Path("/sys/block")


@dataclass(frozen=True)
class LoopDevice:
    """An attached loop device, such as loop0. The sequence number tells it from a later one of the same name."""

    name: str
    sequence: str


@dataclass(frozen=True)
class Stray:
    """The init of a running machine, as its environment describes it."""

    init: ProcessId
    machine: str
    slot: int


def cgroup_directories(name: str) -> list[Path]:
    """The top-level cgroup of that name in every hierarchy, version 1 or 2."""
    return [path for path in (_CGROUPS / name, *_CGROUPS.glob(f"*/{name}")) if path.is_dir()]


def cgroup_pids(name: str) -> set[int]:
    """Processes anywhere below the cgroup, as the host counts."""
    pids: set[int] = set()
    for top in cgroup_directories(name):
        for file in top.rglob("cgroup.procs"):
            with contextlib.suppress(OSError):  # it went away, or is a threaded one
                pids.update(map(int, file.read_text().split()))
    return pids


def thaw(name: str) -> None:
    """Wake paused containers: a frozen process cannot die, and its machine's init would wait for it for ever."""
    for top in cgroup_directories(name):
        for file in [*top.rglob("freezer.state"), *top.rglob("cgroup.freeze")]:
            with contextlib.suppress(OSError):  # it went away
                file.write_text("THAWED" if file.name == "freezer.state" else "0")


def remove_cgroups(name: str) -> None:
    """Remove the cgroups of a dead machine. Raises LabError if processes hold them."""

    def removed() -> bool:
        for top in cgroup_directories(name):
            for directory, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):  # busy for some milliseconds after the last process
                    os.rmdir(directory)
        return not cgroup_directories(name)

    if not wait_until(removed, seconds=10):
        raise LabError(f"cgroup {name} is still in use by processes {sorted(cgroup_pids(name))}")


def loop_devices() -> set[LoopDevice]:
    """All attached loop devices of this computer.

    Read from /sys, since losetup asks the file behind each one, which hangs when that is on a server that is gone.
    """
    attached = (path.parents[1] for path in _BLOCK.glob("loop*/loop/backing_file"))
    return {LoopDevice(path.name, _read(path / "diskseq")) for path in attached}


def mounted_loop_devices(pid: int) -> set[LoopDevice]:
    """Those that the machine of this init has mounted."""
    try:
        lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    except OSError:  # it ended
        return set()
    numbers = (line.split()[2].split(":") for line in lines)
    names = {f"loop{minor}" for major, minor in numbers if major == "7"}
    return {device for device in loop_devices() if device.name in names}


def forgotten_loop_devices(directory: Path) -> set[LoopDevice]:
    """Those attached by hand to files below the (dead) machine's directory; a mount's own clear themselves."""
    by_hand = {device for device in loop_devices() if _read(_BLOCK / device.name / "loop/autoclear") == "0"}
    if not by_hand:
        return set()
    files = {
        (status.st_ino, f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}")
        for top in ("berth", "chroot")
        for status in _stats(directory / "data" / top)
    }
    return {device for device in by_hand if _file_behind(device) in files}


def release_loop_devices(devices: set[LoopDevice]) -> None:
    """Wait for the kernel to clear them after their last unmount, then detach what it does not."""
    if not devices or wait_until(lambda: not devices & loop_devices(), seconds=2, interval=0.05):
        return
    for loop in devices & loop_devices():
        run(["losetup", "--detach", f"/dev/{loop.name}"], check=False)
    if not wait_until(lambda: not devices & loop_devices(), seconds=5, interval=0.05):
        names = ", ".join(sorted(loop.name for loop in devices & loop_devices()))
        raise LabError(f"loop devices still in use after their machine was switched off: {names}")


def detach_loop_devices(devices: set[LoopDevice]) -> None:
    """Detach those attached by hand."""
    for loop in devices:
        run(["losetup", "--detach", f"/dev/{loop.name}"], check=False)
    release_loop_devices(devices)


def strays(lab_directory: Path) -> list[Stray]:
    """First processes of this lab's machines that run, recorded or not (its state file may have been deleted)."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "environ").read_bytes().split(b"\0")
            environment = dict(word.decode(errors="replace").partition("=")[::2] for word in words)
            if environment.get("BERTH_LAB") != str(lab_directory):
                continue
            numbers = next(line for line in (entry / "status").read_text().splitlines() if line.startswith("NSpid:"))
        except (OSError, StopIteration):  # it ended while we looked
            continue
        process = ProcessId.of(int(entry.name))
        if process is not None and len(numbers.split()) > 2 and numbers.split()[-1] == "1":
            found.append(Stray(process, environment["LAB_MACHINE"], int(environment["LAB_SLOT"])))
    return found


def _stats(directory: Path) -> Iterable[os.stat_result]:
    for parent, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                yield os.lstat(os.path.join(parent, name))


def _file_behind(device: LoopDevice) -> tuple[int, str] | None:
    """Inode and file system "major:minor"; None when the file does not answer."""
    columns = ["--json", "--output", "BACK-INO,BACK-MAJ:MIN"]
    try:
        text = run(["losetup", "--list", *columns, f"/dev/{device.name}"], timeout=3).stdout
    except CommandFailed:
        return None
    row = json.loads(text)["loopdevices"][0] if text.strip() else {}
    return (row["back-ino"], row["back-maj:min"].strip()) if row.get("back-ino") else None


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # detached meanwhile, or a kernel before 5.15, which does not count
        return ""
