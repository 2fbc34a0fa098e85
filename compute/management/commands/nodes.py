"""manage.py nodes"""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from compute.fleet import NodeRow, node_rows
from compute.management.tables import lasting, moment, percent, table


class Command(BaseCommand):
    help = (
        "Show the compute nodes: what they lend, what is held of it now, and what their latest reading (of the last"
        " minute) says is really used. Exits 1 if one is not in service or was not probed lately, its disk is full, its"
        " guard (its own timer and firewall) is not as it should be, or its certificate is near its end."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", dest="as_json", help="for programs, with more fields")

    def handle(self, *, as_json: bool, **options: Any) -> None:
        rows = node_rows(timezone.now())
        if as_json:
            self.stdout.write(json.dumps([row.as_json() | {"problems": row.problems} for row in rows], indent=2))
        elif not rows:
            self.stdout.write("There are no nodes yet: manage.py enrol_node --help")
        else:
            lines = table(HEADS, [_words(row) for row in rows], right=range(3, 10)).splitlines()
            self.stdout.write(lines[0])
            for line, row in zip(lines[1:], rows, strict=True):
                self.stdout.write(line)
                for sentence in problems(row):
                    self.stdout.write(f"    {sentence}")
        if any(not row.is_well or row.guard_problem or row.certificate_problem for row in rows):
            raise SystemExit(1)


HEADS = [
    "NODE",
    "STATE",
    "HEALTH",
    "RAM MiB held/lent",
    "used",
    "CORES held/lent",
    "used",
    "DISK",
    "HELD",
    "UP",
    "SEEN",
]


def problems(row: NodeRow) -> list[str]:
    """What is wrong with it; of its guard is said that it is that."""
    return [f"guard: {text}" if text == row.guard_problem else text for text in row.problems]


def _words(row: NodeRow) -> list[str]:
    return [
        row.name,
        row.state,
        row.health,
        f"{row.held_ram_mib}/{row.ram_mib}",
        "–" if row.used_ram_mib is None else str(row.used_ram_mib),
        f"{row.held_cores:f}/{row.cores:f}",
        "–" if row.used_cores is None else f"{row.used_cores:.2f}",
        percent(row.disk_share),
        str(row.held_count),
        lasting(row.uptime_s),
        moment(row.last_seen_at, otherwise="never"),
    ]
