"""manage.py drain NODE"""

import json
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from compute import actions
from compute.management.tables import agreed, moment, table
from compute.models import Node
from compute.room import Room
from reservations import leaving
from reservations.leaving import Fate, Leaving

BY = "manage.py drain"


class Command(BaseCommand):
    help = (
        "Empty nodes: they are given nothing new, what is booked on them for later gets a place elsewhere, and what"
        " runs is started on another node at the same address. First shows what becomes of each reservation. What"
        " would stay (its data is on the node's own disk, or no other node has room) is never ended; it stays to its"
        " end, and to drain all the same needs a yes, or --yes. manage.py uncordon puts a node back."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("node", nargs="+", metavar="NODE", help="names of nodes")
        parser.add_argument("--dry-run", action="store_true", help="only show what would become of what is there")
        parser.add_argument("--yes", action="store_true", help="also if some have to stay: do not ask")
        parser.add_argument("--json", action="store_true", dest="as_json", help="the preview for programs")

    def handle(self, *, node: list[str], dry_run: bool, yes: bool, as_json: bool, **options: Any) -> None:
        nodes = list(Node.objects.present().filter(name__in=node))
        if unknown := set(node) - {row.name for row in nodes}:
            raise CommandError(f"There is no node {', '.join(sorted(unknown))}.")
        plan = preview(nodes, timezone.now())
        stay = [one for one in plan if one.fate in {Fate.STAYS, Fate.WAITS}]
        self.stdout.write(_as_json(plan) if as_json else _as_text(plan))
        if dry_run:
            return
        names = ", ".join(row.name for row in nodes)
        if stay and not yes and not agreed(f"{len(stay)} would stay. Drain {names} all the same?"):
            raise CommandError(f"{len(stay)} would stay on {names}. Nothing was changed. With --yes it is drained.")
        for row in nodes:
            actions.set_node_state(node=row, state=Node.State.DRAINING, by=BY)
            if not as_json:
                held = row.allocations.held().count()
                self.stdout.write(f"{row.name} is draining; {held} reservations are on it.")


def preview(nodes: list[Node], now: datetime) -> list[Leaving]:
    """What becomes of all that is on these nodes, none of which takes what leaves another."""
    ids = {node.pk for node in nodes}
    room = Room([line for line in Room.read().lines if line.node_id not in ids])
    return leaving.simulate(
        list(leaving.to_leave().filter(node__in=ids).select_related("reservation__workspace")), now, room, dies=False
    )


def _fate(one: Leaving) -> str:
    if one.fate == Fate.MOVES:
        return f"moves to {one.to}{', gets another address' if one.other_address else ''}"
    if one.fate == Fate.ENDS:
        return "is ending"
    return f"stays until {moment(one.stays_until or one.reservation.end)}: {one.why_not}"


def _as_text(plan: list[Leaving]) -> str:
    if not plan:
        return "Nothing is on it, and nothing is booked on it."
    rows = [[str(one.reservation), str(one.reservation.workspace), one.reservation.state, _fate(one)] for one in plan]
    return table(["RESERVATION", "WORKSPACE", "STATE", "WHAT BECOMES OF IT"], rows)


def _as_json(plan: list[Leaving]) -> str:
    return json.dumps(
        [
            {
                "reservation": one.reservation.pk,
                "title": one.reservation.title,
                "workspace": str(one.reservation.workspace),
                "state": one.reservation.state,
                "end": one.reservation.end.isoformat(),
                "fate": one.fate,
                "to": one.to,
                "why_not": one.why_not,
                "other_address": one.other_address,
            }
            for one in plan
        ],
        indent=2,
    )
