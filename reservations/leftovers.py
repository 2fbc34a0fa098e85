"""The round that finds volumes on machines that nobody uses any more; it never touches what is in a kept one."""

import logging
import re
from collections.abc import Collection
from datetime import datetime

from django.db.models import Q

from compute import drivers, volumes
from compute.log_context import about_its_node
from compute.models import Node, StorageServer, Volume
from compute.shell import CommandFailed, Host, NoAnswer
from reservations import numbers, sightings
from reservations.models import Container, Orphan, Reservation

logger = logging.getLogger(__name__)
PREFIX = "volume:"
KEEP = "After a restored backup it may be somebody's only copy: Berth never touches it. Look first, then remove it."
_OURS = re.compile(r"vol-([0-9]{1,15})")


def unknown(names: Collection[str]) -> set[str]:
    """Those of these names of volumes that no row has."""
    ours = {name for name in names if _OURS.fullmatch(name)}
    rows = Volume.objects.filter(pk__in=[_number(name) for name in ours])
    return ours - {row.machine_name for row in rows}


def is_ours(name: str) -> bool:
    """Whether it is a name that Berth gives to volumes."""
    return bool(_OURS.fullmatch(name))


def _unknown_on(server: StorageServer) -> set[str]:
    try:
        return unknown(volumes.list_remote(drivers.storage(server), server.spec))
    except (NoAnswer, CommandFailed) as problem:
        logger.info("storage server %s: its images are not known: %s", server.name, problem)
        return set()


def skip_known_ids(names: Collection[str]) -> None:
    """The next volumes get numbers above those of these images, so that none of them is in the way of a new one."""
    highest = max((_number(name) for name in names if _OURS.fullmatch(name)), default=0)
    if highest and numbers.skip(Volume, highest):
        logger.error("images up to vol-%d are not in the database: is it an older backup? See doctor.", highest)


def sweep_servers() -> None:
    """Keep new volumes away from the numbers of images that no row has."""
    for server in StorageServer.objects.filter(active=True):
        skip_known_ids(_unknown_on(server))


@about_its_node
def sweep(node: Node, now: datetime) -> None:
    """Unmount what belongs to no row, and delete the local images of removed volumes; after the second sight.

    An image that no row knows stays (doctor tells of it): the rows may be older than the disk, from a backup. When
    the node gives no answer nothing is concluded.
    """
    host = drivers.host(node)
    if host is None:
        return
    try:
        places, images = volumes.list_both(host)
    except (NoAnswer, CommandFailed) as problem:
        logger.info("node %s: volumes not compared: %s", node.name, problem)
        return
    skip_known_ids(unknown(images))
    mounted = {place.rsplit("/", 1)[-1] for place in places}
    left = _unused(node, mounted) | removed(node, images)
    earlier = Orphan.objects.filter(node=node, name__startswith=PREFIX)
    for row, ripe in sightings.note(node, {PREFIX + name for name in left}, earlier, now):
        if ripe and _take_away(node, host, row.name.removeprefix(PREFIX), images):
            row.delete()


def take_away(row: Orphan) -> bool:
    """Take what was noted and is past its grace from its node, if nobody uses it now; whether it is gone.

    Raises NoAnswer or CommandFailed when the node cannot say what is there.
    """
    host, name = drivers.host(row.node), row.name.removeprefix(PREFIX)
    if host is None:
        return False
    _, images = volumes.list_both(host)
    if not _take_away(row.node, host, name, images):
        return False
    row.delete()
    return True


def unmount(row: Orphan) -> bool:
    """Unmount what was noted and is past its grace, if nobody uses it now; whether it is. Its image stays.

    Raises NoAnswer or CommandFailed.
    """
    host, name = drivers.host(row.node), row.name.removeprefix(PREFIX)
    if host is None or not _unused(row.node, {name}):
        return False
    volumes.unmount(host, name)
    logger.warning("unmounted %s on %s: no reservation uses it there", name, row.node.name)
    row.delete()
    return True


def _take_away(node: Node, host: Host, name: str, images: set[str]) -> bool:
    if not _unused(node, {name}):  # asked again: it may have been attached since the list was made
        return False
    try:
        if removed(node, images & {name}):
            volumes.remove_local(host, Volume.objects.get(pk=_number(name)).spec)
        else:
            volumes.unmount(host, name)
    except (NoAnswer, CommandFailed) as problem:
        logger.warning("%s on %s could not be taken away: %s", name, node.name, problem)
        return False
    logger.warning("took %s from %s: no reservation uses it there", name, node.name)
    return True


def _unused(node: Node, names: set[str]) -> set[str]:
    """Those that no volume attached to this node has, nor a container that may still be there."""
    there = Container.objects.present().filter(node=node, volume__isnull=False).values("volume")
    rows = Volume.objects.filter(Q(node=node, state=Volume.State.ATTACHED) | Q(pk__in=there))
    return {name for name in names if _OURS.fullmatch(name)} - {row.machine_name for row in rows}


def removed(node: Node, images: set[str]) -> set[str]:
    """Those images of a local volume that was removed, and that nothing on the node uses."""
    numbers = [_number(name) for name in _unused(node, images)]
    rows = Volume.objects.filter(pk__in=numbers, server=None, state=Volume.State.REMOVED)
    return {row.machine_name for row in rows}


def _number(name: str) -> int:
    return int(name.removeprefix("vol-"))


def remove_deleted() -> None:
    """Remove the images of deleted kept volumes from their storage servers; of a silent one only the first is tried."""
    mark_deleted()
    silent: set[int | None] = set()
    there = Container.objects.present().filter(volume__isnull=False).values("volume")
    for volume in Volume.objects.filter(state=Volume.State.REMOVING).exclude(pk__in=there).select_related("server"):
        if volume.server_id in silent:
            continue
        try:
            if volume.server:
                portal, spec = drivers.storage(volume.server), volume.spec
                volumes.remove_remote(portal, volume.server.spec, spec.name, spec.uuid)
        except (NoAnswer, CommandFailed) as problem:
            logger.warning("%s could not be removed yet: %s", volume, problem)
            if isinstance(problem, NoAnswer):
                silent.add(volume.server_id)
            continue
        Volume.objects.filter(pk=volume.pk, state=Volume.State.REMOVING).update(state=Volume.State.REMOVED, node=None)
        logger.info("removed %s, which was deleted by its owner or never used", volume)


def mark_deleted() -> None:
    """Kept volumes that were deleted while a machine still held them: to be removed, once none may hold them."""
    there = Container.objects.present().filter(volume__isnull=False).values("volume")
    in_use = Reservation.objects.live().filter(kept_volume__isnull=False).values("kept_volume__volume")
    rows = Volume.objects.filter(
        state__in=[Volume.State.DETACHED, Volume.State.ATTACHED], owned__deleted_at__isnull=False
    )
    rows.exclude(pk__in=there).exclude(pk__in=in_use).update(state=Volume.State.REMOVING)
