"""What a killed machine can leave in the kernel, outside of its namespaces: cgroups, loop devices, unrecorded inits."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .process import LabError, ProcessId, run, wait_until

_CGROUPS = Path("/sys/fs/cgroup")
_VOLUMES = "/var/lib/berth"


@dataclass(frozen=True)
class LoopDevice:
    """A loop device and the file behind it; the path is as its mounter's namespace saw it."""

    device: str
    file: str
    inode: int
    file_system: str


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
    """All attached loop devices of this computer."""
    columns = "NAME,BACK-FILE,BACK-INO,BACK-MAJ:MIN"
    text = run(["losetup", "--list", "--json", "--output", columns]).stdout.strip()
    rows = json.loads(text)["loopdevices"] if text else []
    return {
        LoopDevice(row["name"], row["back-file"] or "", int(row["back-ino"]), row["back-maj:min"].strip())
        for row in rows
    }


def loop_devices_of(pid: int | None, directory: Path) -> set[LoopDevice]:
    """Those on files below the machine's directory, or in a file system that only the machine `pid` has mounted."""
    devices = loop_devices()
    if not devices:
        return set()
    only_there = _mounted(pid) - _mounted(os.getpid()) if pid is not None else set()
    files = {
        (status.st_ino, f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}")
        for top in ("berth", "chroot")
        for status in _stats(directory / "data" / top)
    }
    return {d for d in devices if d.file_system in only_there or (d.inode, d.file_system) in files}


def orphaned_loop_devices() -> set[LoopDevice]:
    """Loop devices on a volume's file whose file system no process has mounted any more: its machine was killed."""
    candidates = {d for d in loop_devices() if d.file.startswith(f"{_VOLUMES}/")}
    return {d for d in candidates if d.file_system not in _mounted_anywhere()} if candidates else set()


def release_loop_devices(devices: Iterable[LoopDevice]) -> None:
    """Wait for the kernel to clear them after their last unmount, then detach what nobody mounted."""
    devices = set(devices)
    if not devices or wait_until(lambda: not devices & loop_devices(), seconds=3, interval=0.05):
        return
    for loop in devices & loop_devices():
        run(["losetup", "--detach", loop.device], check=False)
    if not wait_until(lambda: not devices & loop_devices(), seconds=5, interval=0.05):
        names = ", ".join(sorted(loop.device for loop in devices & loop_devices()))
        raise LabError(f"loop devices still in use after their machine was switched off: {names}")


def stray_inits(lab_directory: Path) -> list[ProcessId]:
    """First processes of this lab's machines that run, recorded or not (its state file may have been deleted)."""
    marker = f"BERTH_LAB={lab_directory}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if marker not in (entry / "environ").read_bytes().split(b"\0"):
                continue
            numbers = next(line for line in (entry / "status").read_text().splitlines() if line.startswith("NSpid:"))
        except (OSError, StopIteration):  # it ended while we looked
            continue
        process = ProcessId.of(int(entry.name))
        if process is not None and len(numbers.split()) > 2 and numbers.split()[-1] == "1":
            found.append(process)
    return found


def _stats(directory: Path) -> Iterable[os.stat_result]:
    for parent, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                yield os.lstat(os.path.join(parent, name))


def _mounted(pid: int) -> set[str]:
    """Device numbers "major:minor" of what the process has mounted."""
    try:
        lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError, OSError):
        return set()
    return {line.split()[2] for line in lines}


def _mounted_anywhere() -> set[str]:
    namespaces: dict[str, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it ended while we looked
                namespaces.setdefault(os.readlink(entry / "ns/mnt"), int(entry.name))
    return set().union(*map(_mounted, namespaces.values()))
