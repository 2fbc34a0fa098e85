"""Volumes with a hard size: an ext4 image, loop-mounted on the node and then bound into the container.

The image lies on the node's disk (C1), or on a storage server whose folder the node mounts by sshfs (C2, C3).
A remote volume is an image too, since a plain sshfs folder has no size limit, no owners but one account and no
honest fsync, so that a database on it breaks (docs/adr/0004). A remote image carries ext4's multi-mount
protection, so that two nodes do not write to one volume.

Each call is one small script on the node, over SSH, and idempotent: what is mounted already is success, what is
gone already is success. Each holds the lock of its volume. All may raise CommandFailed or NoAnswer.
"""

import logging
from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum

from compute import sftp, volume_scripts
from compute.shell import CommandFailed, Host, NoAnswer
from compute.spec import RemoteStore, VolumeSpec

logger = logging.getLogger(__name__)
ROOT, MOUNTED_AT = volume_scripts.ROOT, volume_scripts.MOUNTED_AT
TIMEOUT_S = 140  # more than all the waits in a script, so that only a silent node is taken for one
HUNG_FOR = timedelta(seconds=45)  # a slow answer is no reason to cut a store off
_UUID_AT = (1128, 16)  # in an image: the superblock begins at 1024, its s_uuid at 0x68


class StorageSilent(NoAnswer):
    """The node answered, but what it has to wait for (its storage server, an earlier step on the volume) did not."""


class ForeignImage(CommandFailed):
    """There is an image of this name with another UUID: of another installation, or of a newer database."""


class Condition(StrEnum):
    """How an attached volume is."""

    WELL = "well"
    BUSY = "busy"  # a step goes on; nothing is concluded
    GONE = "gone"  # not mounted
    READ_ONLY = "read-only"  # its file system met an error and takes no more writes
    DEAD = "dead"  # the connection to its storage was lost
    HUNG = "hung"  # its storage gives no answer; who reads or writes there waits


def attach(node: Host, volume: VolumeSpec) -> str:
    """Mount the volume on the node; returns the directory for the container.

    A fresh volume is made if it does not exist; the missing image of any other is CommandFailed, since an empty one
    in its place would hide that data is lost or a disk not mounted. Raises StorageSilent and ForeignImage too. What is
    mounted but went read-only, or lies on a dead sshfs, is mounted anew: nobody may be using it.
    """
    store = volume_scripts.MOUNT_STORE if volume.remote else ""
    _run(node, _variables(volume) + volume_scripts.LOCK + store + volume_scripts.ATTACH)
    logger.info("%s: attached the volume %s", node.target or "this machine", volume.name)
    return f"{MOUNTED_AT}/{volume.name}/data"


def detach(node: Host, volume: VolumeSpec) -> None:
    """Unmount the volume from the node; not mounted there is success. The image stays. Raises StorageSilent too."""
    unmount(node, volume.name)


def unmount(node: Host, name: str) -> None:
    """The same for the volume of this name, of whatever kind it is."""
    _run(node, _places(name) + volume_scripts.LOCK + volume_scripts.DETACH)
    logger.info("%s: detached the volume %s", node.target or "this machine", name)


def _run(node: Host, script: str) -> None:
    try:
        node.run(["sh", "-s"], stdin=script, timeout_s=TIMEOUT_S)
    except CommandFailed as problem:
        if problem.code == volume_scripts.TRY_LATER:
            raise StorageSilent(problem.stderr) from problem
        if problem.code == volume_scripts.FOREIGN:
            raise ForeignImage(node.target, ["sh"], problem.code, problem.stderr) from problem
        raise


def check(node: Host, attached: Sequence[VolumeSpec], *, hung_for: timedelta = HUNG_FOR) -> dict[str, Condition]:
    """How the volumes are that should be attached to the node, by name; bounded, whatever hangs there.

    A store that gave no answer for so long is cut off: whoever waits for it gets an error, and can be ended.
    """
    stores = {volume.name: f"{ROOT}/stores/{volume.name}" if volume.remote else "''" for volume in attached}
    looks = "".join(f"(look {name} {store}) &\n" for name, store in sorted(stores.items()))
    known = volume_scripts.assign({"hung_for": str(int(hung_for.total_seconds()))})
    answer = node.run(["sh", "-s"], stdin=known + volume_scripts.CHECK + looks + "wait\n")
    words = [line.split() for line in answer.splitlines()]
    return {name: Condition(how) for name, how in words}


def storage_answers(node: Host, volume: VolumeSpec) -> bool:
    """Whether what the volume lies on could be mounted from this node now: its storage server lets it in."""
    if volume.remote is None:
        return True
    script = _variables(volume) + volume_scripts.ANSWERS
    return node.run(["sh", "-s"], stdin=script).strip() == "yes"


def remove_local(node: Host, volume: VolumeSpec) -> None:
    """Unmount and delete a volume of the node's own disk; an image with another UUID stays."""
    scripts = volume_scripts
    _run(node, _variables(volume) + scripts.LOCK + scripts.DETACH + scripts.REMOVE_LOCAL)


def remove_remote(portal: Host, store: RemoteStore, name: str, uuid: str = "") -> None:
    """Delete a volume on the storage server, over sftp from the portal; `portal` is the server's Host.

    With `uuid`, an image that has another one is somebody else's, and stays.
    """
    if uuid and (found := sftp.read_at(portal, f"{store.path}/{name}.img", *_UUID_AT)) not in {None, _bytes(uuid)}:
        logger.error("%s on %s has the UUID %s and not %s: it stays", name, portal.target, found, uuid)
        return
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
    said = f"/run/berth-{name}.said"
    places = {"name": name, "mount": f"{MOUNTED_AT}/{name}", "store": f"{ROOT}/stores/{name}", "said": said}
    return volume_scripts.assign(places)


def _variables(volume: VolumeSpec) -> str:
    folder = f"{ROOT}/stores/{volume.name}" if volume.remote else f"{ROOT}/images"
    features = ["-O mmp"] if volume.remote else []
    values = {
        "bytes": str(volume.size_gb * 10**9),
        "image": f"{folder}/{volume.name}.img",
        "fresh": "yes" if volume.fresh else "",
        "features": " ".join([*features, f"-U {volume.uuid}"] if volume.uuid else features),
        # Whoever mounts it after an unclean end watches it for 2 × 11 s then; for 2 × 21 s with the usual 5 s.
        "extended": ",mmp_update_interval=2" if volume.remote else "",
        "uuid": volume.uuid.replace("-", ""),
        # What is in the page cache of one node is not seen by the other: protection needs direct reads.
        "direct": "--direct-io=on" if volume.remote else "",
        "remote": "",
    }
    if volume.remote:
        account = f"{volume.remote.account}@{volume.remote.address}"
        values |= {"port": str(volume.remote.port), "account": account, "path": volume.remote.path}
        values["remote"] = f"{account}:{volume.remote.path}"
    return volume_scripts.assign(values) + _places(volume.name)


def _bytes(uuid: str) -> bytes:
    return bytes.fromhex(uuid.replace("-", ""))
