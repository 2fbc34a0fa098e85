"""manage.py quarantine [--remove NAME --node NODE]"""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from compute.engine import EngineRefused, NoAnswer
from reservations import orphans
from reservations.models import Orphan


class Command(BaseCommand):
    help = (
        "Show what is quarantined: containers with Berth's label that the database does not know, as after an older"
        " backup was restored. They are stopped and kept until somebody removes them."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--remove", metavar="NAME", help="remove this one from its node, for good")
        parser.add_argument("--node", help="where it is")
        parser.add_argument("--json", action="store_true", help="as JSON, for programs")

    def handle(self, *, remove: str | None, node: str | None, json: bool, **options: Any) -> None:
        rows = Orphan.objects.exclude(quarantined_at=None).select_related("node").order_by("node__name", "name")
        if remove is None:
            self._show(list(rows), json)
            return
        row = rows.filter(name=remove, node__name=node or "").first()
        if row is None:
            raise CommandError(f"{remove} is not quarantined on {node or 'a node (name it with --node)'}.")
        try:
            orphans.release(row)
        except (NoAnswer, EngineRefused) as problem:
            raise CommandError(f"{remove} could not be removed: {problem}") from problem
        self.stdout.write(f"{remove} was removed from {node}.")

    def _show(self, rows: list[Orphan], as_json: bool) -> None:
        if as_json:
            found = [{"node": row.node.name, "name": row.name, "since": str(row.quarantined_at)} for row in rows]
            self.stdout.write(json.dumps(found, indent=2))
            return
        if not rows:
            self.stdout.write("Nothing is quarantined.")
        for row in rows:
            self.stdout.write(f"{row.node.name:16} {row.name:40} since {row.quarantined_at:%Y-%m-%d %H:%M:%S} UTC")
