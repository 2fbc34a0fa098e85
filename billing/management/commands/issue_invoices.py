"""manage.py issue_invoices"""

import json
import logging
from datetime import date, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from billing import invoices, months
from billing.forms import parse_month
from billing.invoices import Draft
from billing.management.arguments import find_workspace
from billing.models import BillingAccount, Invoice

logger = logging.getLogger(__name__)
HEADINGS = ("WORKSPACE", "MONTH", "INVOICE", "LINES", "TOTAL", "")


class Command(BaseCommand):
    help = (
        "Issue the invoices of every month that is over in its workspace's zone and has none yet, as the worker does by"
        " itself an hour after midnight of the 1st. What is issued is mailed within a minute. A second time issues"
        " nothing twice; a workspace without usage gets no invoice and no number. Exits 1 if one could not be issued."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--month",
            metavar="2026-05",
            help="up to this month, the ones before it included (default: all that are over)",
        )
        parser.add_argument("--workspace", metavar="NAME", help="only this one: its name, or its number as #7")
        parser.add_argument("--dry-run", action="store_true", help="print what would be issued and write nothing")
        parser.add_argument("--json", action="store_true", dest="as_json", help="for programs")

    def handle(self, *, month: str | None, workspace: str | None, dry_run: bool, as_json: bool, **options: Any) -> None:
        now = timezone.now()
        chosen = find_workspace(workspace).pk if workspace else None
        through = _month(month, chosen, now) if month else None
        due = [chosen] if chosen else invoices.workspaces_due(now, through)
        names = dict(BillingAccount.objects.filter(pk__in=due).values_list("pk", "workspace__name"))
        rows = [row for pk in due for row in _rows(pk, names.get(pk, ""), now, through, dry_run)]
        if as_json:
            keys = [heading.lower() or "problem" for heading in HEADINGS]
            self.stdout.write(json.dumps([dict(zip(keys, row, strict=True)) for row in rows], indent=2))
        else:
            self._print(rows, dry_run)
        if any(row[-1] for row in rows):
            raise SystemExit(1)

    def _print(self, rows: list[tuple[str, ...]], dry_run: bool) -> None:
        if rows:
            widths = [max(len(row[column]) for row in [HEADINGS, *rows]) for column in range(len(HEADINGS))]
            for row in [HEADINGS, *rows]:
                cells = [
                    cell.rjust(width) if column in {3, 4} else cell.ljust(width)
                    for column, (cell, width) in enumerate(zip(row, widths, strict=True))
                ]
                self.stdout.write("  ".join(cells).rstrip())
        count = sum(not row[-1] for row in rows)
        self.stdout.write(f"{count} invoice{'' if count == 1 else 's'} {'would be issued' if dry_run else 'issued'}.")


def _month(text: str, workspace_id: int | None, now: datetime) -> date:
    """Raises CommandError for a month that is not over where the workspace is, or not anywhere."""
    try:
        month = parse_month(text)
    except ValueError:
        raise CommandError(f"{text!r} is not a month such as 2026-05.") from None
    accounts = BillingAccount.objects.filter(pk=workspace_id) if workspace_id else BillingAccount.objects.all()
    zones = {account.zone.key: account.zone for account in accounts.only("time_zone")}
    if zones and all(now < months.stretch(month, zone)[1] for zone in zones.values()):
        raise CommandError(f"{text} is not over yet.")
    return month


def _rows(workspace_id: int, name: str, now: datetime, through: date | None, dry_run: bool) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    try:
        found = invoices.preview if dry_run else invoices.issue_open
        rows.extend(_row(name, issued) for issued in found(workspace_id, now, through))
    except Exception as problem:
        logger.exception("workspace %s could not be invoiced", workspace_id)
        rows.append((name, "", "", "", "", f"{type(problem).__name__}: {problem}"))
    return rows


def _row(name: str, issued: Invoice | Draft) -> tuple[str, ...]:
    number, lines = (issued.number, issued.lines.count()) if isinstance(issued, Invoice) else ("", issued.lines)
    return name, f"{issued.month:%Y-%m}", number, str(lines), f"{issued.total} {issued.currency}", ""
