"""manage.py reservations"""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.models import Workspace
from compute.management.tables import moment, table
from compute.models import Node
from reservations.models import Reservation
from reservations.states import State

MOST = 200
HEADS = ["#", "SERVICE", "WORKSPACE", "STATE", "NODE", "START", "END", "ADDRESS", "WHY IT WAITS OR FAILED"]


class Command(BaseCommand):
    help = "List reservations, the newest first: those that are not over, or those of the states that are named."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--state", action="append", choices=[str(s) for s in State], help="only of this state (may be given again)"
        )
        parser.add_argument("--all", action="store_true", dest="everything", help="those that are over, too")
        parser.add_argument("--node", metavar="NODE", help="only those on this node, or booked on it")
        parser.add_argument("--workspace", metavar="NAME", help="only those of this workspace")
        parser.add_argument("--limit", type=int, default=MOST, metavar="N", help=f"at most so many (default {MOST})")
        parser.add_argument("--json", action="store_true", dest="as_json", help="for programs, with more fields")

    def handle(
        self,
        *,
        state: list[str] | None,
        everything: bool,
        node: str | None,
        workspace: str | None,
        limit: int,
        as_json: bool,
        **options: Any,
    ) -> None:
        if limit < 1:
            raise CommandError("--limit must be 1 or more.")
        rows = Reservation.objects.for_pages()
        if state:
            rows = rows.filter(state__in=state)
        elif not everything:
            rows = rows.live()
        if node:
            if not Node.objects.filter(name=node).exists():
                raise CommandError(f"There is no node {node!r}.")
            rows = rows.filter(containers__node__name=node, containers__gone_at=None).distinct()
        if workspace:
            if not Workspace.objects.filter(name=workspace).exists():
                raise CommandError(f"There is no workspace {workspace!r}.")
            rows = rows.filter(workspace__name=workspace)
        found = list(rows.order_by("-pk")[: limit + 1])
        shown = found[:limit]
        if as_json:
            self.stdout.write(json.dumps([as_values(row) for row in shown], indent=2))
        elif not shown:
            self.stdout.write("There are none.")
        else:
            self.stdout.write(table(HEADS, [_words(row) for row in shown], right=[0]))
            if len(found) > limit:
                self.stdout.write(f"There are more than {limit}: --limit shows more.")


def as_values(row: Reservation) -> dict[str, object]:
    """What programs get to know; never its credentials."""
    container = row.current_container
    return {
        "id": row.pk,
        "name": row.name,
        "service": row.service.slug,
        "image": row.image,
        "workspace": str(row.workspace),
        "created_by": row.created_by and row.created_by.username,
        "state": row.state,
        "reason": row.reason,
        "wish": row.wish,
        "ram_mib": row.ram_mib,
        "cores": str(row.cores),
        "storage": row.storage,
        "storage_gb": row.storage_gb,
        "start": row.start.isoformat(),
        "end": row.end.isoformat(),
        "generation": row.generation,
        "node": row.node_name,
        "container": container and container.machine_name,
        "endpoints": [{"name": e.name, "host": e.host, "port": e.port} for e in row.endpoints.all()],
    }


def _words(row: Reservation) -> list[str]:
    return [
        str(row.pk),
        row.service.slug,
        str(row.workspace),
        row.state,
        row.node_name or "–",
        moment(row.start),
        moment(row.end),
        ", ".join(endpoint.address for endpoint in row.endpoints.all()) or "–",
        row.reason,
    ]
