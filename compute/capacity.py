"""Who holds what of which node, and when: the only writers of Allocation, LoadStep and Forward windows.

Every function here runs inside the caller's transaction. Placing is one at a time (an advisory lock that the
transaction holds), so that the choice is exact and two customers never get the last slot; a place takes a few
milliseconds, no network call is made meanwhile. See docs/adr/0003.

Rows are locked FOR NO KEY UPDATE here and everywhere: a plain FOR UPDATE would also hold up whoever merely refers to
the row, and two such waits in a circle are a deadlock.
"""

import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import connection, models
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange  # type: ignore[import-untyped]
from django.db.models import Max, Sum

from compute import load_steps, scheduler, slots
from compute.models import Allocation, Forward, Gateway, Node
from compute.scheduler import Candidate, Request, Short

PLACING = 0x6265727468  # "berth": the key of the advisory lock
BATCH = 16
NEAREST = 64

_HELD_AT = f"""
    SELECT id, name, node_ram, node_cores, held_ram, held_cores FROM (
        SELECT node.id, node.name, node.ram_mib AS node_ram, node.cores AS node_cores,
               coalesce(step.ram_mib, 0) AS held_ram, coalesce(step.cores, 0) AS held_cores
        FROM compute_node node
        LEFT JOIN LATERAL (
            SELECT ram_mib, cores FROM compute_loadstep
            WHERE node_id = node.id AND at <= %(start)s ORDER BY at DESC LIMIT 1
        ) step ON true
        WHERE {slots.IS_LENDING} AND {slots.IS_BIG_ENOUGH}
    ) lending
    WHERE held_ram + %(ram_mib)s <= node_ram AND held_cores + %(cores)s <= node_cores
    ORDER BY held_ram::float8 / node_ram LIMIT %(many)s
"""  # noqa: S608 - constants of this file
# The step that holds at the window's first instant is the last one that is not after it; before the first step
# nothing is held.
_PEAKS = f"""
    SELECT node.id, node.name, node.ram_mib, node.cores, coalesce(peak.ram_mib, 0), coalesce(peak.cores, 0)
    FROM compute_node node
    CROSS JOIN LATERAL (
        SELECT max(ram_mib) AS ram_mib, max(cores) AS cores FROM compute_loadstep
        WHERE node_id = node.id AND at < %(end)s AND at >= coalesce(
            (SELECT at FROM compute_loadstep WHERE node_id = node.id AND at <= %(start)s ORDER BY at DESC LIMIT 1),
            '-infinity')
    ) peak
    WHERE {slots.IS_LENDING}
"""  # noqa: S608 - constants of this file


class NoCapacity(Exception):
    """Nothing fits. `short` says what was short, `next_slot` when it would fit (None: not foreseeable)."""

    def __init__(self, short: Short | str, next_slot: datetime | None = None, request: Request | None = None) -> None:
        self.short = short
        self.next_slot = next_slot
        self.request = request
        super().__init__(scheduler.SENTENCES[short] if isinstance(short, Short) else short)

    def with_next_slot(self) -> "NoCapacity":
        """The same with its next slot: looked for after the transaction, since nobody should wait for that."""
        return NoCapacity(self.short, slots.next_slot(self.request)) if self.request else self


@dataclass(frozen=True, slots=True)
class PortRequest:
    """A container port that wants a public one."""

    name: str
    kind: str
    container_port: int
    allowed_sources: tuple[str, ...] = ()


def window(start: datetime, end: datetime) -> DateTimeTZRange:
    return DateTimeTZRange(start, end, "[)")


def place(
    request: Request, ports: Sequence[PortRequest], *, rest: timedelta, exclude: Collection[int] = ()
) -> tuple[Allocation, list[Forward]]:
    """Choose a node, hold its RAM and cores over the window and a public port for each of `ports`.

    `rest` is how long a port stays unlent after the window. Raises NoCapacity.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [PLACING])
    choice = choose(request, exclude)
    if isinstance(choice, Short):
        raise NoCapacity(choice, request=request)
    node = Node.objects.select_for_update(of=("self",), no_key=True).select_related("gateway").get(pk=choice.node_id)
    if node.state != Node.State.ACTIVE:  # an operator was quicker
        return place(request, ports, rest=rest, exclude={*exclude, node.pk})
    allocation = Allocation.objects.create(
        node=node, ram_mib=request.ram_mib, cores=request.cores, during=window(request.start, request.end)
    )
    load_steps.add(node.pk, request.start, request.end, request.ram_mib, request.cores)
    return allocation, lend_ports(node, ports, request.start, request.end + rest)


def choose(request: Request, exclude: Collection[int] = ()) -> Candidate | Short:
    """What `scheduler.choose` says of all lending nodes, without reading every step of every node."""
    return quickest(request, exclude) or scheduler.choose(request, peaks(request, exclude))


def peaks(request: Request, exclude: Collection[int] = ()) -> list[Candidate]:
    """Every lending node with its peak over the request's window."""
    with connection.cursor() as cursor:
        cursor.execute(_PEAKS, slots.values_of(request, exclude) | {"start": request.start, "end": request.end})
        return [Candidate(*row) for row in cursor.fetchall()]


def has_room(request: Request, copies: int = 1) -> bool:
    """Whether so many of the request fit, on one node or on many."""
    if copies == 1:
        return quickest(request) is not None
    return scheduler.have_room(request, peaks(request), copies)


def quickest(request: Request, exclude: Collection[int] = ()) -> Candidate | None:
    """The best node for the request, None when none fits; what is short is not looked for.

    What is held at the window's first instant is a lower bound of the peak. The nodes nearest to the best bound
    are looked at first; all of them only when the best exact peak among those is worse than the last bound seen.
    """
    for many in (NEAREST, None):
        bounds = _held_at(request, exclude, many)
        best = _best(bounds, request)
        if best and (many is None or len(bounds) < many or _rounded(best) < _rounded(bounds[-1])):
            return best
        if not best and len(bounds) < NEAREST:
            break  # those were all that could fit
    return None


def _best(hopeful: list[Candidate], request: Request) -> Candidate | None:
    """The best of these, given in the order of their bounds; some peaks are read at a time."""
    best: Candidate | None = None
    size = BATCH
    # The rounded ratio is quick and never turns an order round; equal ones are told apart by the exact rank.
    while hopeful and (best is None or _rounded(hopeful[0]) <= _rounded(best)):
        batch, hopeful = hopeful[:size], hopeful[size:]
        for candidate in _with_peaks(batch, request):
            if scheduler.fits(request, candidate) and (
                best is None or scheduler.rank(candidate) < scheduler.rank(best)
            ):
                best = candidate
        size *= 2
    return best


def _rounded(candidate: Candidate) -> float:
    return candidate.peak_ram_mib / candidate.ram_mib


def _held_at(request: Request, exclude: Collection[int], many: int | None) -> list[Candidate]:
    """Lending nodes where the request fits at its window's first instant, the emptiest first.

    What is held then stands in place of a peak. `many`: at most so many (None: all).
    """
    values = slots.values_of(request, exclude) | {"start": request.start, "many": many}
    with connection.cursor() as cursor:
        cursor.execute(_HELD_AT, values)
        return [Candidate(*row) for row in cursor.fetchall()]


def _with_peaks(bounds: Iterable[Candidate], request: Request) -> list[Candidate]:
    """The same nodes with the peak of the whole window."""
    bounds = list(bounds)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT node_id, max(ram_mib), max(cores) FROM compute_loadstep
            WHERE node_id = ANY(%s) AND at > %s AND at < %s GROUP BY node_id
            """,
            [[bound.node_id for bound in bounds], request.start, request.end],
        )
        later = {node_id: (ram, cores) for node_id, ram, cores in cursor.fetchall()}
    return [
        Candidate(
            bound.node_id,
            bound.name,
            bound.ram_mib,
            bound.cores,
            max(bound.peak_ram_mib, later.get(bound.node_id, (0, 0))[0]),
            max(bound.peak_cores, later.get(bound.node_id, (0, Decimal(0)))[1]),
        )
        for bound in bounds
    ]


def largest() -> tuple[int, Decimal]:
    """The most RAM (MiB) and the most cores that any node lends; 0 without nodes."""
    found = Node.objects.present().aggregate(ram_mib=Max("ram_mib"), cores=Max("cores"))
    return found["ram_mib"] or 0, found["cores"] or Decimal(0)


def take(allocation: Allocation, now: datetime) -> str:
    """Begin to use what was planned. Returns "" when it is ours now, or why it has to wait.

    Plans are back to back; what is really there may be late in leaving, and is never lent twice.
    """
    node = Node.objects.select_for_update(no_key=True).get(pk=allocation.node_id)
    used = (
        node.allocations.held()
        .filter(taken_at__isnull=False)
        .exclude(pk=allocation.pk)
        .aggregate(ram_mib=Sum("ram_mib"), cores=Sum("cores"))
    )
    if (used["ram_mib"] or 0) + allocation.ram_mib > node.ram_mib or (
        used["cores"] or 0
    ) + allocation.cores > node.cores:
        return f"waiting for the previous container on {node.name} to be gone"
    Allocation.objects.filter(pk=allocation.pk, taken_at=None).update(taken_at=now)
    return ""


def hold_until(allocation: Allocation, until: datetime, *, at_least: datetime | None = None) -> None:
    """Hold a bit longer, whether or not it was planned: the container is still there, or may be.

    Nothing changes when it is held to `at_least` already, so that waiting long does not cut the plan into slices.
    """
    Node.objects.select_for_update(no_key=True).get(pk=allocation.node_id)
    allocation.refresh_from_db()
    end = allocation.during.upper
    if allocation.released_at is None and end < (at_least or until):
        load_steps.add(allocation.node_id, end, until, allocation.ram_mib, allocation.cores)
        allocation.during = window(allocation.during.lower, until)
        allocation.save(update_fields=["during"])


def extend(allocation: Allocation, until: datetime) -> None:
    """Hold the place on its node until then. Raises NoCapacity when the node has lent it to somebody else."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [PLACING])
    node = Node.objects.select_for_update(no_key=True).get(pk=allocation.node_id)
    allocation.refresh_from_db()
    end = allocation.during.upper
    if allocation.released_at is not None or until <= end:
        return
    ram_mib, cores = scheduler.peak(load_steps.of(node), end, until)
    if ram_mib + allocation.ram_mib > node.ram_mib or cores + allocation.cores > node.cores:
        raise NoCapacity("No resources available: its place is booked by somebody else after its end.")
    load_steps.add(node.pk, end, until, allocation.ram_mib, allocation.cores)
    allocation.during = window(allocation.during.lower, until)
    allocation.save(update_fields=["during"])


def extend_ports(forwards: Iterable[Forward], until: datetime) -> None:
    """Hold the ports until then. Raises IntegrityError, of forward_public_port_once, when one is promised already."""
    for forward in Forward.objects.select_for_update(no_key=True).filter(pk__in=[f.pk for f in forwards]):
        if forward.released_at is None and forward.during.upper < until:
            forward.during = window(forward.during.lower, until)
            forward.save(update_fields=["during"])


def shorten(allocation: Allocation, until: datetime) -> None:
    """Hold the place on its node only until then: the rest is free at once. Nothing changes when it is free already."""
    Node.objects.select_for_update(no_key=True).get(pk=allocation.node_id)
    allocation.refresh_from_db()
    start, end = allocation.during.lower, allocation.during.upper
    if allocation.released_at is not None or not start < until < end:
        return
    load_steps.add(allocation.node_id, until, end, -allocation.ram_mib, -allocation.cores)
    allocation.during = window(start, until)
    allocation.save(update_fields=["during"])


def shorten_ports(forwards: Iterable[Forward], until: datetime) -> None:
    """Hold the ports only until then; the caller has added how long they rest."""
    for forward in Forward.objects.select_for_update(no_key=True).filter(pk__in=[f.pk for f in forwards]):
        if forward.released_at is None and forward.during.lower < until < forward.during.upper:
            forward.during = window(forward.during.lower, until)
            forward.save(update_fields=["during"])


def turn_ports(forwards: "models.QuerySet[Forward]", node: Node) -> None:
    """The same public ports lead to this node from now on; connections to where they led are ended."""
    forwards.update(node=node, applied=False, cut=True)


def release(allocation: Allocation, now: datetime) -> None:
    """Give back what is left of the window. A second time changes nothing."""
    Node.objects.select_for_update(no_key=True).get(pk=allocation.node_id)
    allocation.refresh_from_db()
    if allocation.released_at is not None:
        return
    start, end = allocation.during.lower, allocation.during.upper
    if now < end:
        load_steps.add(allocation.node_id, max(now, start), end, -allocation.ram_mib, -allocation.cores)
    if start < now:
        allocation.during = window(start, now)
    allocation.released_at = now
    allocation.save(update_fields=["during", "released_at"])
    load_steps.forget_past(allocation.node_id, now)


def release_ports(forwards: Iterable[Forward], now: datetime, rest: timedelta) -> None:
    """Give the ports back; they rest before they are lent again. A second time changes nothing."""
    for forward in Forward.objects.select_for_update(no_key=True).filter(
        pk__in=[f.pk for f in forwards], released_at=None
    ):
        start, end = forward.during.lower, forward.during.upper
        forward.during = window(start, max(min(end, now + rest), start + timedelta(seconds=1)))
        forward.released_at = now
        forward.applied |= forward.wanted  # it may be there, even if the apply gave no answer
        forward.wanted = False
        forward.save(update_fields=["during", "released_at", "wanted", "applied"])


def change_ports(forwards: Sequence[Forward], now: datetime, rest: timedelta) -> list[Forward]:
    """Other ports in the place of these: somebody else sits on the node's. The old ones rest.

    The caller saw that the gateway leads to none of these any more.
    """
    fresh = []
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [PLACING])
    for forward in forwards:
        during = window(max(now, forward.during.lower), forward.during.upper)
        port = _free_ports(forward.node, 1, during, avoid={forward.node_port})[0]
        fresh.append(
            Forward.objects.create(
                gateway=forward.gateway,
                public_port=port,
                node=forward.node,
                node_port=port,
                container_port=forward.container_port,
                name=forward.name,
                kind=forward.kind,
                allowed_sources=forward.allowed_sources,
                during=during,
            )
        )
    release_ports(forwards, now, rest)
    return fresh


def lend_ports(node: Node, ports: Sequence[PortRequest], start: datetime, end: datetime) -> list[Forward]:
    """A public port of the node's gateway for each of `ports` over [start, end); the caller holds the lock."""
    during = window(start, end)
    free = _free_ports(node, len(ports), during)
    return [
        Forward.objects.create(
            gateway=node.gateway,
            public_port=number,
            node=node,
            node_port=number,
            container_port=port.container_port,
            name=port.name,
            kind=port.kind,
            allowed_sources=list(port.allowed_sources),
            during=during,
        )
        for port, number in zip(ports, free, strict=True)
    ]


def _free_ports(node: Node, count: int, during: DateTimeTZRange, avoid: Collection[int] = ()) -> list[int]:
    """Ports of the gateway that nobody holds in the window, in no order that could be guessed."""
    gateway: Gateway = node.gateway
    everything = range(gateway.port_first, gateway.port_last + 1)
    some = random.sample(everything, min(len(everything), 8 * max(count, 1)))
    for numbers in (some, everything):
        taken = set(
            Forward.objects.filter(gateway=gateway, public_port__in=numbers, during__overlap=during).values_list(
                "public_port", flat=True
            )
        )
        free = [number for number in numbers if number not in taken and number not in avoid]
        if len(free) >= count:
            return free[:count]
    raise NoCapacity(f"No resources available: every public port of the gateway {gateway.name} is in use.", None)
