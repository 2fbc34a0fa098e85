"""manage.py set_credit_limit WORKSPACE AMOUNT|none"""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing import actions
from billing.management import arguments


class Command(BaseCommand):
    help = (
        "Set how much a workspace may owe, tax and running bookings included; bookings over it are refused."
        " 0 means that it pays in advance, 'none' that there is no limit. What is booked already goes on."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("workspace", help="its name, a user's name for the personal one, or its number as '#7'")
        parser.add_argument("limit", help="an amount such as 200, 0 for prepaid, or none")

    def handle(self, *, workspace: str, limit: str, **options: Any) -> None:
        row = arguments.find_workspace(workspace)
        amount = None if limit == "none" else arguments.decimal(limit)
        try:
            account = actions.set_credit_limit(workspace=row, credit_limit=amount, by="manage.py set_credit_limit")
        except ValidationError as problem:
            raise CommandError(" ".join(problem.messages)) from None
        told = "no limit" if amount is None else f"a limit of {account.credit_limit} {account.currency}"
        self.stdout.write(f"{row} has {told}.")
