"""manage.py grant_credit WORKSPACE AMOUNT --reason TEXT"""

from decimal import Decimal
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from billing import payments
from billing.management import arguments


class Command(BaseCommand):
    help = (
        "Give a workspace credit: grant_credit alice 50.00 --reason 'Prepaid by transfer of 3 May'. Its open invoices"
        " are settled with it at once, the oldest first; what is left settles those to come."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("workspace", help="its name, a user's name for the personal one, or its number as '#7'")
        parser.add_argument("amount", type=arguments.decimal, help="such as 50.00")
        parser.add_argument("--reason", required=True, help="why; the customer reads it in the ledger")
        parser.add_argument(
            "--once", default="", metavar="NAME", help="a name for this grant: with it, a second one is refused"
        )

    def handle(self, *, workspace: str, amount: Decimal, reason: str, once: str, **options: Any) -> None:
        row = arguments.find_workspace(workspace)
        try:
            entry = payments.grant_credit(
                workspace=row, amount=amount, reason=reason, by="manage.py grant_credit", now=timezone.now(), once=once
            )
        except payments.Refused as problem:
            raise CommandError(str(problem)) from None
        left = payments.available_credit(row.pk)
        self.stdout.write(f"Granted. {left} {entry.currency} of {row}'s credit are not used yet.")
