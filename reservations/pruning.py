"""Takes images off the nodes that nothing needs any more: only such as Berth itself has pulled.

Berth pulls by digest what a booking names, so an image is ours when every name it has is a reference of a booking or
of the catalogue. One with any other name (a tag, a digest from elsewhere) is somebody else's and stays. Needed is what
a service offers today and what a live reservation was booked with; and the engine refuses whatever a container of
anybody's stands on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Max

from accounts import audit
from compute import drivers
from compute.engine import EngineRefused
from compute.models import Node
from compute.spec import ImageSeen
from reservations.models import Reservation, Service, ServiceVersion


@dataclass(frozen=True, slots=True)
class Known:
    """The references that Berth may have pulled, each with when a reservation of it was over; those needed still."""

    last_used: dict[str, datetime | None]
    needed: frozenset[str]


@dataclass(frozen=True, slots=True)
class Pruned:
    """An image that was taken off its node, or would be. `problem`: why it is still there."""

    node: str
    reference: str
    size_mib: int
    last_used: datetime | None
    problem: str = ""


def known() -> Known:
    """From the rows; two queries and two for the catalogue, however many reservations there were."""
    offered = {row.reference for row in Service.objects.exclude(digest="")}
    offered |= {row.reference for row in ServiceVersion.objects.exclude(digest="")}
    live = set(Reservation.objects.live().order_by().values_list("image", flat=True).distinct())
    over = Reservation.objects.past().order_by().values_list("image").annotate(Max("ended_at"))
    last_used: dict[str, datetime | None] = dict.fromkeys(offered | live)
    last_used |= dict(over)
    return Known({_short(name): at for name, at in last_used.items()}, frozenset(map(_short, offered | live)))


def spare(images: list[ImageSeen], rows: Known, *, before: datetime) -> list[ImageSeen]:
    """Those that are ours, that nothing needs, and that no reservation used since `before`. Pure."""
    return [image for image in images if not image.used and _all_spare(image, rows, before)]


def _all_spare(image: ImageSeen, rows: Known, before: datetime) -> bool:
    for name in map(_short, image.names):
        if name not in rows.last_used or name in rows.needed:
            return False
        if (last := rows.last_used[name]) and last > before:
            return False
    return bool(image.names)  # one without a name is of somebody's build


def prune(*, node: Node, older_than: timedelta, by: object, now: datetime, dry_run: bool = False) -> Iterator[Pruned]:
    """Take them off this node, one by one, each told of when it is gone. Raises NoAnswer or EngineRefused if the node
    does not even list them.

    An image that the engine refuses to take off is told with its problem. Once more does nothing. A booking that needs
    an image again pulls it again.
    """
    engine = drivers.engine(node)
    images = engine.list_images()
    rows = known()  # after the images: what was booked in between is needed
    gone = []
    try:
        for image in spare(images, rows, before=now - older_than):
            for name in image.names:
                problem = ""
                if not dry_run:
                    try:
                        engine.forget_image(name)
                        gone.append(name)
                    except EngineRefused as refused:
                        problem = str(refused)
                yield Pruned(node.name, name, image.size_mib, rows.last_used[_short(name)], problem)
    finally:
        if gone:
            with transaction.atomic(durable=True):
                audit.record(by=by, action="node.prune", target=f"node:{node.pk}", name=node.name, images=gone)


def _short(reference: str) -> str:
    """As an engine shows it: an image of Docker Hub without its registry, and its own ones without their library."""
    return reference.removeprefix("docker.io/").removeprefix("library/")
