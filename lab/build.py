"""Builds the images: `python -m lab.build DIRECTORY`, started by images.py in mount and pid namespaces of its own.

One base system by mmdebstrap, then per image an overlay on it in which apt-get installs; the overlay's upper
directory is the image's second layer, so all images share the first. Needs no Docker Engine.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from .process import LabError, run
from .recipes import FILES, RECIPES, Recipe
from .registry_files import Layer, RegistryFiles

_BUILD_SECONDS = 600
#: Below this much free memory the work is done on disk.
_TMPFS_NEEDS_KIB = 3 * 1024 * 1024
_LEFT_OUT = (
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
    "/usr/share/lintian/*",
)
#: Belongs to the building, not to the images: this machine's package sources above all.
_NOT_IN_LAYERS = (
    "./etc/apt/sources.list",
    "./etc/apt/sources.list.d/*",
    "./etc/apt/apt.conf.d/99mmdebstrap",
    "./etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    "./etc/hostname",
    "./etc/hosts",
    "./etc/resolv.conf",
    "./var/lib/apt/lists/*",
    "./var/cache/apt/*",
    "./var/cache/debconf/*-old",
    "./var/cache/ldconfig/aux-cache",
    "./var/lib/dpkg/*-old",
    "./var/log/*",
    "./run/*",
    "./tmp/*",
    "./usr/sbin/policy-rc.d",
)
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "DEBIAN_FRONTEND": "noninteractive",
    "LANG": "C.UTF-8",
    "HOME": "/root",
}


def build_all(target: Path) -> None:
    """Fill `target`, a registry's storage directory, with every recipe's image."""
    work = target.parent / f"{target.name}.work"
    work.mkdir()
    if _free_memory_kib() > _TMPFS_NEEDS_KIB:
        run(["mount", "-t", "tmpfs", "-o", "mode=0755", "berth-lab-build", str(work)])
    registry = RegistryFiles(target)
    with ThreadPoolExecutor(2) as pool:
        begin = time.monotonic()
        make_base(work / "base")
        print(f"base system: {time.monotonic() - begin:.1f} s", flush=True)
        base = pool.submit(pack, work / "base", registry)
        images = [pool.submit(build_image, recipe, work, registry) for recipe in RECIPES]
        for recipe, future in zip(RECIPES, images, strict=True):
            layer, seconds = future.result()
            layers = [layer] if recipe.from_scratch else [base.result(), layer]
            for tag in (recipe.tag, *recipe.also):
                registry.add_image(recipe.repository, tag, _configuration(recipe, len(layers)), layers)
            size = sum(one.size for one in layers) // 1_000_000
            print(f"image {recipe.repository}:{recipe.tag}: {seconds:.1f} s, {size} MB compressed", flush=True)


def make_base(root: Path) -> None:
    """A minimal Debian with apt, from this machine's own package sources, with their lists for the installs to come."""
    suite = _os_release()["VERSION_CODENAME"]
    sources = [path for path in _source_files() if re.search(rf"\b{suite}\b", path.read_text())]
    options = [f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT]
    # The sources may be reached only through a proxy that this machine's apt is told of.
    options += [f"--aptopt={line}" for line in run(["apt-config", "dump"]).stdout.splitlines() if "::Proxy" in line]
    run(
        [
            "mmdebstrap",
            "--quiet",
            "--mode=root",
            "--variant=apt",
            "--skip=check/qemu,cleanup/apt/lists",
            "--dpkgopt=force-unsafe-io",
            '--aptopt=Acquire::Languages "none"',
            '--aptopt=APT::Install-Recommends "false"',
            *options,
            suite,
            str(root),
            *map(str, sources),
        ],
        timeout=_BUILD_SECONDS,
        env=_ENVIRONMENT,
    )


def build_image(recipe: Recipe, work: Path, registry: RegistryFiles) -> tuple[Layer, float]:
    """The image's own layer, and the seconds it took."""
    begin = time.monotonic()
    own = work / recipe.files
    upper, root = own / "upper", own / "root"
    for directory in (upper, root, own / "work"):
        directory.mkdir(parents=True)
    upper.chmod(0o755)
    if recipe.from_scratch:
        _busybox(upper)
        _copy_files(recipe, upper)
    else:
        layers = f"lowerdir={work / 'base'},upperdir={upper},workdir={own / 'work'}"
        run(["mount", "-t", "overlay", "-o", layers, "berth-lab-build", str(root)])
        _install(recipe, root)
        run(["umount", "--recursive", str(root)])
        _whiteouts(upper)
    layer = pack(upper, registry)
    return layer, time.monotonic() - begin


def pack(root: Path, registry: RegistryFiles) -> Layer:
    """Archive a tree as a layer."""
    plain, compressed = root.with_name(f"{root.name}.tar"), root.with_name(f"{root.name}.tar.gz")
    excluded = [f"--exclude={pattern}" for pattern in _NOT_IN_LAYERS]
    run(
        [
            "tar",
            "--numeric-owner",
            "--xattrs",
            "--sort=name",
            *excluded,
            "-cf",
            str(plain),
            "-C",
            str(root),
            ".",
        ],
        timeout=_BUILD_SECONDS,
    )
    digest = run(["sha256sum", str(plain)], timeout=_BUILD_SECONDS).stdout.split()[0]
    run(["pigz", "-3", "-n", str(plain)], timeout=_BUILD_SECONDS)
    return registry.add_layer(compressed, f"sha256:{digest}")


def _install(recipe: Recipe, root: Path) -> None:
    """Packages, files and setup, as in a container's build; services do not start."""
    (root / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
    (root / "usr/sbin/policy-rc.d").chmod(0o755)
    run(["mount", "-t", "proc", "proc", str(root / "proc")])
    for name in ("resolv.conf", "hosts"):
        shutil.copy(f"/etc/{name}", root / "etc" / name)
    _inside(root, ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *recipe.packages])
    _copy_files(recipe, root)
    if recipe.setup:
        _inside(root, ["/bin/sh", "-euc", recipe.setup])


def _inside(root: Path, argv: list[str]) -> None:
    run(["chroot", str(root), *argv], timeout=_BUILD_SECONDS, env=_ENVIRONMENT)


def _copy_files(recipe: Recipe, root: Path) -> None:
    """As root's, whoever owns this checkout; executable if they are here."""
    for source in sorted((FILES / recipe.files).rglob("*")):
        target = root / source.relative_to(FILES / recipe.files)
        if source.is_dir():
            if not target.is_dir():
                target.mkdir(mode=0o755)
        else:
            # A package may have put a symbolic link here; following it would write outside of the image.
            target.unlink(missing_ok=True)
            if not target.parent.resolve().is_relative_to(root.resolve()):
                raise LabError(f"{target} leads out of the image")
            shutil.copyfile(source, target)
            target.chmod(0o755 if source.stat().st_mode & stat.S_IXUSR else 0o644)


def _busybox(root: Path) -> None:
    program = shutil.which("busybox")
    if program is None:
        raise LabError("the lab needs: apt-get install busybox-static")
    for name, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("root", 0o700), ("var", 0o755)):
        (root / name).mkdir()
        (root / name).chmod(mode)
    shutil.copy(program, root / "bin/busybox")
    for applet in run([program, "--list"]).stdout.split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")


def _whiteouts(upper: Path) -> None:
    """Overlay marks a removed file by a device 0:0, an image layer by an empty file `.wh.NAME`."""
    for parent, _, names in os.walk(upper):
        for name in names:
            path = Path(parent, name)
            status = path.lstat()
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                path.unlink()
                path.with_name(f".wh.{name}").touch()


def _configuration(recipe: Recipe, layers: int) -> dict[str, Any]:
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    environment = {"PATH": _ENVIRONMENT["PATH"]} | recipe.environment
    config: dict[str, Any] = {
        "Env": [f"{key}={value}" for key, value in environment.items()],
        "Cmd": list(recipe.command) or None,
        "Entrypoint": list(recipe.entrypoint) or None,
        "WorkingDir": recipe.directory,
        "ExposedPorts": {f"{port}/tcp": {} for port in recipe.ports},
        "Volumes": {path: {} for path in recipe.volumes} or None,
        "StopSignal": recipe.stop_signal,
        "Labels": {
            "org.opencontainers.image.title": f"{recipe.repository}:{recipe.tag}",
            "org.opencontainers.image.description": recipe.description,
        },
    }
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    steps = ["base system", f"packages and files of {recipe.files}"][-layers:]
    return {
        "architecture": architecture,
        "os": "linux",
        "created": created,
        "config": config,
        "history": [{"created": created, "created_by": step} for step in steps],
    }


def _source_files() -> list[Path]:
    apt = Path("/etc/apt")
    found = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]
    return [path for path in found if path.exists() and path.suffix in (".list", ".sources")]


def _os_release() -> dict[str, str]:
    pairs = (line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    return {key: value.strip('"') for key, value in pairs}


def _free_memory_kib() -> int:
    found = re.search(r"MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text())
    return int(found.group(1)) if found else 0


if __name__ == "__main__":
    try:
        build_all(Path(sys.argv[1]))
    except (LabError, subprocess.SubprocessError) as error:
        sys.exit(f"building the images failed: {error}")
