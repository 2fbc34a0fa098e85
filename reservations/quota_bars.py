"""A workspace's quota as bars: what it holds now, the most that it has booked ahead, and what it may."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from accounts.models import Workspace
from reservations import quota

FULL, HIGH = 100, 80  # % of the quota


@dataclass(frozen=True, slots=True)
class Bar:
    """One kind of quota. Percentages are of the limit and at most 100; of a limit of 0 everything is used."""

    name: str
    unit: str
    now: Decimal
    ahead: Decimal  # the most at one instant from now on, which is now's at least
    limit: Decimal

    @property
    def now_percent(self) -> str:
        return f"{self._share(self.now):.2f}"

    @property
    def ahead_percent(self) -> str:
        return f"{self._share(self.ahead):.2f}"

    @property
    def level(self) -> str:
        share = self._share(self.ahead)
        return "is-full" if share >= FULL else "is-high" if share >= HIGH else ""

    @property
    def sentence(self) -> str:
        """For who cannot see the bar, and below it."""
        now, ahead, limit = (f"{amount.normalize():f}" for amount in (self.now, self.ahead, self.limit))
        unit = f" {self.unit}" if self.unit else ""
        more = f", up to {ahead} booked ahead" if self.ahead > self.now else ""
        return f"{now} of {limit}{unit} in use{more}"

    def _share(self, used: Decimal) -> Decimal:
        return min(used / self.limit, Decimal(1)) * 100 if self.limit else Decimal(100)


def bars(workspace: Workspace, now: datetime) -> list[Bar]:
    """Reservations, cores, RAM and storage, with two queries."""
    holds = quota.holds_of(workspace)
    at_once = quota.peak_use(holds, now, now + timedelta(microseconds=1))
    ahead = quota.peak_use(holds, now, _end(holds, now))
    kept = quota.kept_gb(workspace)
    gib = Decimal(1024)
    return [
        Bar(
            "Reservations at once",
            "",
            Decimal(at_once.reservations),
            Decimal(ahead.reservations),
            Decimal(workspace.max_reservations),
        ),
        Bar("Cores at once", "cores", at_once.cores, ahead.cores, workspace.max_cores),
        Bar("RAM at once", "GiB", at_once.ram_mib / gib, ahead.ram_mib / gib, workspace.max_ram_mib / gib),
        Bar(
            "Storage at once",
            "GB",
            Decimal(at_once.storage_gb + kept),
            Decimal(ahead.storage_gb + kept),
            Decimal(workspace.max_storage_gb),
        ),
    ]


def _end(holds: Sequence[quota.Hold], now: datetime) -> datetime:
    return max((hold.end for hold in holds if hold.end > now), default=now + timedelta(microseconds=1))
