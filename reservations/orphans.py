"""What carries our label on a node and belongs to no container row that may still be there.

It is removed after being seen twice and past a grace. But what the rows cannot know is quarantined, which is stopped
and kept: a reservation, a generation or a key that they do not have comes from a newer database than the one that is
there, after an older backup was restored, and may be all that is left of somebody's work.
"""

import logging
import re
from collections.abc import Mapping
from datetime import datetime

from compute import drivers
from compute.engine import ContainerEngine, EngineRefused, NoAnswer
from compute.models import Node
from compute.spec import LABEL_KEY, Observed
from reservations import numbers, sightings
from reservations.leftovers import PREFIX as VOLUME
from reservations.models import Container, Orphan, Reservation

logger = logging.getLogger(__name__)
_OURS = re.compile(r"berth-([0-9]{1,18})-([0-9]{1,9})-[a-z0-9]+")


def names(node: Node, traces: set[str]) -> set[str]:
    """Those of the traces that no container row on the node has."""
    rows = Container.objects.present().filter(node=node)
    return traces - {row.machine_name for row in rows}


def remove(node: Node, traces: set[str], seen: Mapping[str, Observed], now: datetime) -> None:
    """Remove or quarantine what is nobody's; never anything without our label."""
    engine, found = drivers.engine(node), names(node, traces)
    earlier = Orphan.objects.filter(node=node).exclude(name__startswith=VOLUME)
    for row, ripe in sightings.note(node, found, earlier, now):
        try:
            take_away(row, ripe, seen.get(row.name), engine, now)
        except (NoAnswer, EngineRefused) as problem:
            logger.warning("orphan %s on %s could not be taken away: %s", row.name, node.name, problem)


def take_away(row: Orphan, ripe: bool, seen: Observed | None, engine: ContainerEngine, now: datetime) -> None:
    """Quarantine what the rows cannot know, remove the rest once it is `ripe`. Raises NoAnswer or EngineRefused."""
    if row.quarantined_at or unknown(row.name, seen):
        _quarantine(row, engine, now)
    elif ripe:
        engine.remove(row.name)
        row.delete()
        logger.warning("removed %s from %s: it has Berth's label but no reservation owns it", row.name, row.node.name)


def unknown(name: str, seen: Observed | None) -> bool:
    """Whether the rows cannot know it; rows of reservations are never deleted."""
    parts = _OURS.fullmatch(name)
    row = Reservation.objects.filter(pk=parts[1]).first() if parts else None
    if parts is None or row is None or int(parts[2]) > row.generation:
        return True
    key = seen.labels.get(LABEL_KEY) if seen else None
    return key is not None and key != str(row.key)


def _quarantine(row: Orphan, engine: ContainerEngine, now: datetime) -> None:
    """Stopped, so that it serves nobody; the next booking does not get its number."""
    engine.stop(row.name, grace_s=10)
    if row.quarantined_at:
        return
    row.quarantined_at = now
    row.save(update_fields=["quarantined_at"])
    if parts := _OURS.fullmatch(row.name):
        numbers.skip(Reservation, int(parts[1]))
    logger.error("quarantined %s on %s: the database does not know it; is it of an older backup?", row.name, row.node)


def release(row: Orphan) -> None:
    """Remove what was quarantined from its node for good. Raises NoAnswer or EngineRefused."""
    drivers.engine(row.node).remove(row.name)
    row.delete()
