"""The health report as tables: the same ones on the page, as a file, as CSV and in the mail."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from django.utils import timezone

from billing import exports
from monitoring.reports import MOST_CUSTOMERS, MOST_INCIDENTS, MOST_REASONS, NodeFigures, Report

Value = str | int | float | datetime | None
UNKNOWN = "–"
MOST_SHOWN = 200
ENOUGH_READ, TOO_LITTLE_READ = 0.9, 0.5  # of the readings: from there on, and below it, for a figure of the whole time


class Unit(StrEnum):
    """What a column's values are; CSV names it, and people see them accordingly."""

    TEXT = "text"
    COUNT = "count"
    CORES = "cores"
    CORE_HOURS = "core-hours"
    MIB = "MiB"
    GB = "GB"
    SHARE = "share of 1"
    SECONDS = "seconds"
    TIME = "UTC"


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    unit: Unit = Unit.TEXT

    @property
    def is_number(self) -> bool:
        return self.unit not in {Unit.TEXT, Unit.TIME}


@dataclass(frozen=True, slots=True)
class Cell:
    """A value below its column."""

    column: Column
    value: Value

    @property
    def shown(self) -> str:
        return shown(self.value, self.column.unit)


@dataclass(frozen=True, slots=True)
class Section:
    """A table of the report: the first column names the row, `empty` is said when there is none."""

    key: str
    title: str
    note: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Value]]
    empty: str = ""

    @property
    def cells(self) -> list[list[Cell]]:
        """Of the first rows, as many as a person reads; CSV and JSON have all."""
        return [[Cell(*pair) for pair in zip(self.columns, row, strict=True)] for row in self.rows[:MOST_SHOWN]]

    @property
    def rest(self) -> int:
        return max(len(self.rows) - MOST_SHOWN, 0)


@dataclass(frozen=True, slots=True)
class Headline:
    """One of the figures above the tables."""

    name: str
    figure: str
    more: str


def shown(value: Value, unit: Unit) -> str:
    """For people; times in the reader's zone, which the report names at its head."""
    if value is None:
        return UNKNOWN
    if isinstance(value, datetime):
        local = timezone.localtime(value)
        return f"{local.day} {local:%b %Y, %H:%M}"
    if isinstance(value, str):
        return value
    if unit == Unit.SHARE:
        return f"{int(value * 10_000) / 100:g} %"  # never rounded up: 99.996 % is not always
    if unit == Unit.SECONDS:
        return span(value)
    if unit in {Unit.COUNT, Unit.MIB, Unit.GB}:
        return f"{value:,.0f}"
    return f"{value:,.2f}"


def span(seconds: float) -> str:
    """0.84 s, 12 s, 5 min, 3 h 20 min, 2 d 4 h"""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    days, rest = divmod(hours, 24)
    return f"{days} d {rest} h" if days else f"{hours} h {minutes} min"


def zone() -> str:
    """The reader's zone, by name."""
    return timezone.get_current_timezone_name()


def headlines(found: Report) -> list[Headline]:
    starts, happened = found.starts, found.reservations
    lent = sum(node.cores_lent for node in found.nodes)
    held = sum(node.cores_held for node in found.nodes)
    read = sum(node.read for node in found.nodes) / len(found.nodes) if found.nodes else 0.0
    return [
        Headline(
            "Nodes available",
            _available(found.available, read),
            f"{len(found.nodes)} nodes, {shown(read, Unit.SHARE)} of the readings taken",
        ),
        Headline(
            "Reservations booked", f"{happened.booked:,}", f"{happened.failed:,} failed, {happened.moved:,} moved"
        ),
        Headline(
            "Half started within",
            shown(starts.p50_s, Unit.SECONDS),
            f"95 of 100 within {shown(starts.p95_s, Unit.SECONDS)}",
        ),
        Headline(
            "Cores held",
            shown(held / lent if lent else None, Unit.SHARE),
            f"{found.core_hours:,.1f} core-hours served",
        ),
        Headline("Incidents", f"{found.incident_count:,}", f"{found.now.open_incidents:,} open now"),
    ]


def _available(share: float | None, read: float) -> str:
    """Few readings say little of the whole time: the figure says of how many it is, or that it is not known."""
    if share is None or read < TOO_LITTLE_READ:
        return UNKNOWN
    figure = shown(share, Unit.SHARE)
    return figure if read >= ENOUGH_READ else f"{figure} of the {shown(read, Unit.SHARE)} that was read"


def sections(found: Report) -> list[Section]:
    return [
        _availability(found),
        _utilisation(found),
        _starts(found),
        _reservations(found),
        _reasons(found),
        _customers(found),
        _incidents(found),
        _storage(found),
        _gateways(found),
        _now(found),
    ]


def _availability(found: Report) -> Section:
    columns = (
        Column("Node"),
        Column("State"),
        Column("Available", Unit.SHARE),
        Column("Readings taken", Unit.SHARE),
        Column("Incidents", Unit.COUNT),
    )
    note = (
        "Of the readings that were taken every 15 s: in how many the node's engine answered. Readings that were not"
        " taken (the portal was down, or the node not there yet) count neither way."
    )
    worst_first = sorted(found.nodes, key=lambda node: (node.available is None, node.available))
    rows = [(node.name, node.state, node.available, node.read, node.incidents) for node in worst_first]
    return Section("availability", "Availability", note, columns, rows, "There are no nodes.")


def _utilisation(found: Report) -> Section:
    columns = (
        Column("Node"),
        Column("Cores lent", Unit.CORES),
        Column("Cores held", Unit.SHARE),
        Column("Cores used", Unit.SHARE),
        Column("RAM lent, MiB", Unit.MIB),
        Column("RAM held", Unit.SHARE),
        Column("RAM used", Unit.SHARE),
    )
    note = (
        "Means over the whole period, of what the node lends today. Held is what reservations had taken; used is what"
        " the machine measured, cores as a share of those that it lends, RAM of all that it has."
    )
    rows = [_used(node) for node in sorted(found.nodes, key=lambda node: -node.cores_held)]
    return Section("utilisation", "Utilisation", note, columns, rows, "There are no nodes.")


def _used(node: NodeFigures) -> Sequence[Value]:
    cores_used = None if node.cores_used is None or not node.cores_lent else node.cores_used / node.cores_lent
    cores_held = node.cores_held / node.cores_lent if node.cores_lent else None
    return (node.name, node.cores_lent, cores_held, cores_used, node.ram_lent_mib, node.ram_held, node.ram_used)


def _starts(found: Report) -> Section:
    columns = (Column("Starts"), Column("Value", Unit.SECONDS))
    starts = found.starts
    note = (
        f"{starts.count:,} first starts, of which {starts.over_a_minute:,} took more than a minute: from when it was"
        " due (its start, or when it was booked if that was later) until it answered on its port, by the history."
    )
    rows: list[Sequence[Value]] = [
        ("p50: half within", starts.p50_s),
        ("p95: 95 of 100 within", starts.p95_s),
        ("p99: 99 of 100 within", starts.p99_s),
        ("the longest", starts.longest_s),
    ]
    return Section("starts", "Starts", note, columns, rows if starts.count else [], "Nothing was started.")


def _reservations(found: Report) -> Section:
    happened = found.reservations
    rows = [
        ("booked", happened.booked),
        ("ended", happened.ended),
        ("failed", happened.failed),
        ("moved to another node", happened.moved),
        ("of these without their C1 data", happened.lost_data),
    ]
    columns = (Column("Reservations"), Column("Number", Unit.COUNT))
    return Section("reservations", "Reservations", "What happened in the period, by the history's rows.", columns, rows)


def _reasons(found: Report) -> Section:
    rows = [(reason.text, reason.count) for reason in found.reasons]
    columns = (Column("Reason"), Column("Reservations", Unit.COUNT))
    note = f"As their owners were told; the {MOST_REASONS} most frequent."
    return Section("failures", "Why reservations failed", note, columns, rows, "No reservation failed.")


def _customers(found: Report) -> Section:
    columns = (Column("Workspace"), Column("Reservations", Unit.COUNT), Column("Core-hours", Unit.CORE_HOURS))
    rows = [(row.workspace, row.reservations, row.core_hours) for row in found.customers]
    note = f"Served within the period, as it is charged: {found.core_hours:,.1f} core-hours in all"
    rest = found.workspaces - len(found.customers)
    note += f", of {found.workspaces:,} workspaces the {MOST_CUSTOMERS} with the most." if rest > 0 else "."
    return Section("customers", "Customers", note, columns, rows, "Nobody had anything served.")


def _incidents(found: Report) -> Section:
    columns = (
        Column("Incident"),
        Column("Severity"),
        Column("From", Unit.TIME),
        Column("Until", Unit.TIME),
        Column("In the period", Unit.SECONDS),
    )
    rows = [(row.title, row.severity, row.opened_at, row.closed_at or "open", row.within_s) for row in found.incidents]
    rest = found.incident_count - len(rows)
    note = f"What people were told of; {rest:,} older ones are not listed." if rest else "What people were told of."
    if found.incident_count > MOST_INCIDENTS:
        note = f"The newest {MOST_INCIDENTS} of {found.incident_count:,} that people were told of."
    return Section("incidents", "Incidents", note, columns, rows, "There was no incident.")


def _storage(found: Report) -> Section:
    columns = (
        Column("Storage server"),
        Column("Capacity, GB", Unit.GB),
        Column("Promised, GB", Unit.GB),
        Column("Kept volumes", Unit.COUNT),
        Column("Now"),
    )
    rows = [
        (row.name, row.capacity_gb, row.promised_gb, row.kept_volumes, row.problem or "well") for row in found.storage
    ]
    note = "When the report was made. Promised are the sizes of the volumes on it."
    return Section("storage", "Storage", note, columns, rows, "There is no storage server.")


def _gateways(found: Report) -> Section:
    columns = (
        Column("Gateway"),
        Column("Rules that differ now", Unit.COUNT),
        Column("Since it was added", Unit.COUNT),
        Column("Incidents", Unit.COUNT),
        Column("Now"),
    )
    rows = [(row.name, row.drift, row.drift_total, row.incidents, row.problem or "well") for row in found.gateways]
    note = "Rules that were not as the database says, and were mended. Only the incidents are of the period."
    return Section("gateways", "Gateways", note, columns, rows, "There is no gateway.")


def _now(found: Report) -> Section:
    columns = (Column("Work"), Column("Value", Unit.COUNT))
    oldest = found.now.oldest_due_s
    rows = [("reservations that wait to be looked at", found.now.due), ("seconds that the oldest waits", oldest)]
    return Section("backlog", "Backlog", "When the report was made.", columns, rows)


# ---- CSV ----------------------------------------------------------------------------------------------------


def as_table(found: Report) -> exports.Table:
    """One row for each value, so that every section fits into one file and programs find what they want."""
    return exports.Table(("section", "row", "measure", "unit", "value"), _values(found))


def _values(found: Report) -> Iterator[Sequence[exports.Value]]:
    for name, at in (("since", found.since), ("until", found.until), ("made at", found.made_at)):
        yield "report", "period", name, Unit.TIME.value, at.astimezone(UTC)
    for section in sections(found):
        for row in section.rows:
            for column, value in zip(section.columns[1:], row[1:], strict=True):
                number = f"{value:.4f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
                yield section.key, str(row[0]), column.name, column.unit.value, number
