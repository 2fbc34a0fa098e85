"""Reads over the whole fleet, for pages and commands: a constant number of queries."""

import re
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange  # type: ignore[import-untyped]

from compute import certificates
from compute.health import UNSEEN_AFTER
from compute.models import Allocation, Node
from compute.series import LATEST

NOT_PROBED_AFTER = UNSEEN_AFTER + timedelta(seconds=10)  # six probes of which none got an answer, or none was made


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A node with what is held of it now, and its latest reading; what no fresh reading tells is None.

    Its health is "unknown" where nobody has probed it lately, whatever the last probe said.
    """

    pk: int
    name: str
    address: str
    gateway_name: str
    state: str
    health: str
    health_reason: str
    ram_mib: int
    cores: Decimal
    held_ram_mib: int
    held_cores: Decimal
    held_count: int
    last_seen_at: datetime | None
    engine_version: str
    containers_found: int | None
    guard_problem: str
    disk_problem: str
    tls_expires_at: datetime | None
    memory_total_mib: int | None
    memory_free_mib: int | None
    load_1: float | None
    machine_cores: float | None
    used_cores: float | None
    uptime_s: int | None
    volumes_size_mib: int | None
    volumes_free_mib: int | None
    images_size_mib: int | None
    images_free_mib: int | None
    containers_expected: int | None
    containers_running: int | None
    certificate_problem: str = ""

    def as_json(self) -> dict[str, Any]:
        values = asdict(self) | {"cores": str(self.cores), "held_cores": str(self.held_cores)}
        times = {"last_seen_at": self.last_seen_at, "tls_expires_at": self.tls_expires_at}
        return values | {name: at.isoformat() if at else None for name, at in times.items()}

    @property
    def used_ram_mib(self) -> int | None:
        """Really used of the whole machine's memory."""
        if self.memory_total_mib is None or self.memory_free_mib is None:
            return None
        return self.memory_total_mib - self.memory_free_mib

    @property
    def lent_share(self) -> float:
        """Of what it lends, of whichever there is less left."""
        return max(self.held_ram_mib / self.ram_mib, float(self.held_cores / self.cores))

    @property
    def used_share(self) -> float:
        """Of its memory or its cores, whichever is used more; 0 where that is not known."""
        ram = (self.used_ram_mib or 0) / self.memory_total_mib if self.memory_total_mib else 0.0
        return max(ram, (self.used_cores or 0.0) / self.machine_cores if self.machine_cores else 0.0)

    @property
    def volumes_share(self) -> float | None:
        return _share(self.volumes_size_mib, self.volumes_free_mib)

    @property
    def images_share(self) -> float | None:
        return _share(self.images_size_mib, self.images_free_mib)

    @property
    def disk_share(self) -> float | None:
        """How full its fullest disk is."""
        disks = (self.volumes_share, self.images_share)
        return max((share for share in disks if share is not None), default=None)

    @property
    def lacks_containers(self) -> bool:
        """Whether fewer of ours run on it than should."""
        if self.containers_expected is None or self.containers_running is None:
            return False
        return self.containers_running < self.containers_expected

    @property
    def problems(self) -> list[str]:
        """What is wrong with it, in words."""
        words = [self.health_reason, self.disk_problem, self.guard_problem, self.certificate_problem]
        if self.lacks_containers:
            words.append(f"{self.containers_running} of {self.containers_expected} containers run.")
        return [sentence for sentence in words if sentence]

    @property
    def is_well(self) -> bool:
        """In service, whatever it warns of."""
        return self.health == Node.Health.OK and not self.disk_problem

    @property
    def in_order(self) -> list[str | int]:
        """By its name, as people count: node2 is before node10."""
        return [int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", self.name)]


def _share(size: int | None, free: int | None) -> float | None:
    return 1 - free / size if size and free is not None else None


# A look-up of each by an index for each node: the step that holds now, the latest reading, what is held. Nothing that
# is past is read.
_ROWS = """
SELECT node.id, node.name, node.address, gateway.name, node.state, node.health, node.health_reason,
       node.ram_mib, node.cores, coalesce(step.ram_mib, 0), coalesce(step.cores, 0), held.many,
       node.last_seen_at, node.engine_version, node.containers_found, node.guard_problem, node.disk_problem,
       node.tls_expires_at,
       reading.memory_total_mib, reading.memory_free_mib, reading.load_1, reading.cores, reading.cores_used,
       reading.uptime_s, reading.volumes_size_mib, reading.volumes_free_mib, reading.images_size_mib,
       reading.images_free_mib, reading.containers_expected, reading.containers
FROM compute_node node
JOIN compute_gateway gateway ON gateway.id = node.gateway_id
LEFT JOIN LATERAL (
    SELECT ram_mib, cores FROM compute_loadstep WHERE node_id = node.id AND at <= %(now)s ORDER BY at DESC LIMIT 1
) step ON true
LEFT JOIN LATERAL (
    SELECT * FROM compute_sample
    WHERE node_id = node.id AND at > %(since)s AND at <= %(now)s ORDER BY at DESC LIMIT 1
) reading ON reading.reachable
LEFT JOIN LATERAL (
    SELECT count(*) AS many FROM compute_allocation WHERE node_id = node.id AND released_at IS NULL
) held ON true
WHERE node.state <> 'removed' AND (%(names)s::text[] IS NULL OR node.name = ANY(%(names)s))
ORDER BY node.name
"""


def node_rows(now: datetime, names: Collection[str] | None = None) -> list[NodeRow]:
    """Every node that was not removed, or those of these names, by name: node2 before node10."""
    asked = {"now": now, "since": now - LATEST, "names": None if names is None else list(names)}
    with connection.cursor() as cursor:
        cursor.execute(_ROWS, asked)
        rows = [NodeRow(*row) for row in cursor.fetchall()]
    return sorted((_with_certificate(_as_of(row, now), now) for row in rows), key=lambda row: row.in_order)


def _as_of(row: NodeRow, now: datetime) -> NodeRow:
    """Where nobody probes any more, "ok" would be said for ever."""
    seen = row.last_seen_at
    if row.health != Node.Health.OK or (seen and now - seen <= NOT_PROBED_AFTER):
        return row
    since = f"Not probed since {seen.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if seen else "Not probed yet"
    return replace(row, health=Node.Health.UNKNOWN.value, health_reason=f"{since}: is a worker running?")


def _with_certificate(row: NodeRow, now: datetime) -> NodeRow:
    ends = certificates.warning(row.tls_expires_at, now)
    return replace(row, certificate_problem=f"The certificate of its engine {ends}.") if ends else row


@dataclass(frozen=True, slots=True)
class Lent:
    """What a node had lent at each of some instants."""

    ram_mib: list[float]
    cores: list[float]


def lent_over(node: Node, at: list[int]) -> Lent:
    """What was held of the node at these instants (seconds since 1970, ascending), as its allocations tell.

    The steps of load cannot tell: what is past is dropped from them.
    """
    if not at:
        return Lent([], [])
    edges: list[tuple[float, int, float]] = []
    for during, ram, cores, released in _held_between(node, at[0], at[-1]):
        start, end = during.lower, during.upper
        if released and released <= start:
            continue  # it was given back before it began
        edges.append((start.timestamp(), ram, float(cores)))
        edges.append((end.timestamp(), -ram, -float(cores)))
    edges.sort()
    held_ram, held_cores, position = 0, 0.0, 0
    lent = Lent([], [])
    for moment in at:
        while position < len(edges) and edges[position][0] <= moment:
            held_ram, held_cores = held_ram + edges[position][1], held_cores + edges[position][2]
            position += 1
        lent.ram_mib.append(held_ram)
        lent.cores.append(round(held_cores, 2))
    return lent


def _held_between(node: Node, since: int, until: int) -> Iterable[tuple[Any, int, Decimal, datetime | None]]:
    span = DateTimeTZRange(datetime.fromtimestamp(since, UTC), datetime.fromtimestamp(until, UTC), "[]")
    rows = Allocation.objects.filter(node=node, during__overlap=span)
    return rows.values_list("during", "ram_mib", "cores", "released_at").order_by()
