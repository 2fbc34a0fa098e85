"""What a workspace holds at the same time, and whether one more booking stays within its quota."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from accounts.models import Workspace
from reservations.models import Reservation, WorkspaceVolume
from reservations.states import State


@dataclass(frozen=True, slots=True)
class Hold:
    """What one booking holds over [start, end)."""

    start: datetime
    end: datetime
    ram_mib: int
    cores: Decimal
    storage_gb: int


@dataclass(frozen=True, slots=True)
class Use:
    """The most that is held at one instant, of each kind."""

    reservations: int = 0
    ram_mib: int = 0
    cores: Decimal = Decimal(0)
    storage_gb: int = 0


def peak_use(holds: Sequence[Hold], start: datetime, end: datetime) -> Use:
    """The most of each kind that `holds` hold at any instant of [start, end).

    Goes through their begins and ends in order of time, at the same instant the ends first: intervals are half-open.
    """
    changes: list[tuple[datetime, int, Hold]] = []
    for hold in holds:
        if hold.start < end and hold.end > start:
            changes += [(max(hold.start, start), 1, hold), (hold.end, -1, hold)]
    count = ram_mib = storage_gb = 0
    cores = Decimal(0)
    most = Use()
    for _, sign, hold in sorted(changes, key=lambda change: change[:2]):
        count += sign
        ram_mib += sign * hold.ram_mib
        cores += sign * hold.cores
        storage_gb += sign * hold.storage_gb
        most = Use(
            max(most.reservations, count),
            max(most.ram_mib, ram_mib),
            max(most.cores, cores),
            max(most.storage_gb, storage_gb),
        )
    return most


def holds_of(workspace: Workspace) -> list[Hold]:
    """What the workspace has booked; one that is being taken down no longer counts."""
    rows = Reservation.objects.filter(workspace=workspace).live().exclude(state=State.ENDING)
    return [
        # Kept volumes are counted once, whether or not something uses them.
        Hold(row.start, row.end, row.ram_mib, row.cores, 0 if row.kept_volume_id else row.storage_gb)
        for row in rows.only("start", "end", "ram_mib", "cores", "storage_gb", "kept_volume_id")
    ]


def kept_gb(workspace: Workspace) -> int:
    volumes = WorkspaceVolume.objects.present().filter(workspace=workspace)
    return sum(volumes.values_list("volume__size_gb", flat=True))


def shortfall(workspace: Workspace, wanted: Hold, kept_more_gb: int = 0, *, copies: int = 1) -> str:
    """Why `wanted` would be over the workspace's quota; empty when it is within.

    `wanted` is what all `copies` hold; `kept_more_gb` is the size of a volume that this booking would make and keep.
    """
    use = peak_use(holds_of(workspace), wanted.start, wanted.end)
    storage = use.storage_gb + wanted.storage_gb + kept_gb(workspace) + kept_more_gb
    checks: list[tuple[int | Decimal, int | Decimal, str]] = [
        (use.reservations + copies, workspace.max_reservations, "reservations at once"),
        (use.cores + wanted.cores, workspace.max_cores, "cores at once"),
        (use.ram_mib + wanted.ram_mib, workspace.max_ram_mib, "MiB of RAM at once"),
        (storage, workspace.max_storage_gb, "GB of storage"),
    ]
    for would_be, limit, what in checks:
        if would_be > limit:
            return (
                f"Over the quota of {workspace.name}: this would make {would_be:g} {what}, and {limit:g} are allowed."
            )
    return ""
