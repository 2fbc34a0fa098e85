"""manage.py demo_data"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from billing import demo


class Command(BaseCommand):
    help = (
        "Make demo customers with some past months: bookings, outages, invoices, payments, a credit and a correction,"
        " all by the real actions with past times; the first of them with a team, an open invitation, wishes in the"
        " waiting list, an API token and an SSH key. No machine is asked for anything, nothing is mailed, and what"
        " runs is not touched. The same call again adds nothing twice. Refuses where real customers have booked."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--months", type=int, default=3, metavar="N", help="whole months before this one (3)")
        parser.add_argument("--workspaces", type=int, default=3, metavar="N", help="how many customers (3)")
        parser.add_argument("--seed", type=int, default=1, metavar="N", help="the same makes the same (1)")
        parser.add_argument("--yes", action="store_true", help="also beside real customers")

    def handle(self, *, months: int, workspaces: int, seed: int, yes: bool, **options: Any) -> None:
        if not 1 <= months <= 24 or not 1 <= workspaces <= 100:
            raise CommandError("1 to 24 months and 1 to 100 workspaces can be made.")
        if not yes and (who := demo.real_customers()):
            raise CommandError(f"This installation has real customers: {who} With --yes it is done all the same.")
        try:
            made = demo.make(past=months, workspaces=workspaces, seed=seed, now=timezone.now(), say=self.stdout.write)
        except demo.CannotMake as problem:
            raise CommandError(str(problem)) from problem
        if made.today:
            self.stdout.write(f"demo-chemistry has today: {', '.join(made.today)}.")
        elif not made.reservations and not made.invoices:
            self.stdout.write("All of it is there already; nothing was added.")
            return
        self.stdout.write(
            f"{made.workspaces} customers, {made.reservations} reservations and {made.invoices} invoices were made"
            + (f"; {made.skipped} bookings found no place." if made.skipped else ".")
        )
        self.stdout.write("To look at them: manage.py changepassword demo-chemistry, then log in with that name.")
