"""manage.py restart_reservation RESERVATION --reason TEXT"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from reservations import restarting
from reservations.management.numbered import add_number, checked_reason, rows_of

BY = "manage.py restart_reservation"


class Command(BaseCommand):
    help = (
        "Stop the containers of reservations that run and start them again where they are: address, place and volume"
        " stay. Customers read why. What they are down is not billed. Exits 1 if one does not run."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add_number(parser, many=True)
        parser.add_argument("--reason", required=True, metavar="TEXT", help="a sentence that the customer reads")
        parser.add_argument("--dry-run", action="store_true", help="only show which ones would be restarted")

    def handle(self, *, reservation: list[int], reason: str, dry_run: bool, **options: Any) -> None:
        text = checked_reason(reason)
        problems = []
        for row in rows_of(reservation):
            where = f"{row} on {row.node_name}"
            if dry_run and row.state == "running" and row.wish == "run":
                self.stdout.write(f"{where} would be restarted.")
                continue
            try:
                if dry_run:
                    raise restarting.CannotRestart(f"Reservation {row.pk} does not run: {row.state_sentence}")
                restarting.restart(reservation=row, by=BY, reason=text, now=timezone.now())
            except restarting.CannotRestart as problem:
                problems.append(str(problem))
                continue
            self.stdout.write(f"{where} is being restarted.")
        if problems:
            raise CommandError("\n".join(problems))
