"""Images of the stand-in upstream registry: built once into the cache, copied into every lab."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .packages import PATH
from .process import LabError
from .recipes import FILES

_SOURCES = ("build.py", "recipes.py", "registry_files.py")
#: How many sets of images stay in the cache, for checkouts of different ages.
_KEPT = 3


def ensure(cache: Path, echo: Callable[[str], None], *, rebuild: bool = False) -> None:
    """Build the images of the present recipes unless the cache has them. Takes about a minute when it must."""
    with _locked(cache):
        key = recipe_key()
        if (cache / key).exists() and not rebuild:
            return
        begin = time.monotonic()
        for abandoned in cache.glob("building-*"):
            shutil.rmtree(abandoned)
        target = cache / f"building-{key}"
        _build(target, echo)
        shutil.rmtree(cache / key, ignore_errors=True)
        target.rename(cache / key)
        _prune(cache)
        echo(f"images built in {time.monotonic() - begin:.1f} s")


def publish(cache: Path, registry: Path) -> None:
    """Put the cached images into a registry's storage directory, unless it has just these."""
    with _locked(cache):
        source = cache / recipe_key()
        stamp = f"{source.name} {source.stat().st_mtime_ns}"
        mark = registry / "berth-lab-images"
        if mark.exists() and mark.read_text() == stamp:
            return
        shutil.copytree(source, registry, copy_function=_copy, dirs_exist_ok=True)
        mark.write_text(stamp)


def recipe_key() -> str:
    """Changes with whatever goes into the images, other than newer packages."""
    here = Path(__file__).parent
    digest = hashlib.sha256(f"{os.uname().machine} {Path('/etc/os-release').read_text()}".encode())
    for path in [*(here / name for name in _SOURCES), *sorted(FILES.rglob("*"))]:
        if path.is_file():
            digest.update(f"{path.relative_to(here)} {path.stat().st_mode & 0o100}\n".encode())
            digest.update(path.read_bytes())
    return f"images-{digest.hexdigest()[:16]}"


def _build(target: Path, echo: Callable[[str], None]) -> None:
    """Run the builder in namespaces that take its mounts and processes away with it, also when we are killed."""
    target.mkdir()
    process = subprocess.Popen(
        [
            *("setpriv", "--pdeathsig", "KILL"),
            *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *(sys.executable, "-m", "lab.build", str(target)),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[1],
        env=dict(os.environ) | {"PATH": f"{os.environ.get('PATH', '')}:{PATH}"},
    )
    with process:
        try:
            for line in process.stdout or ():
                echo(f"  {line.rstrip()}")
        except BaseException:
            process.kill()
            raise
    shutil.rmtree(target.with_name(f"{target.name}.work"), ignore_errors=True)
    if process.returncode != 0:
        shutil.rmtree(target, ignore_errors=True)
        raise LabError("the images could not be built; the reason stands above")


def _copy(source: str, target: str) -> str:
    """Blobs never change, so they are linked; the registry rewrites the other files in place."""
    if os.path.basename(source) == "data":
        with contextlib.suppress(OSError):  # another file system, or no links there
            Path(target).unlink(missing_ok=True)
            os.link(source, target)
            return target
    return str(shutil.copyfile(source, target))


def _prune(cache: Path) -> None:
    sets = sorted(cache.glob("images-*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in sets[_KEPT:]:
        shutil.rmtree(old)


@contextlib.contextmanager
def _locked(cache: Path) -> Iterator[None]:
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "images.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
