"""Volumes with a hard size: an ext4 image, loop-mounted on the node and then bound into the container.

The image lies on the node's disk (C1), or on a storage server whose folder the node mounts by sshfs (C2, C3).
A remote volume is an image too, since a plain sshfs folder has no size limit, no owners but one account and no
honest fsync, so that a database on it breaks (docs/adr/0004). A remote image carries ext4's multi-mount
protection, so that two nodes do not write to one volume.

Each call is one small script on the node, over SSH, and idempotent: what is mounted already is success, what is
gone already is success. All may raise CommandFailed or NoAnswer.
"""

import shlex

from compute.shell import CommandFailed, Host
from compute.spec import RemoteStore, VolumeSpec

ROOT = "/var/lib/berth"
KEY = "/etc/berth/storage.key"
KNOWN_HOSTS = "/etc/berth/storage_known_hosts"
TIMEOUT_S = 45
MOUNTED_AT = f"{ROOT}/volumes"

_MOUNT_STORE = f"""
mkdir -p "$store"
mountpoint -q "$store" || timeout 15 sshfs -p "$port" -o IdentityFile={KEY} -o UserKnownHostsFile={KNOWN_HOSTS} \
  -o StrictHostKeyChecking=yes -o reconnect -o ServerAliveInterval=5 -o ServerAliveCountMax=3 \
  -o nosuid,nodev "$remote" "$store"
"""

_ATTACH = """
mkdir -p "$mount" "${image%/*}"
if ! mountpoint -q "$mount"; then
  if [ ! -e "$image" ]; then
    rm -f "$image.new"
    truncate -s "$bytes" "$image.new"
    mkfs.ext4 -q -F -m 0 -E lazy_itable_init=1,lazy_journal_init=1 $features "$image.new"
    mv "$image.new" "$image"
  fi
  loop=$(losetup --find --show $direct "$image")
  timeout 25 mount -t ext4 -o nosuid,nodev,errors=remount-ro "$loop" "$mount" || { losetup -d "$loop"; exit 1; }
  losetup -d "$loop"  # takes effect when the last mount goes
fi
mkdir -p "$mount/data"
"""

_DETACH = """
while mountpoint -q "$mount"; do
  timeout 10 umount "$mount" || umount -l "$mount"
done
[ ! -e "$mount" ] || rmdir "$mount"
"""

_UNMOUNT_STORE = """
while mountpoint -q "$store"; do
  timeout 10 umount "$store" || umount -l "$store"
done
[ ! -e "$store" ] || rmdir "$store"
"""


def attach(node: Host, volume: VolumeSpec) -> str:
    """Make the volume if it does not exist, mount it on the node; returns the directory for the container."""
    script = _variables(volume) + (_MOUNT_STORE if volume.remote else "") + _ATTACH
    node.run(["sh", "-s"], stdin=script, timeout_s=TIMEOUT_S)
    return f"{MOUNTED_AT}/{volume.name}/data"


def detach(node: Host, volume: VolumeSpec) -> None:
    """Unmount the volume from the node; not mounted there is success. The image stays."""
    script = _variables(volume) + _DETACH + (_UNMOUNT_STORE if volume.remote else "")
    node.run(["sh", "-s"], stdin=script, timeout_s=TIMEOUT_S)


def remove_local(node: Host, volume: VolumeSpec) -> None:
    """Unmount and delete a volume of the node's own disk."""
    script = _variables(volume) + _DETACH + 'rm -f "$image" "$image.new"\n'
    node.run(["sh", "-s"], stdin=script, timeout_s=TIMEOUT_S)


def remove_remote(portal: Host, store: RemoteStore, name: str) -> None:
    """Delete a volume on the storage server, over sftp from the portal; `portal` is the server's Host."""
    for suffix in (".img", ".img.new"):
        portal.sftp([f"-rm {store.path}/{name}{suffix}"])
    left = list_remote(portal, store)
    if name in left:
        raise CommandFailed(portal.target, ["sftp"], 1, f"{name} could not be removed")


def list_remote(portal: Host, store: RemoteStore) -> set[str]:
    """The names of the volumes on the storage server."""
    listing = portal.sftp([f"ls -1 {store.path}"])
    files = (line.strip().rsplit("/", 1)[-1] for line in listing.splitlines() if not line.startswith("sftp>"))
    return {file.split(".img", 1)[0] for file in files if ".img" in file}


def list_mounted(node: Host) -> set[str]:
    """The names of the volumes and stores that are mounted on the node, as `findmnt` tells."""
    listing = node.run(["sh", "-c", f"findmnt -rn -o TARGET | grep '^{ROOT}/' || true"])
    return {line.removeprefix(f"{ROOT}/") for line in listing.splitlines()}


def list_local(node: Host) -> set[str]:
    """The names of the volumes on the node's own disk."""
    listing = node.run(["sh", "-c", f"ls -1 {ROOT}/images 2>/dev/null || true"])
    return {line.split(".img", 1)[0] for line in listing.splitlines() if ".img" in line}


def _variables(volume: VolumeSpec) -> str:
    store = f"{ROOT}/stores/{volume.name}"
    values = {
        "name": volume.name,
        "bytes": str(volume.size_gb * 10**9),
        "mount": f"{MOUNTED_AT}/{volume.name}",
        "store": store,
        "image": f"{store if volume.remote else ROOT + '/images'}/{volume.name}.img",
        "features": "-O mmp" if volume.remote else "",
        # What is in the page cache of one node is not seen by the other: protection needs direct reads.
        "direct": "--direct-io=on" if volume.remote else "",
    }
    if volume.remote:
        values["port"] = str(volume.remote.port)
        values["remote"] = f"{volume.remote.account}@{volume.remote.address}:{volume.remote.path}"
    return "set -eu\n" + "".join(f"{key}={shlex.quote(value)}\n" for key, value in values.items())
