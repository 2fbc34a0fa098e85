"""manage.py audit_ledger"""

import json
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from accounts.models import Workspace
from billing import audit


class Command(BaseCommand):
    help = (
        "Compute every bill a second time from the intervals that were served, and name each difference to the ledger,"
        " the invoices and the payments. Changes nothing. Exits 1 if something was found."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--workspace", metavar="NAME", help="only this one, by its name or number")
        parser.add_argument("--json", action="store_true", dest="as_json", help="for programs")

    def handle(self, *, workspace: str | None, as_json: bool, **options: Any) -> None:
        chosen: list[int | None] = [one.pk for one in named(workspace)] if workspace else [None]
        found = [audit.examine(timezone.now(), pk) for pk in chosen]
        findings = [finding for result in found for finding in result.findings]
        if as_json:
            answer = {
                name: sum(getattr(result, name) for result in found)
                for name in ("workspaces", "reservations", "entries", "invoices")
            }
            rows = [asdict(finding) for finding in findings]
            self.stdout.write(json.dumps({**answer, "findings": rows}, indent=2, ensure_ascii=False))
        else:
            for finding in findings:
                self.stdout.write(f"{finding}.")
            for result in found:
                self.stdout.write(
                    f"{result.reservations} reservations, {result.entries} entries and {result.invoices} invoices of"
                    f" {result.workspaces} workspaces were recomputed:"
                    f" {len(result.findings) or 'no'} difference{'' if len(result.findings) == 1 else 's'}."
                )
        if findings:
            raise SystemExit(1)


def named(text: str) -> list[Workspace]:
    """The workspaces of that name, or the one with that number. Raises CommandError when there is none."""
    rows = list(Workspace.objects.filter(name=text))
    if not rows and text.isdecimal():
        rows = list(Workspace.objects.filter(pk=int(text)))
    if not rows:
        raise CommandError(f"There is no workspace {text!r}.")
    return rows
