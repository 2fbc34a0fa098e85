"""What all lending nodes hold, read once into memory: to ask "and then?" many times without touching a row.

`Room.choose` answers as `capacity.choose` does at the moment of the reading, and what was given by `hold` since then
counts. Nothing is locked or written, so the answer is a preview: somebody else may book meanwhile.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from operator import itemgetter

from django.db import connection

from compute.models import Node
from compute.scheduler import Candidate, Request, Short

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FOR_EVER = 1 << 62
MOST_WINDOWS = 32  # and instants, of which what each node holds is kept: 1,000 nodes are about 100 kB each


@dataclass(slots=True)
class Line:
    """A node and its step function: microseconds since 1970, MiB, hundredths of a core."""

    node_id: int
    name: str
    gateway_id: int
    ram: int
    cores: int
    has_host: bool
    at: list[int]
    ram_held: list[int]
    cores_held: list[int]
    ram_taken: int
    cores_taken: int
    lends: bool

    def held_at(self, at: int) -> tuple[int, int]:
        """RAM and hundredths of a core."""
        index = bisect_right(self.at, at) - 1
        return (self.ram_held[index], self.cores_held[index]) if index >= 0 else (0, 0)

    def peak(self, start: int, end: int) -> tuple[int, int]:
        """The most that is held at any instant of [start, end)."""
        first, last = max(bisect_right(self.at, start) - 1, 0), bisect_left(self.at, end)
        if first >= last:
            return 0, 0
        return max(self.ram_held[first:last]), max(self.cores_held[first:last])


@dataclass(slots=True)
class _Held:
    """What was given to one node in this preview."""

    windows: list[tuple[int, int, int, int]] = field(default_factory=list)  # start, end, RAM, cores
    ram_taken: int = 0
    cores_taken: int = 0


def read_lines() -> list[Line]:
    """Every present node, by name, in one query."""
    with connection.cursor() as cursor:
        states = {"active": Node.State.ACTIVE, "removed": Node.State.REMOVED, "ok": Node.Health.OK}
        cursor.execute(_READ, states)
        return [Line(*row) for row in cursor.fetchall()]


class Room:
    """What lending nodes have room for, as the rows were when it was read."""

    def __init__(self, lines: list[Line]) -> None:
        self.lines = lines
        self._by_id = {line.node_id: line for line in lines}
        self._held: dict[int, _Held] = {}
        self._at: dict[int, list[tuple[float, int, int, Line]]] = {}
        self._peaks: dict[tuple[int, int], dict[int, tuple[int, int]]] = {}

    @classmethod
    def read(cls) -> "Room":
        """One query, whatever the number of nodes."""
        return cls([line for line in read_lines() if line.lends])

    def forget(self) -> None:
        """As it was read: what was given in the preview is given back."""
        self._held, self._peaks = {}, {}

    def line(self, node_id: int) -> Line:
        return self._by_id[node_id]

    def choose(self, request: Request, exclude: Collection[int] = ()) -> Candidate | Short:
        """The node that the scheduler would take, or what is short."""
        if best := self.find(request, exclude):
            return best
        return self._why_not(request, exclude)

    def find(self, request: Request, exclude: Collection[int] = (), *, any_of_equals: bool = False) -> Candidate | None:
        """The node that the scheduler would take; None when there is none, without the why.

        With `any_of_equals` one of those with the smallest RAM ratio, which is found much sooner.
        """
        start, end = _microseconds(request.start), _microseconds(request.end)
        cores = _hundredths(request.cores)
        best: tuple[int, int, Line] | None = None
        for bound, line in self._emptiest_first(start, request.ram_mib, cores, request.needs_host):
            if best and (bound > best[0] / best[2].ram or (any_of_equals and bound == best[0] / best[2].ram)):
                break  # what is held at the first instant is a lower bound of the peak
            if line.node_id in exclude:
                continue
            ram_peak, cores_peak = self._peak(line, start, end)
            if ram_peak + request.ram_mib > line.ram or cores_peak + cores > line.cores:
                continue
            if best is None or _before(ram_peak, cores_peak, line, best):
                best = (ram_peak, cores_peak, line)
        return _candidate(best[2], best[0], best[1]) if best else None

    def hold(self, node_id: int, request: Request, *, taken: bool = False) -> None:
        """It is given to this node in the preview; `taken`: it is in use from now on, not only planned."""
        held, cores = self._held.setdefault(node_id, _Held()), _hundredths(request.cores)
        held.windows.append((_microseconds(request.start), _microseconds(request.end), request.ram_mib, cores))
        for (start, end), peaks in self._peaks.items():
            peaks[node_id] = self._peak(self._by_id[node_id], start, end)
        if taken:
            held.ram_taken += request.ram_mib
            held.cores_taken += cores

    def can_take(self, node_id: int, request: Request) -> bool:
        """Whether it could be in use at once, as `capacity.take`: what is late in leaving may be in the way."""
        line, held = self._by_id[node_id], self._held.get(node_id, _Held())
        return (
            line.ram_taken + held.ram_taken + request.ram_mib <= line.ram
            and line.cores_taken + held.cores_taken + _hundredths(request.cores) <= line.cores
        )

    def count(self, request: Request) -> int:
        """How many of the same size fit over the window, one beside the other."""
        start, end, cores = _microseconds(request.start), _microseconds(request.end), _hundredths(request.cores)
        total = 0
        for line in self.lines:
            if line.has_host or not request.needs_host:
                ram_peak, cores_peak = self._peak(line, start, end)
                total += max(min((line.ram - ram_peak) // request.ram_mib, (line.cores - cores_peak) // cores), 0)
        return total

    def full_at(self, request: Request, until: datetime) -> datetime | None:
        """The first start from the request's on at which it would fit nowhere; None: there is none before `until`.

        From a start at which some nodes have room the next one to look at is where the last of these is full.
        """
        at, last = _microseconds(request.start), _microseconds(until)
        length, cores = _microseconds(request.end) - at, _hundredths(request.cores)
        lines = [line for line in self.lines if line.has_host or not request.needs_host]
        blocked = []
        for line in lines:
            too_full = _too_full(line, line.ram - request.ram_mib, line.cores - cores)
            if not too_full:
                return None
            blocked.append(too_full)
        while at < last:
            free_until = max((_free_until(too_full, at, length) for too_full in blocked), default=0)
            if free_until < at:
                return _EPOCH + at * _MICROSECOND
            at = free_until + 1
        return None

    def _emptiest_first(self, start: int, ram: int, cores: int, needs_host: bool) -> Iterator[tuple[float, Line]]:
        """Nodes where it fits at the first instant, with the RAM ratio that is held then."""
        for bound, held_ram, held_cores, line in self._held_from(start):
            fits = held_ram + ram <= line.ram and held_cores + cores <= line.cores
            if fits and (line.has_host or not needs_host):
                yield bound, line

    def _held_from(self, start: int) -> list[tuple[float, int, int, Line]]:
        """What each node holds then, the emptiest first; kept for the last instants: many requests begin together."""
        if start not in self._at:
            if len(self._at) >= MOST_WINDOWS:
                del self._at[next(iter(self._at))]
            found = ((*line.held_at(start), line) for line in self.lines)
            rows = [(held_ram / line.ram, held_ram, held_cores, line) for held_ram, held_cores, line in found]
            self._at[start] = sorted(rows, key=itemgetter(0))
        return self._at[start]

    def _peak(self, line: Line, start: int, end: int) -> tuple[int, int]:
        held = self._held.get(line.node_id)
        if held is None:
            return line.peak(start, end)
        windows = [window for window in held.windows if window[0] < end and window[1] > start]
        # The sum can only grow where one of them begins.
        instants = {start, *(at for at in line.at if start < at < end), *(w[0] for w in windows if w[0] > start)}
        ram_peak = cores_peak = 0
        for at in instants:
            ram, cores = line.held_at(at)
            for begin, until, more_ram, more_cores in windows:
                if begin <= at < until:
                    ram, cores = ram + more_ram, cores + more_cores
            ram_peak, cores_peak = max(ram_peak, ram), max(cores_peak, cores)
        return ram_peak, cores_peak

    def _why_not(self, request: Request, exclude: Collection[int]) -> Short:
        """As `scheduler.why_not`, in whole numbers: a line of a thousand asks it of a thousand nodes."""
        ram, cores = request.ram_mib, _hundredths(request.cores)
        lines = [x for x in self.lines if x.node_id not in exclude and (x.has_host or not request.needs_host)]
        if not lines:
            return Short.NO_HOST if request.needs_host else Short.NO_HEALTHY_NODE
        big_enough = [line for line in lines if ram <= line.ram and cores <= line.cores]
        if not big_enough:
            return Short.TOO_BIG
        peaks = self._peaks_over(_microseconds(request.start), _microseconds(request.end))
        ram_short = all(peaks[line.node_id][0] + ram > line.ram for line in big_enough)
        cores_short = all(peaks[line.node_id][1] + cores > line.cores for line in big_enough)
        if ram_short == cores_short:
            return Short.RAM_AND_CORES
        return Short.RAM if ram_short else Short.CORES

    def _peaks_over(self, start: int, end: int) -> dict[int, tuple[int, int]]:
        """The peak of each node, by its id; kept for the last windows, since many in a line ask for the same."""
        if (start, end) not in self._peaks:
            if len(self._peaks) >= MOST_WINDOWS:
                del self._peaks[next(iter(self._peaks))]
            self._peaks[start, end] = {line.node_id: self._peak(line, start, end) for line in self.lines}
        return self._peaks[start, end]


def _too_full(line: Line, ram: int, cores: int) -> list[tuple[int, int]]:
    """From when to when more than this is held, by time."""
    found = []
    for index, at in enumerate(line.at):
        if line.ram_held[index] > ram or line.cores_held[index] > cores:
            found.append((at, line.at[index + 1] if index + 1 < len(line.at) else _FOR_EVER))
    return found if ram >= 0 and cores >= 0 else [(0, _FOR_EVER)]


def _free_until(too_full: list[tuple[int, int]], at: int, length: int) -> int:
    """The last start from `at` on, without a gap, at which `length` is free; -1 when it is not at `at`."""
    for begin, end in too_full:
        if begin < at + length and end > at:
            return -1
        if begin >= at + length:
            return begin - length
    return _FOR_EVER


def _before(ram_peak: int, cores_peak: int, line: Line, best: tuple[int, int, Line]) -> bool:
    """`scheduler.rank` in whole numbers: it is asked for a thousand nodes at a time."""
    other = best[2]
    mine, its = ram_peak * other.ram, best[0] * line.ram
    if mine != its:
        return mine < its
    mine, its = cores_peak * other.cores, best[1] * line.cores
    return mine < its if mine != its else line.name < other.name


def _candidate(line: Line, ram_peak: int, cores_peak: int) -> Candidate:
    cores, peak = Decimal(line.cores) / 100, Decimal(cores_peak) / 100
    return Candidate(line.node_id, line.name, line.ram, cores, ram_peak, peak)


def _microseconds(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


def _hundredths(cores: Decimal) -> int:
    return int(cores * 100)


# Laterals, one index read for each node: a plan made while the tables were empty is quick when they are full.
_READ = """
    SELECT node.id, node.name, node.gateway_id, node.ram_mib, (node.cores * 100)::int, node.ssh <> '',
           coalesce(step.at, '{}'), coalesce(step.ram, '{}'), coalesce(step.cores, '{}'),
           coalesce(taken.ram, 0), coalesce(taken.cores, 0),
           node.state = %(active)s AND node.health = %(ok)s AND node.disk_problem = ''
    FROM compute_node node
    LEFT JOIN LATERAL (
        SELECT array_agg((extract(epoch FROM at) * 1000000)::bigint) AS at, array_agg(ram_mib) AS ram,
               array_agg((cores * 100)::int) AS cores
        FROM (SELECT at, ram_mib, cores FROM compute_loadstep WHERE node_id = node.id ORDER BY at) ordered
    ) step ON true
    LEFT JOIN LATERAL (
        SELECT sum(ram_mib)::int AS ram, sum(cores * 100)::int AS cores
        FROM compute_allocation WHERE node_id = node.id AND released_at IS NULL AND taken_at IS NOT NULL
    ) taken ON true
    WHERE node.state <> %(removed)s
    ORDER BY node.name
"""
