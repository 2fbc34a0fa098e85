"""Which programs the lab needs, and a clear sentence when one is missing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .process import LabError

_PROGRAMS = {
    "dockerd": "docker.io",
    "docker-registry": "docker-registry",
    "iptables-restore": "iptables",
    "ip": "iproute2",
    "conntrack": "conntrack",
    "sshd": "openssh-server",
    "ssh-keygen": "openssh-client",
    "sshfs": "sshfs",
    "fusermount3": "fuse3",
    "mkfs.ext4": "e2fsprogs",
    "losetup": "mount",
    "unshare": "util-linux",
    "kill": "procps",
    "tini": "tini",
    "openssl": "openssl",
    "mmdebstrap": "mmdebstrap",
    "busybox": "busybox-static",
    "tar": "tar",
    "pigz": "pigz",
}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def listed_packages() -> list[str]:
    """Names in packages.txt."""
    lines = Path(__file__).with_name("packages.txt").read_text().splitlines()
    return [name for line in lines if (name := line.partition("#")[0].strip())]


def require_programs() -> None:
    """Raises LabError that names the apt-get command when something is missing."""
    path = f"{os.environ.get('PATH', '')}:{PATH}"
    missing = sorted({package for program, package in _PROGRAMS.items() if not shutil.which(program, path=path)})
    if missing:
        raise LabError(f"the lab needs: apt-get install --no-install-recommends {' '.join(missing)}")
