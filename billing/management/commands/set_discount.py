"""manage.py set_discount WORKSPACE PERCENT --reason TEXT [--from WHEN] [--until WHEN]"""

from datetime import datetime
from decimal import Decimal
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from billing import actions
from billing.management import arguments


class Command(BaseCommand):
    help = (
        "Take percents off everything that a workspace books from now, or from a date on: set_discount alice 15"
        " --reason 'Non-profit' --until 2027-01-01. What is booked keeps the prices of its booking."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("workspace", help="its name, a user's name for the personal one, or its number as '#7'")
        parser.add_argument("percent", type=arguments.decimal, help="more than 0, at most 100")
        parser.add_argument("--reason", required=True, help="why")
        parser.add_argument(
            "--from", type=arguments.instant, dest="start", help="a day or a time, not past (default: now)"
        )
        parser.add_argument("--until", type=arguments.instant, dest="end", help="default: until further notice")
        parser.add_argument(
            "--end-current",
            action="store_true",
            help="let the discount that holds at that time end when this one begins",
        )

    def handle(
        self,
        *,
        workspace: str,
        percent: Decimal,
        reason: str,
        start: datetime | None,
        end: datetime | None,
        end_current: bool,
        **options: Any,
    ) -> None:
        if not reason.strip():
            raise CommandError("Say the reason for the discount.")
        try:
            made = actions.set_discount(
                workspace=arguments.find_workspace(workspace),
                percent=percent,
                reason=reason,
                start=start,
                end=end,
                by="manage.py set_discount",
                now=timezone.now(),
                replace=end_current,
            )
        except actions.InvalidPrice as problem:
            raise CommandError(str(problem)) from None
        self.stdout.write(f"Discount {made.pk}: {made}, from {made.during.lower:%Y-%m-%d %H:%M %Z}.")
