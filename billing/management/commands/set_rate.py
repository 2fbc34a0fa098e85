"""manage.py set_rate PER_CORE_HOUR [--per-gib-hour P] [--per-gb-month P] [--workspace NAME] [--from WHEN]"""

from datetime import datetime
from decimal import Decimal
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from billing import actions
from billing.management import arguments
from billing.pricing import Rounding


class Command(BaseCommand):
    help = (
        "Let prices hold from now, or from a date on: set_rate 0.40 --per-gib-hour 0.02 --from 2026-06-01. They are for"
        " everybody, or with --workspace for one instead of the list's. What is booked keeps the prices of its booking."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("per_core_hour", type=arguments.decimal, help="price of a core for an hour, such as 0.40")
        parser.add_argument("--per-gib-hour", type=arguments.decimal, default=Decimal(0), help="of a GiB of RAM")
        parser.add_argument("--per-gb-month", type=arguments.decimal, default=Decimal(0), help="of a GB of storage")
        parser.add_argument(
            "--rounding",
            choices=[mode.value for mode in Rounding],
            default=Rounding.HOUR.value,
            help="count started hours in full (hour), or by the second (default: hour)",
        )
        parser.add_argument("--workspace", help="only for this one: its name, or its number as '#7'")
        parser.add_argument(
            "--from", type=arguments.instant, dest="start", help="a day or a time, not past (default: now)"
        )
        parser.add_argument("--until", type=arguments.instant, dest="end", help="default: until further notice")
        parser.add_argument(
            "--end-current", action="store_true", help="let the rate that holds at that time end when this one begins"
        )

    def handle(
        self,
        *,
        workspace: str | None,
        start: datetime | None,
        end: datetime | None,
        end_current: bool,
        **options: Any,
    ) -> None:
        now = timezone.now()
        whose = arguments.find_workspace(workspace) if workspace else None
        prices = {name: options[name] for name in ("per_core_hour", "per_gib_hour", "per_gb_month", "rounding")}
        try:
            made = actions.set_rate(
                workspace=whose,
                start=start,
                end=end,
                by="manage.py set_rate",
                now=now,
                replace=end_current,
                **prices,
            )
        except actions.InvalidPrice as problem:
            raise CommandError(
                "\n".join(f"{field}: {told}".removeprefix(": ") for field, told in problem.problems.items())
            ) from None
        self.stdout.write(f"Rate {made.pk}: {made}, from {made.during.lower:%Y-%m-%d %H:%M %Z}.")
