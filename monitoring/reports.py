"""The health report of a period: how well the machines and the bookings did. Reads only, a fixed number of queries.

monitoring/report_tables.py says in words, for people, how each figure is computed.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Count, Q, Sum

from compute import rollups
from compute.models import Gateway, Node, StorageServer, Volume
from compute.readings import EVERY_S
from monitoring.alerts import incidents
from monitoring.models import Incident
from reservations.models import Reservation
from reservations.moving import LOST_DATA, MOVED

FORMAT = 1
LONGEST = timedelta(days=366)
MOST_CUSTOMERS, MOST_REASONS, MOST_INCIDENTS = 20, 15, 100


@dataclass(frozen=True, slots=True)
class NodeFigures:
    """Shares are of 1. `available`: in how many of the readings its engine answered; None: there are no readings.

    `read` is how many of the readings were taken at all. Held is what reservations had, used what the machine measured.
    """

    name: str
    state: str
    available: float | None
    read: float
    incidents: int
    cores_lent: float
    cores_held: float
    cores_used: float | None
    ram_lent_mib: int
    ram_held: float
    ram_used: float | None


@dataclass(frozen=True, slots=True)
class Starts:
    """Seconds from when a booking was due (its start, or when it was made) to its first answer on its port."""

    count: int
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    longest_s: float | None
    over_a_minute: int


@dataclass(frozen=True, slots=True)
class Reservations:
    """What happened in the period. Moved: started again on another node; lost_data: of these without their C1 data."""

    booked: int
    ended: int
    failed: int
    moved: int
    lost_data: int


@dataclass(frozen=True, slots=True)
class Reason:
    """Why reservations failed, as their owners were told."""

    text: str
    count: int


@dataclass(frozen=True, slots=True)
class Customer:
    """What a workspace had served in the period."""

    workspace: str
    reservations: int
    core_hours: float


@dataclass(frozen=True, slots=True)
class Storage:
    """A storage server now: `promised_gb` are the sizes of the volumes that are on it."""

    name: str
    capacity_gb: int
    promised_gb: int
    kept_volumes: int
    problem: str


@dataclass(frozen=True, slots=True)
class GatewayFigures:
    """`drift` rules differed at the last check, `drift_total` since it was added; `incidents` in the period."""

    name: str
    drift: int
    drift_total: int
    incidents: int
    problem: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """An incident that people were told of. `within_s` is its part in the period."""

    title: str
    severity: str
    opened_at: datetime
    closed_at: datetime | None
    within_s: float


@dataclass(frozen=True, slots=True)
class Now:
    """How it stood when the report was made."""

    due: int
    oldest_due_s: float
    open_incidents: int


@dataclass(frozen=True, slots=True)
class Report:
    since: datetime
    until: datetime
    made_at: datetime
    nodes: list[NodeFigures]
    starts: Starts
    reservations: Reservations
    reasons: list[Reason]
    core_hours: float
    workspaces: int
    customers: list[Customer]
    storage: list[Storage]
    gateways: list[GatewayFigures]
    incident_count: int
    incidents: list[Trouble]
    now: Now

    @property
    def available(self) -> float | None:
        """Of all nodes together."""
        known = [node.available for node in self.nodes if node.available is not None]
        return sum(known) / len(known) if known else None

    @property
    def is_empty(self) -> bool:
        return not (self.nodes or self.reservations.booked or self.incident_count)


def report(since: datetime, until: datetime, now: datetime) -> Report:
    """Of [since, until), which begins and ends at whole hours or now."""
    until = max(min(until, now), since)
    core_hours, workspaces, customers = _customers(since, until)
    count, incidents = _incidents(since, until)
    return Report(
        since=since,
        until=until,
        made_at=now,
        nodes=_nodes(since, until, now),
        starts=_starts(since, until),
        reservations=_reservations(since, until),
        reasons=_reasons(since, until),
        core_hours=core_hours,
        workspaces=workspaces,
        customers=customers,
        storage=_storage(),
        gateways=_gateways(since, until),
        incident_count=count,
        incidents=incidents,
        now=_now(now),
    )


def as_json(found: Report) -> dict[str, Any]:
    """Times as ISO 8601 in UTC; names are those of the dataclasses above. A change of them is another FORMAT."""
    body = asdict(found)
    return {"format": FORMAT, **{key: _plain(value) for key, value in body.items()}}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


# ---- machines -----------------------------------------------------------------------------------------------

_READINGS = """
    SELECT node_id, sum(readings), sum(reachable),
           sum(cores_used * reachable) / nullif(sum(reachable) FILTER (WHERE cores_used IS NOT NULL), 0),
           sum((memory_total_mib - memory_free_mib) / nullif(memory_total_mib, 0) * reachable)
             / nullif(sum(reachable) FILTER (WHERE memory_total_mib IS NOT NULL AND memory_free_mib IS NOT NULL), 0)
    FROM (
        SELECT node_id, readings, reachable, cores_used, memory_total_mib, memory_free_mib
        FROM compute_nodehour WHERE at >= %(since)s AND at < %(rolled)s
        UNION ALL
        SELECT node_id, count(*), count(*) FILTER (WHERE reachable), avg(cores_used), avg(memory_total_mib),
               avg(memory_free_mib)
        FROM compute_sample WHERE at >= %(rolled)s AND at < %(until)s GROUP BY node_id
    ) AS readings
    GROUP BY node_id
"""
_HELD = """
    SELECT node_id, sum(cores * seconds), sum(ram_mib * seconds)
    FROM (
        SELECT node_id, cores, ram_mib, extract(epoch FROM
               least(coalesce(released_at, %(until)s), %(until)s) - greatest(taken_at, %(since)s)) AS seconds
        FROM compute_allocation
        WHERE taken_at < %(until)s AND (released_at IS NULL OR released_at > %(since)s)
    ) AS held
    GROUP BY node_id
"""


def _nodes(since: datetime, until: datetime, now: datetime) -> list[NodeFigures]:
    """Those that are there, and those that were removed but were seen in the period."""
    seconds = (until - since).total_seconds()
    rolled = min(max(rollups.rolled_until(rollups.NODES, now), since), until)
    times = {"since": since, "until": until, "rolled": rolled}
    readings = {row[0]: row[1:] for row in _ask(_READINGS, times)}
    held = {row[0]: row[1:] for row in _ask(_HELD, times)}
    incidents = _incidents_of("node:", since, until)
    found = []
    for node in Node.objects.order_by("name"):
        taken, answered, cores_used, ram_used = readings.get(node.pk, (0, 0, None, None))
        if node.state == Node.State.REMOVED and not taken:
            continue
        cores_held, ram_held = held.get(node.pk, (0, 0))
        found.append(
            NodeFigures(
                name=node.name,
                state=node.state,
                available=float(answered / taken) if taken else None,
                read=min(float(taken) * EVERY_S / seconds, 1.0) if seconds else 0.0,
                incidents=incidents.get(f"node:{node.pk}", 0),
                cores_lent=float(node.cores),
                cores_held=float(cores_held) / seconds if seconds else 0.0,
                cores_used=None if cores_used is None else float(cores_used),
                ram_lent_mib=node.ram_mib,
                ram_held=float(ram_held) / seconds / node.ram_mib if seconds else 0.0,
                ram_used=None if ram_used is None else float(ram_used),
            )
        )
    return found


def _storage() -> list[Storage]:
    there = Q(volume__state__in=[Volume.State.DETACHED, Volume.State.ATTACHED])
    rows = StorageServer.objects.annotate(
        promised=Sum("volume__size_gb", filter=there), kept=Count("volume", filter=there & Q(volume__kept=True))
    )
    return [Storage(row.name, row.capacity_gb, row.promised or 0, row.kept, row.problem) for row in rows]


def _gateways(since: datetime, until: datetime) -> list[GatewayFigures]:
    incidents = _incidents_of("gateway:", since, until)
    return [
        GatewayFigures(row.name, row.drift, row.drift_total, incidents.get(f"gateway:{row.pk}", 0), row.problem)
        for row in Gateway.objects.all()
    ]


# ---- bookings -----------------------------------------------------------------------------------------------

_STARTS = """
    SELECT count(*), percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY seconds), max(seconds),
           count(*) FILTER (WHERE seconds > 60)
    FROM (
        SELECT greatest(extract(epoch FROM min(event.at) - greatest(booked.start, booked.created_at)), 0) AS seconds
        FROM reservations_event AS event JOIN reservations_reservation AS booked ON booked.id = event.reservation_id
        WHERE event.at >= %(since)s AND event.at < %(until)s AND event.new_state = 'running'
          AND (booked.created_at >= %(since)s OR %(since)s <= (
              SELECT min(first.at) FROM reservations_event AS first
              WHERE first.reservation_id = booked.id AND first.new_state = 'running'))
        GROUP BY booked.id
    ) AS starts
"""
_HAPPENED = """
    SELECT count(*) FILTER (WHERE new_state = 'booked'), count(*) FILTER (WHERE new_state = 'ended'),
           count(*) FILTER (WHERE new_state = 'failed'),
           count(*) FILTER (WHERE new_state IN ('', 'starting') AND strpos(text, %(moved)s) > 0),
           count(*) FILTER (WHERE new_state IN ('', 'starting') AND strpos(text, %(lost)s) > 0)
    FROM reservations_event AS event WHERE at >= %(since)s AND at < %(until)s
      AND (new_state NOT IN ('ended', 'failed') OR EXISTS (  -- an offer that nobody took was never a reservation
          SELECT 1 FROM reservations_event AS taken
          WHERE taken.reservation_id = event.reservation_id AND taken.new_state = 'booked'))
"""
_REASONS = """
    SELECT coalesce(nullif(booked.failure, ''), event.text), count(*)
    FROM reservations_event AS event JOIN reservations_reservation AS booked ON booked.id = event.reservation_id
    WHERE event.at >= %(since)s AND event.at < %(until)s AND event.new_state = 'failed' AND EXISTS (
        SELECT 1 FROM reservations_event AS taken
        WHERE taken.reservation_id = booked.id AND taken.new_state = 'booked')
    GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT %(most)s
"""
_CUSTOMERS = """
    SELECT workspace.name, count(DISTINCT booked.id), sum(period.cores * extract(epoch FROM
             least(upper(period.during), %(until)s) - greatest(lower(period.during), %(since)s))) / 3600 AS core_hours,
           sum(sum(period.cores * extract(epoch FROM
             least(upper(period.during), %(until)s) - greatest(lower(period.during), %(since)s)))) OVER () / 3600,
           count(*) OVER ()
    FROM reservations_usageperiod AS period
    JOIN reservations_reservation AS booked ON booked.id = period.reservation_id
    JOIN accounts_workspace AS workspace ON workspace.id = booked.workspace_id
    WHERE period.during && tstzrange(%(since)s, %(until)s)
    GROUP BY workspace.id ORDER BY core_hours DESC, workspace.name LIMIT %(most)s
"""


def _starts(since: datetime, until: datetime) -> Starts:
    [[count, percentiles, longest, slow]] = _ask(_STARTS, {"since": since, "until": until})
    p50, p95, p99 = percentiles or (None, None, None)
    return Starts(count, _number(p50), _number(p95), _number(p99), _number(longest), slow)


def _reservations(since: datetime, until: datetime) -> Reservations:
    [row] = _ask(_HAPPENED, {"since": since, "until": until, "moved": MOVED, "lost": LOST_DATA})
    return Reservations(*row)


def _reasons(since: datetime, until: datetime) -> list[Reason]:
    return [Reason(*row) for row in _ask(_REASONS, {"since": since, "until": until, "most": MOST_REASONS})]


def _customers(since: datetime, until: datetime) -> tuple[float, int, list[Customer]]:
    """Core-hours in all, how many workspaces, and those with the most."""
    rows = _ask(_CUSTOMERS, {"since": since, "until": until, "most": MOST_CUSTOMERS})
    if not rows:
        return 0.0, 0, []
    return float(rows[0][3]), rows[0][4], [Customer(row[0], row[1], float(row[2])) for row in rows]


# ---- what went wrong ----------------------------------------------------------------------------------------


def _told(since: datetime, until: datetime) -> Any:
    return Incident.objects.filter(opened_at__lt=until).filter(Q(closed_at=None) | Q(closed_at__gt=since))


def _incidents_of(prefix: str, since: datetime, until: datetime) -> dict[str, int]:
    rows = _told(since, until).filter(subject__startswith=prefix).order_by()
    return {row["subject"]: row["n"] for row in rows.values("subject").annotate(n=Count("pk"))}


def _incidents(since: datetime, until: datetime) -> tuple[int, list[Trouble]]:
    rows = _told(since, until)
    found = []
    for row in rows.order_by("-opened_at", "-pk")[:MOST_INCIDENTS]:
        within = min(row.closed_at or until, until) - max(row.opened_at, since)
        found.append(Trouble(incidents.title(row), row.severity, row.opened_at, row.closed_at, within.total_seconds()))
    return rows.count(), found


def _now(now: datetime) -> Now:
    backlog = Reservation.objects.backlog(now)
    return Now(backlog.count, backlog.oldest_s, open_incidents=Incident.objects.open().count())


def _ask(query: str, values: dict[str, Any]) -> Sequence[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        rows: Sequence[tuple[Any, ...]] = cursor.fetchall()
    return rows


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
