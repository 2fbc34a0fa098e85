"""Volumes with a hard size: an ext4 image, loop-mounted on the node and then bound into the container.

The image lies on the node's disk (C1), or on a storage server whose folder the node mounts by sshfs (C2, C3).
A remote volume is an image too, since a plain sshfs folder has no size limit, no owners but one account and no
honest fsync, so that a database on it breaks (docs/adr/0004). A remote image carries ext4's multi-mount
protection, so that two nodes do not write to one volume.

Each call is one small script on the node, over SSH, and idempotent: what is mounted already is success, what is
gone already is success. Each holds the lock of its volume. All may raise CommandFailed or NoAnswer.
"""

import shlex

from compute.shell import CommandFailed, Host, NoAnswer
from compute.spec import RemoteStore, VolumeSpec

ROOT = "/var/lib/berth"
KEY = "/etc/berth/storage.key"
KNOWN_HOSTS = "/etc/berth/storage_known_hosts"
TIMEOUT_S = 100  # more than all the waits in a script, so that only a silent node is taken for one
MOUNTED_AT = f"{ROOT}/volumes"
_TRY_LATER = 75  # EX_TEMPFAIL of sysexits.h


class StorageSilent(NoAnswer):
    """The node answered, but what it has to wait for (its storage server, an earlier step on the volume) did not."""


# One step at a time on a volume: a late attach cannot run beside a detach. Whatever goes on after the script must
# be started without the descriptor, or it would keep the lock. A file system whose program has died cannot be
# looked at (ENOTCONN), but it is mounted: only the kernel's table tells.
_LOCK = f"""
exec 9>"/run/berth-$name.lock"
flock -w 30 9 || {{ echo "an earlier step on $name has not ended" >&2; exit {_TRY_LATER}; }}
mounted() {{ grep -qF " $1 " /proc/self/mountinfo; }}
unmount() {{
  while mounted "$1"; do
    timeout -k 2 10 umount "$1" 2>/dev/null || umount -l -c "$1"
  done
}}
"""

_MOUNT_STORE = f"""
if mounted "$store" && ! timeout -k 2 5 stat "$store" >/dev/null 2>&1; then
  if mounted "$mount"; then umount -l -c "$mount"; fi  # it lies on the dead one
  umount -l -c "$store"
fi
mkdir -p "$store"
if ! mounted "$store"; then
  code=0
  timeout -k 2 15 sshfs -p "$port" -o IdentityFile={KEY} -o UserKnownHostsFile={KNOWN_HOSTS} \
    -o StrictHostKeyChecking=yes -o ConnectTimeout=10 -o reconnect -o ServerAliveInterval=5 \
    -o ServerAliveCountMax=3 -o nosuid,nodev "$remote" "$store" 9>&- || code=$?
  [ "$code" -ne 127 ] || exit 127
  if [ "$code" -ne 0 ]; then echo "the storage server of $name does not answer" >&2; exit {_TRY_LATER}; fi
fi
"""

_ATTACH = """
mkdir -p "$mount" "${image%/*}"
if ! mounted "$mount"; then
  if [ ! -e "$image" ]; then
    if [ -z "$fresh" ]; then echo "the image of $name is missing" >&2; exit 1; fi
    rm -f "$image.new"
    truncate -s "$bytes" "$image.new"
    mkfs.ext4 -q -F -m 0 -E lazy_itable_init=1,lazy_journal_init=1 $features "$image.new"
    mv "$image.new" "$image"
  fi
  # After an unclean end, multi-mount protection watches the image twice for 11 s.
  loop=$(losetup --find --show $direct "$image")
  timeout 45 mount -t ext4 -o nosuid,nodev,errors=remount-ro "$loop" "$mount" || { losetup -d "$loop"; exit 1; }
  losetup -d "$loop"  # takes effect when the last mount goes
fi
mkdir -p "$mount/data"
"""

_DETACH = """
for place in "$mount" "$store"; do
  unmount "$place"
  [ ! -e "$place" ] || rmdir "$place"
done
"""


def attach(node: Host, volume: VolumeSpec) -> str:
    """Mount the volume on the node; returns the directory for the container.

    A fresh volume is made if it does not exist; the missing image of any other is CommandFailed, since an empty one
    in its place would hide that data is lost or a disk not mounted. Raises StorageSilent too.
    """
    _run(node, _variables(volume) + _LOCK + (_MOUNT_STORE if volume.remote else "") + _ATTACH)
    return f"{MOUNTED_AT}/{volume.name}/data"


def detach(node: Host, volume: VolumeSpec) -> None:
    """Unmount the volume from the node; not mounted there is success. The image stays."""
    unmount(node, volume.name)


def unmount(node: Host, name: str) -> None:
    """The same for the volume of this name, of whatever kind it is."""
    _run(node, _places(name) + _LOCK + _DETACH)


def _run(node: Host, script: str) -> None:
    try:
        node.run(["sh", "-s"], stdin=script, timeout_s=TIMEOUT_S)
    except CommandFailed as problem:
        if problem.code == _TRY_LATER:
            raise StorageSilent(problem.stderr) from problem
        raise


def remove_local(node: Host, volume: VolumeSpec) -> None:
    """Unmount and delete a volume of the node's own disk."""
    _run(node, _variables(volume) + _LOCK + _DETACH + 'rm -f "$image" "$image.new"\n')


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


def list_both(node: Host) -> tuple[set[str], set[str]]:
    """`list_mounted` and `list_local` in one call."""
    mounted = f"findmnt -rn -o TARGET | grep '^{ROOT}/' || true"
    script = f"{mounted}\ncd {ROOT}/images 2>/dev/null && ls -1 || true\n"
    lines = node.run(["sh", "-s"], stdin=script).splitlines()
    places = {line.removeprefix(f"{ROOT}/") for line in lines if line.startswith(f"{ROOT}/")}
    return places, {line.split(".img", 1)[0] for line in lines if "/" not in line and ".img" in line}


def _places(name: str) -> str:
    return _assign({"name": name, "mount": f"{MOUNTED_AT}/{name}", "store": f"{ROOT}/stores/{name}"})


def _variables(volume: VolumeSpec) -> str:
    folder = f"{ROOT}/stores/{volume.name}" if volume.remote else f"{ROOT}/images"
    values = {
        "bytes": str(volume.size_gb * 10**9),
        "image": f"{folder}/{volume.name}.img",
        "fresh": "yes" if volume.fresh else "",
        "features": "-O mmp" if volume.remote else "",
        # What is in the page cache of one node is not seen by the other: protection needs direct reads.
        "direct": "--direct-io=on" if volume.remote else "",
    }
    if volume.remote:
        values["port"] = str(volume.remote.port)
        values["remote"] = f"{volume.remote.account}@{volume.remote.address}:{volume.remote.path}"
    return _places(volume.name) + _assign(values)


def _assign(values: dict[str, str]) -> str:
    return "set -eu\n" + "".join(f"{key}={shlex.quote(value)}\n" for key, value in values.items())
