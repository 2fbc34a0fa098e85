"""manage.py resync_gateway [NAME]"""

import json
from dataclasses import asdict, dataclass
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from compute import actions
from compute.forwarding import Difference
from compute.models import Gateway
from compute.shell import CommandFailed, NoAnswer

BY = "manage.py resync_gateway"


@dataclass(frozen=True, slots=True)
class Resynced:
    """What was found at a gateway. `problem`: why it could not be compared or mended."""

    gateway: str
    missing: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()
    problem: str = ""


class Command(BaseCommand):
    help = (
        "Compare Berth's rules on the gateways with those that the database wants, show each that is missing (+) or"
        " should not be there (-), and apply the wanted ones. The workers do the same every minute. Exits 1 if"
        " a gateway gave no answer, or, with --dry-run, if something differs."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", nargs="*", metavar="NAME", help="gateways (default: all)")
        parser.add_argument("--dry-run", action="store_true", help="only show what differs")
        parser.add_argument("--json", action="store_true", dest="as_json", help="for programs")

    def handle(self, *, name: list[str], dry_run: bool, as_json: bool, **options: Any) -> None:
        rows = list(Gateway.objects.filter(name__in=name) if name else Gateway.objects.all())
        if unknown := set(name) - {row.name for row in rows}:
            raise CommandError(f"There is no gateway {', '.join(sorted(unknown))}.")
        found = [self._one(row, dry_run) for row in rows]
        if as_json:
            self.stdout.write(json.dumps([asdict(one) for one in found], indent=2))
        else:
            for one in found:
                self._show(one, dry_run)
        if problems := [f"{one.gateway}: {one.problem}" for one in found if one.problem]:
            raise CommandError("\n".join(problems))
        if dry_run and any(one.missing or one.unwanted for one in found):
            raise SystemExit(1)

    def _one(self, row: Gateway, dry_run: bool) -> Resynced:
        try:
            difference: Difference = actions.resync_gateway(gateway=row, by=BY, dry_run=dry_run)
        except (NoAnswer, CommandFailed) as problem:
            return Resynced(row.name, problem=str(problem))
        return Resynced(row.name, difference.missing, difference.unwanted)

    def _show(self, one: Resynced, dry_run: bool) -> None:
        if one.problem:
            return
        for sign, rules in (("+", one.missing), ("-", one.unwanted)):
            for rule in rules:
                self.stdout.write(f"{sign} {rule}")
        count = len(one.missing) + len(one.unwanted)
        if not count:
            self.stdout.write(f"{one.gateway}: its rules are as they should be.")
        elif dry_run:
            self.stdout.write(f"{one.gateway}: {count} rules differ. Nothing was changed.")
        else:
            self.stdout.write(f"{one.gateway}: {count} rules differed; it has the wanted ones now.")
