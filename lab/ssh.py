"""sshd of the machines: keys, configuration, accounts."""

from __future__ import annotations

import os
from pathlib import Path

from .machines import GATEWAY, NODES, STORAGE, MachineSpec, Plan
from .process import run
from .state import Store, write_file

STORAGE_USER = "berth"
STORAGE_PATH = "/volumes"
#: What becomes "/" for a client of the storage server; the bind of machines.STORAGE.
STORAGE_CHROOT = "/var/lib/storage"
_STORAGE_UID = 2000

SERVERS = (GATEWAY, *NODES, STORAGE)

_CONFIG = """\
ListenAddress {address}
HostKey /etc/ssh/berth_host_key
AuthorizedKeysFile /etc/ssh/authorized_keys_%u
PermitRootLogin {root_login}
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
PrintMotd no
PrintLastLog no
X11Forwarding no
MaxSessions 200
MaxStartups 200:30:400
LoginGraceTime 20
Subsystem sftp internal-sftp
"""

_STORAGE_CONFIG = f"""\
AllowUsers {STORAGE_USER}
Match User {STORAGE_USER}
    ChrootDirectory {STORAGE_CHROOT}
    ForceCommand internal-sftp
    DisableForwarding yes
    PermitTTY no
    PermitUserRC no
"""


def make_keys(store: Store, plan: Plan) -> None:
    """The portal's key, the nodes' storage key and every server's host key; existing ones are kept."""
    _make_key(store.portal / "ssh_key", f"portal@{plan.name}")
    _make_key(store.secrets / "storage_key", f"nodes@{plan.name}")
    for spec in SERVERS:
        _make_key(host_key(store, spec), spec.name)
    write_file(store.portal / "known_hosts", "".join(_known_host(store, plan, spec) for spec in SERVERS))


def host_key(store: Store, spec: MachineSpec) -> Path:
    return store.secrets / f"host-{spec.name}"


def write_server(etc: Path, spec: MachineSpec, store: Store, plan: Plan) -> None:
    """Put into a machine's own /etc what its sshd needs."""
    is_storage = spec is STORAGE
    config = _CONFIG.format(address=plan.private(spec), root_login="no" if is_storage else "prohibit-password")
    write_file(etc / "ssh/sshd_config", config + (_STORAGE_CONFIG if is_storage else ""))
    write_file(etc / "ssh/berth_host_key", host_key(store, spec).read_text(), mode=0o600)
    portal = (store.portal / "ssh_key.pub").read_text()
    if is_storage:
        nodes = (store.secrets / "storage_key.pub").read_text()
        write_file(etc / f"ssh/authorized_keys_{STORAGE_USER}", portal + nodes)
    else:
        write_file(etc / "ssh/authorized_keys_root", portal)
    if spec in NODES:
        write_file(etc / "berth/storage.key", (store.secrets / "storage_key").read_text(), mode=0o600)
        write_file(etc / "berth/storage_known_hosts", _known_host(store, plan, STORAGE))


def write_accounts(etc: Path, spec: MachineSpec) -> None:
    """The machine's own passwd, group and shadow."""
    passwd = Path("/etc/passwd").read_text().splitlines()
    # A plain shell reads no start-up files: an ssh command is a third quicker than with bash and root's profile.
    passwd = ["root:x:0:0:root:/root:/bin/sh" if line.startswith("root:") else line for line in passwd]
    # Without PAM sshd refuses an account whose password begins with "!"; "*" is only one that nobody can type.
    shadow = ["root:*:19000:0:99999:7:::", "sshd:*:19000:0:99999:7:::"]
    group = Path("/etc/group").read_text().splitlines()
    if spec is STORAGE:
        passwd = [line for line in passwd if not line.startswith(f"{STORAGE_USER}:")]
        group = [line for line in group if not line.startswith(f"{STORAGE_USER}:")]
        passwd.append(f"{STORAGE_USER}:x:{_STORAGE_UID}:{_STORAGE_UID}::{STORAGE_PATH}:/bin/sh")
        group.append(f"{STORAGE_USER}:x:{_STORAGE_UID}:")
        shadow.append(f"{STORAGE_USER}:*:19000:0:99999:7:::")
    write_file(etc / "passwd", "\n".join(passwd) + "\n")
    write_file(etc / "group", "\n".join(group) + "\n")
    write_file(etc / "shadow", "\n".join(shadow) + "\n", mode=0o600)


def prepare_storage(data: Path) -> None:
    """The directory that clients of the storage server see as /: root's, as sshd demands, with one that is theirs."""
    data.mkdir(parents=True, exist_ok=True)
    data.chmod(0o755)
    volumes = data / STORAGE_PATH.lstrip("/")
    volumes.mkdir(exist_ok=True)
    os.chown(volumes, _STORAGE_UID, _STORAGE_UID)
    volumes.chmod(0o750)


def _known_host(store: Store, plan: Plan, spec: MachineSpec) -> str:
    kind, key, _ = host_key(store, spec).with_suffix(".pub").read_text().split(maxsplit=2)
    return f"{plan.private(spec)},{spec.name} {kind} {key}\n"


def _make_key(path: Path, comment: str) -> None:
    if path.exists() and path.with_suffix(".pub").exists():
        return
    path.unlink(missing_ok=True)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)])
