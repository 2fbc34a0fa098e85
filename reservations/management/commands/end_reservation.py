"""manage.py end_reservation RESERVATION --reason TEXT"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from compute import clocks
from reservations import actions
from reservations.management.numbered import add_number, checked_reason, rows_of

BY = "manage.py end_reservation"


class Command(BaseCommand):
    help = (
        "End reservations now, in whatever state they are, and tell their customers why. Everything of them is taken"
        " down as at their end; kept volumes (C3) stay; what was served is billed. One that is over already stays as"
        " it is. This cannot be undone."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add_number(parser, many=True)
        parser.add_argument("--reason", required=True, metavar="TEXT", help="a sentence that the customer reads")
        parser.add_argument("--dry-run", action="store_true", help="only show which ones would be ended")

    def handle(self, *, reservation: list[int], reason: str, dry_run: bool, **options: Any) -> None:
        text = checked_reason(reason)
        rows = rows_of(reservation)
        try:
            clocks.require()
        except clocks.ClockIsOff as problem:
            raise CommandError(str(problem)) from problem
        for row in rows:
            who = f"{row} ({row.service.name} of {row.workspace}, {row.state} on {row.node_name})"
            if not row.is_live or row.state == "ending":
                self.stdout.write(f"{who} is {'ending' if row.is_live else 'over'} already; nothing is changed.")
            elif dry_run:
                self.stdout.write(f"{who} would be ended.")
            elif actions.end(reservation=row, text=f"Ended by an operator: {text}", by=BY, now=timezone.now()):
                self.stdout.write(f"{who} is being ended.")
            else:
                self.stdout.write(f"{who} was ended by somebody else in this moment.")
