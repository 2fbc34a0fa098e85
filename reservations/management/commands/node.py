"""manage.py node NAME"""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from compute.fleet import NodeRow, node_rows
from compute.management.commands.nodes import problems
from compute.management.tables import lasting, moment, percent, table
from compute.models import Node
from reservations.models import Container


class Command(BaseCommand):
    help = (
        "Show all that is known of one node: how it is reached, what it lends, what its latest reading says, what is"
        " on it and what is booked on it. Exits 1 if something is wrong with it, as manage.py nodes does."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="its name, as manage.py nodes shows it")
        parser.add_argument("--json", action="store_true", dest="as_json", help="for programs")

    def handle(self, *, name: str, as_json: bool, **options: Any) -> None:
        node = Node.objects.present().filter(name=name).first()
        rows = node_rows(timezone.now(), [name])
        if node is None or not rows:
            raise CommandError(f"There is no node {name!r}.")
        [row] = rows
        there = list(
            Container.objects.present()
            .filter(node=node)
            .select_related("reservation__service", "reservation__workspace", "allocation")
            .order_by("reservation__start", "pk")
        )
        if as_json:
            values = row.as_json() | _reached(node) | {"problems": row.problems}
            self.stdout.write(json.dumps(values | {"containers": [_values(one) for one in there]}, indent=2))
        else:
            self.stdout.write("\n".join(f"{word + ':':18} {text}" for word, text in _facts(node, row)))
            if there:
                self.stdout.write(f"\n{table(HEADS, [_words(one) for one in there])}")
            for sentence in problems(row):
                self.stdout.write(f"! {sentence}")
        if not row.is_well or row.guard_problem or row.certificate_problem:
            raise SystemExit(1)


HEADS = ["CONTAINER", "RESERVATION", "WORKSPACE", "STATE", "SEEN", "FROM", "UNTIL"]


def _reached(node: Node) -> dict[str, str]:
    return {"engine_url": node.engine_url, "ssh": node.ssh, "runtime": node.runtime}


def _facts(node: Node, row: NodeRow) -> list[tuple[str, str]]:
    ram = "–" if row.used_ram_mib is None else f"{row.used_ram_mib} of {row.memory_total_mib} MiB"
    cores = "–" if row.used_cores is None else f"{row.used_cores:.2f} of {row.machine_cores or 0:g}"
    load = "–" if row.load_1 is None else f"{row.load_1:.2f}"
    return [
        ("node", f"{row.name}, {row.state}, {row.health}"),
        ("address", f"{row.address}, behind {row.gateway_name}"),
        ("engine", f"{node.engine_url}, {row.engine_version or 'not seen yet'}, runtime {node.runtime or 'its own'}"),
        ("SSH", node.ssh or "none: no guard, and no volumes with a limit"),
        ("seen", moment(row.last_seen_at, otherwise="never")),
        ("up", f"{lasting(row.uptime_s)}, load {load}"),
        ("lends", f"{row.ram_mib} MiB, {row.cores:f} cores"),
        ("held now", f"{row.held_ram_mib} MiB, {row.held_cores:f} cores; {row.held_count} places in all"),
        ("really used", f"RAM {ram}, cores {cores}, fullest disk {percent(row.disk_share)}"),
        ("certificate until", moment(row.tls_expires_at, otherwise="not known")),
    ]


def _values(one: Container) -> dict[str, object]:
    during = one.allocation.during
    return {
        "name": one.machine_name,
        "reservation": one.reservation_id,
        "workspace": str(one.reservation.workspace),
        "state": one.reservation.state,
        "left_behind": one.generation < one.reservation.generation,
        "presence": one.presence,
        "observed_at": one.observed_at.isoformat() if one.observed_at else None,
        "from": during.lower.isoformat(),
        "until": during.upper.isoformat(),
    }


def _words(one: Container) -> list[str]:
    old = one.generation < one.reservation.generation
    during = one.allocation.during
    return [
        one.machine_name,
        str(one.reservation),
        str(one.reservation.workspace),
        "has moved away" if old else one.reservation.state,
        f"{one.presence}, {moment(one.observed_at)}" if one.observed_at else "not yet",
        moment(during.lower),
        moment(during.upper),
    ]
