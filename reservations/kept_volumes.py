"""Kept volumes with who uses them, for pages and API: a constant number of queries."""

from collections.abc import Collection
from dataclasses import dataclass

from accounts.models import User
from reservations.models import Reservation, WorkspaceVolume


@dataclass(frozen=True, slots=True)
class KeptVolume:
    """A kept volume and the first live reservation that has booked it."""

    volume: WorkspaceVolume
    used_by: Reservation | None


def visible_to(user: User) -> list[KeptVolume]:
    rows = list(WorkspaceVolume.objects.present().visible_to(user).select_related("volume", "service"))
    users = used_by(rows)
    return [KeptVolume(row, users.get(row.pk)) for row in rows]


def used_by(rows: Collection[WorkspaceVolume]) -> dict[int, Reservation]:
    """The first live reservation of each, by the volume's key."""
    found: dict[int, Reservation] = {}
    users = Reservation.objects.live().filter(kept_volume__in=rows).select_related("service").order_by("start")
    for reservation in users:
        found.setdefault(reservation.kept_volume_id or 0, reservation)
    return found
