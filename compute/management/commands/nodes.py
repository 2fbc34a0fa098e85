"""manage.py nodes"""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from compute import certificates
from compute.fleet import node_rows


class Command(BaseCommand):
    help = (
        "Show the compute nodes, what they lend and what is held of it now. Exits 1 if one is not in"
        " service or its guard (its own timer and firewall) is not as it should be."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", dest="as_json")

    def handle(self, *, as_json: bool, **options: Any) -> None:
        now = timezone.now()
        rows = node_rows(now)
        if as_json:
            self.stdout.write(json.dumps([row.as_json() for row in rows], indent=2))
        elif not rows:
            self.stdout.write("There are no nodes yet: manage.py add_node --help")
        else:
            self.stdout.write(
                f"{'NODE':16} {'STATE':9} {'HEALTH':8} {'RAM MiB held/lent':>18} {'CORES held/lent':>16}"
                f" {'HELD':>5}  SEEN"
            )
            for row in rows:
                seen = f"{row.last_seen_at:%Y-%m-%d %H:%M:%S} UTC" if row.last_seen_at else "never"
                self.stdout.write(
                    f"{row.name:16} {row.state:9} {row.health:8} {f'{row.held_ram_mib}/{row.ram_mib}':>18}"
                    f" {f'{row.held_cores:f}/{row.cores:f}':>16} {row.held_count:>5}  {seen} {row.health_reason}"
                )
                if row.guard_problem:
                    self.stdout.write(f"    guard: {row.guard_problem}")
                if ends := certificates.warning(row.tls_expires_at, now):
                    self.stdout.write(f"    certificate: its engine's {ends}")
        if any(row.health != "ok" or row.guard_problem for row in rows):
            raise SystemExit(1)
