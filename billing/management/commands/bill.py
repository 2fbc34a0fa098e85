"""manage.py bill"""

import json
from dataclasses import asdict
from datetime import date, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from billing import as_of
from billing.as_of import Bill
from billing.management.commands.audit_ledger import named
from billing.models import BillingAccount

HEADINGS = ("WORKSPACE", "AS OF", "MONTH", "SPENT", "NOT ENTERED", "BALANCE", "OPEN", "OVERDUE", "")


class Command(BaseCommand):
    help = (
        "Print what every workspace had spent in the month and owed at an instant: the month until then and what of it"
        " was not in the ledger yet (both without tax), the balance then (negative is credit), and what was open and"
        " overdue of invoices. Changes nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--as-of",
            metavar="DAY[THH:MM]",
            help="2026-05-31 is the end of that day where the workspace has its months; a time without an offset is"
            " there, too. Default: now.",
        )
        parser.add_argument("--workspace", metavar="NAME", help="only this one, by its name or number")
        parser.add_argument("--json", action="store_true", dest="as_json", help="for programs")

    def handle(self, *, as_of: str | None, workspace: str | None, as_json: bool, **options: Any) -> None:
        accounts = BillingAccount.objects.select_related("workspace").order_by("workspace__name", "pk")
        if workspace:
            accounts = accounts.filter(workspace__in=named(workspace))
        bills = [_bill(account, as_of, timezone.now()) for account in accounts]
        if as_json:
            self.stdout.write(json.dumps([asdict(bill) for bill in bills], indent=2, default=str, ensure_ascii=False))
            return
        rows = [HEADINGS, *(_cells(bill) for bill in bills)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
        for row in rows:
            # Amounts to the right, so that their points are under each other.
            cells = [
                cell.rjust(width) if 3 <= column <= 7 else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            self.stdout.write("  ".join(cells).rstrip())


def _bill(account: BillingAccount, text: str | None, now: datetime) -> Bill:
    at = _instant(text, account) if text else now
    if at > now and text and "T" not in text and date.fromisoformat(text) == now.astimezone(account.zone).date():
        at = now  # today, which is not over
    if at > now:
        raise CommandError(f"{text} is in the future.")
    return as_of.bill(account, at)


def _instant(text: str, account: BillingAccount) -> datetime:
    try:
        if "T" not in text:
            return as_of.day_end(date.fromisoformat(text), account.zone)
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise CommandError(f"{text!r} is no day or time such as 2026-05-31 or 2026-05-31T18:00.") from None
    return found if found.tzinfo else found.replace(tzinfo=account.zone)


def _cells(bill: Bill) -> tuple[str, ...]:
    amounts = (bill.spent, bill.not_entered, bill.balance, bill.open_amount, bill.overdue_amount)
    at = f"{bill.at:%Y-%m-%d %H:%M} UTC"
    return (bill.name, at, f"{bill.month:%Y-%m}", *(str(amount) for amount in amounts), bill.currency)
