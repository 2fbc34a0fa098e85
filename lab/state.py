"""What a lab remembers between two commands: its directory, lock, slot, and the machines' first processes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .process import LabError, ProcessId

_NAME = re.compile(r"[a-z][a-z0-9-]{0,11}")
_LOCK_SECONDS = 600


def default_state_dir() -> Path:
    """BERTH_LAB_DIR, or var/lab beside the lab's own source."""
    configured = os.environ.get("BERTH_LAB_DIR")
    return Path(configured).resolve() if configured else Path(__file__).resolve().parents[1] / "var" / "lab"


def cache_dir() -> Path:
    """Where built images stay for the next lab: BERTH_LAB_CACHE, or /var/cache/berth-lab."""
    return Path(os.environ.get("BERTH_LAB_CACHE") or "/var/cache/berth-lab").resolve()


@dataclass
class State:
    """The contents of state.json."""

    slot: int | None = None
    owner: str | None = None
    upstream: str | None = None
    inits: dict[str, ProcessId] = field(default_factory=dict)


class Store:
    """The directory of one lab. Write only while holding `lock()`."""

    def __init__(self, name: str, state_dir: Path) -> None:
        if not _NAME.fullmatch(name):
            raise LabError(f"{name!r} cannot name a lab: use up to 12 of a-z, 0-9 and -, beginning with a letter")
        self.name = name
        self.state_dir = state_dir
        self.directory = state_dir / name
        self._mutex = threading.Lock()
        self._state: State | None = None

    @property
    def state(self) -> State:
        """Read when first asked for: only root may, while the lab's owner may read lab.json."""
        if self._state is None:
            self._state = self._load()
        return self._state

    @property
    def portal(self) -> Path:
        """What the portal may read: its keys and certificates."""
        return self.directory / "portal"

    @property
    def secrets(self) -> Path:
        """What only the lab reads: the authority's key, host keys."""
        return self.directory / "secrets"

    def reload(self) -> None:
        """Read again what another command may have written."""
        self._state = self._load()

    def log(self, machine: str, daemon: str) -> Path:
        return self.directory / "log" / f"{machine}-{daemon}.log"

    def create(self) -> None:
        """Make the directories; harmless when they are there."""
        self.state_dir.mkdir(parents=True, exist_ok=True)
        self.directory.mkdir(mode=0o700, exist_ok=True)
        for name in ("log", "machines", "portal", "secrets"):
            (self.directory / name).mkdir(mode=0o700, exist_ok=True)

    @contextlib.contextmanager
    def lock(self, *, wait: float = _LOCK_SECONDS) -> Iterator[None]:
        """Only one command at a time works on a lab. The kernel frees the lock of one that died."""
        self.state_dir.mkdir(parents=True, exist_ok=True)
        path = self.state_dir / f".{self.name}.lock"
        descriptor = _acquire(path, time.monotonic() + wait)
        try:
            self._state = self._load()
            yield
        finally:
            path.unlink(missing_ok=True)
            os.close(descriptor)

    def save(self) -> None:
        with self._mutex:
            self._save()

    def remember_init(self, machine: str, init: ProcessId) -> None:
        with self._mutex:
            self.state.inits[machine] = init
            self._save()

    def forget_init(self, machine: str) -> None:
        with self._mutex:
            self.state.inits.pop(machine, None)
            self._save()

    def _load(self) -> State:
        try:
            raw = json.loads((self.directory / "state.json").read_text())
        except FileNotFoundError:
            return State()
        inits = {name: ProcessId(pid, started) for name, (pid, started) in raw["inits"].items()}
        return State(slot=raw["slot"], owner=raw["owner"], upstream=raw["upstream"], inits=inits)

    def _save(self) -> None:
        state = self.state
        raw = {
            "slot": state.slot,
            "owner": state.owner,
            "upstream": state.upstream,
            "inits": {name: [init.pid, init.started] for name, init in state.inits.items()},
        }
        write_file(self.directory / "state.json", json.dumps(raw, indent=1) + "\n", mode=0o600)


def write_file(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Replace the file in one step, so that a reader or a crash never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
    temporary.rename(path)


def _acquire(path: Path, deadline: float) -> int:
    """An open, locked descriptor of the file that is at `path` now (not of one unlinked while we waited)."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        except BlockingIOError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if time.monotonic() > deadline:
            raise LabError(f"another command has been working on this lab for too long; see who holds {path}")
        time.sleep(0.05)
