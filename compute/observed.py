"""Keeps the rows of observed containers: written only when something is another than before."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from compute.models import ObservedContainer
from compute.readings import ContainerSeen, Details, Listing

_TOLD = (
    "state",
    "health",
    "exit_code",
    "out_of_memory",
    "oom_kills",
    "oom_counter",
    "restarts",
    "memory_limit_mib",
    "started_at",
    "finished_at",
)
_GONE = ObservedContainer.State.GONE


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen on a node, beside what is known of it; all by the engine's ids."""

    node_id: int
    listing: Listing
    details: Mapping[str, Details]
    oom_kills: Mapping[str, int]
    known: Mapping[str, ObservedContainer]


def note(seen: list[Seen], at: datetime) -> dict[tuple[int, str], ObservedContainer]:
    """Write what changed; the rows of all that are there, by node and the engine's id.

    Who is not on a complete list is gone. What a later round wrote is not touched: rows that changed after `at` stay.
    """
    rows: dict[tuple[int, str], ObservedContainer] = {}
    changed: list[ObservedContainer] = []
    gone: list[int] = []
    for node in sorted(seen, key=lambda s: s.node_id):
        for one in sorted(node.listing.containers, key=lambda c: c.engine_id):
            row = node.known.get(one.engine_id) or _new(node.node_id, one, at)
            values = told(row, one, node.details.get(one.engine_id), node.oom_kills.get(one.engine_id, 0))
            rows[node.node_id, one.engine_id] = row
            if row.pk is None or (row.changed_at <= at and any(getattr(row, k) != v for k, v in values.items())):
                for name, value in values.items():
                    setattr(row, name, value)
                row.changed_at = at
                changed.append(row)
        there = {one.engine_id for one in node.listing.containers}
        if node.listing.complete:
            gone += [row.pk for engine_id, row in node.known.items() if engine_id not in there and row.changed_at < at]
    if changed:
        ObservedContainer.objects.bulk_create(
            changed,
            update_conflicts=True,
            unique_fields=["node", "engine_id"],
            update_fields=["name", "changed_at", *_TOLD],
        )
    if gone:
        ObservedContainer.objects.filter(pk__in=gone, changed_at__lt=at).update(state=_GONE, health="", changed_at=at)
    return rows


def _new(node_id: int, one: ContainerSeen, at: datetime) -> ObservedContainer:
    return ObservedContainer(
        node_id=node_id,
        engine_id=one.engine_id,
        name=one.name[:120],
        reservation_id=one.reservation_id,
        first_seen_at=at,
        changed_at=at,
    )


def told(row: ObservedContainer, one: ContainerSeen, details: Details | None, kills: int) -> dict[str, Any]:
    """What the row should say now. Without an inspect the list's word goes, and the rest stays as it was."""
    values = {name: getattr(row, name) for name in _TOLD}
    values |= {"state": one.state, "health": one.health}
    if one.exit_code is not None:
        values["exit_code"] = one.exit_code
    if details:
        values |= {
            "state": details.state,
            "health": details.health,
            "exit_code": details.exit_code,
            "out_of_memory": details.out_of_memory,
            "started_at": details.started_at,
            "finished_at": details.finished_at,
            "memory_limit_mib": details.memory_limit_mib,
        }
    if row.started_at and values["started_at"] and values["started_at"] > row.started_at:
        values |= {"restarts": row.restarts + 1, "oom_counter": 0}
    return values | _kills(row, values, kills)


def _kills(row: ObservedContainer, values: dict[str, Any], counter: int) -> dict[str, int]:
    """The kernel counts them for as long as the container runs; when the last thing it killed was the container
    itself, its counter went with it, and the engine's word stands for one."""
    before: int = values["oom_counter"]
    if counter > before:
        return {"oom_kills": row.oom_kills + counter - before, "oom_counter": counter}
    if values["out_of_memory"] and not before and values["state"] in {"exited", "dead"}:
        return {"oom_kills": row.oom_kills + 1, "oom_counter": 1}
    return {}
