"""What a workspace holds at the same time, and whether one more booking stays within its quota."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from operator import itemgetter
from typing import NamedTuple

from django.db.models import Case, When

from accounts.models import Workspace
from reservations.models import Reservation, WorkspaceVolume
from reservations.states import State


class Hold(NamedTuple):
    """What one booking holds over [start, end)."""

    start: datetime
    end: datetime
    ram_mib: int
    cores: Decimal
    storage_gb: int


class Use(NamedTuple):
    """The most that is held at one instant, of each kind."""

    reservations: int = 0
    ram_mib: int = 0
    cores: Decimal = Decimal(0)
    storage_gb: int = 0


def peak_use(holds: Sequence[Hold], start: datetime, end: datetime) -> Use:
    """The most of each kind that `holds` hold at any instant of [start, end)."""
    uses = [use for _, use in _course(holds, start, end)]
    return Use(*map(max, zip(*uses, strict=True))) if uses else Use()


def _course(holds: Sequence[Hold], start: datetime, end: datetime) -> Iterator[tuple[datetime, Use]]:
    """What is held after each begin and end within [start, end), with its instant.

    At the same instant the ends come first: intervals are half-open.
    """
    changes: list[tuple[datetime, int, Hold]] = []
    for hold in holds:
        if hold.start < end and hold.end > start:
            changes += [(max(hold.start, start), 1, hold), (hold.end, -1, hold)]
    count = ram_mib = storage_gb = 0
    cores = Decimal(0)
    for instant, sign, hold in sorted(changes, key=itemgetter(0, 1)):
        count += sign
        ram_mib += sign * hold.ram_mib
        cores += sign * hold.cores
        storage_gb += sign * hold.storage_gb
        yield instant, Use(count, ram_mib, cores, storage_gb)


def holds_of(workspace: Workspace) -> list[Hold]:
    """What the workspace has booked; one that is being taken down no longer counts."""
    rows = Reservation.objects.filter(workspace=workspace).live().exclude(state=State.ENDING)
    # Kept volumes are counted once, whether or not something uses them.
    own_gb = Case(When(kept_volume=None, then="storage_gb"), default=0)
    return list(map(Hold._make, rows.order_by().values_list("start", "end", "ram_mib", "cores", own_gb)))


def kept_gb(workspace: Workspace) -> int:
    volumes = WorkspaceVolume.objects.present().filter(workspace=workspace)
    return sum(volumes.values_list("volume__size_gb", flat=True))


@dataclass(frozen=True, slots=True)
class Held:
    """All that a workspace holds, read once, to ask about several wishes."""

    workspace: Workspace
    holds: list[Hold]
    kept_gb: int

    @classmethod
    def of(cls, workspace: Workspace) -> "Held":
        return cls(workspace, holds_of(workspace), kept_gb(workspace))

    def shortfall(self, wanted: Hold, kept_more_gb: int = 0, *, copies: int = 1) -> str:
        """Why `wanted` would be over the workspace's quota; empty when it is within.

        `wanted` is what all `copies` hold; `kept_more_gb` is the size of a volume that this booking would make and
        keep.
        """
        use = peak_use(self.holds, wanted.start, wanted.end)
        return _over(self.workspace, use, wanted, self.kept_gb + kept_more_gb, copies)


def shortfall(workspace: Workspace, wanted: Hold, kept_more_gb: int = 0, *, copies: int = 1) -> str:
    """As `Held.shortfall`, of what the workspace holds now."""
    return Held.of(workspace).shortfall(wanted, kept_more_gb, copies=copies)


def first_shortfall(workspace: Workspace, wanted: Hold) -> tuple[datetime, str] | None:
    """The first instant from which on `wanted` would be over the quota, and why; None: it is within to its end."""
    kept = kept_gb(workspace)
    alone = (wanted.start, Use())
    for instant, use in (alone, *_course(holds_of(workspace), wanted.start, wanted.end)):
        if sentence := _over(workspace, use, wanted, kept, 1):
            return instant, sentence
    return None


def _over(workspace: Workspace, use: Use, wanted: Hold, kept: int, copies: int) -> str:
    storage = use.storage_gb + wanted.storage_gb + kept
    checks: list[tuple[int | Decimal, int | Decimal, str]] = [
        (use.reservations + copies, workspace.max_reservations, "reservations at once"),
        (use.cores + wanted.cores, workspace.max_cores, "cores at once"),
        (use.ram_mib + wanted.ram_mib, workspace.max_ram_mib, "MiB of RAM at once"),
        (storage, workspace.max_storage_gb, "GB of storage"),
    ]
    for would_be, limit, what in checks:
        if would_be > limit:
            return (
                f"Over the quota of {workspace.name}: this would make {_plain(would_be)} {what}, and"
                f" {_plain(limit)} are allowed."
            )
    return ""


def _plain(number: int | Decimal) -> str:
    return f"{Decimal(number).normalize():f}"
