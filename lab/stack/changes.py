"""What changed since the last time, so that a second start does only what is needed."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from lab.stack.layout import Layout
from lab.state import write_file

_NOT_SOURCE = {"var", "node_modules", "tests", "lab", "docs", "script"}
_CODE = {".py", ".html", ".txt", ".svg"}


def digest(paths: Iterable[Path], *more: str) -> str:
    """A short name for the state of these files (place, size, time of change) and of the texts in `more`."""
    state = hashlib.sha256()
    for path in sorted(paths):
        status = path.stat()
        state.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    for text in more:
        state.update(text.encode() + b"\0")
    return state.hexdigest()


def code(repo: Path) -> Iterator[Path]:
    """The portal's source: what its processes hold in memory once they have started."""
    yield from repo.glob("requirements*.txt")
    for top in repo.iterdir():
        if top.is_dir() and top.name not in _NOT_SOURCE and not top.name.startswith("."):
            yield from (path for path in top.rglob("*") if path.suffix in _CODE and path.is_file())


def assets(repo: Path) -> Iterator[Path]:
    """What collectstatic reads."""
    yield repo / "package-lock.json"
    yield from repo.glob("requirements*.txt")
    yield from repo.glob("portal/*.py")
    for folder in repo.glob("**/static"):
        if not {"var", "node_modules", ".venv"} & set(folder.relative_to(repo).parts):
            yield from (path for path in folder.rglob("*") if path.is_file())


class Stamp:
    """A file that remembers a digest. It is written after the work it stands for, never before."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def is_(self, value: str) -> bool:
        """Whether the work was done for this very state."""
        try:
            return self.path.read_text().strip() == value
        except FileNotFoundError:
            return False

    def set(self, value: str) -> None:
        write_file(self.path, value + "\n")

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)


def static_stamp(layout: Layout) -> Stamp:
    return Stamp(layout.repo / "var" / ".static")


def running_stamp(layout: Layout) -> Stamp:
    return Stamp(layout.run / "running")
