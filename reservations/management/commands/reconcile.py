"""manage.py reconcile"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from compute import clocks, forwarding
from compute.models import Gateway, Node
from compute.shell import CommandFailed, NoAnswer
from reservations import reconcile, watch
from reservations.models import Reservation


class Command(BaseCommand):
    help = (
        "Look at reservations here and now, without the queue: those named, or all that are due; then compare every"
        " node and gateway with the rows and mend what differs. What the workers do anyway."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("reservation", nargs="*", type=int, help="numbers of reservations")

    def handle(self, *, reservation: list[int], **options: Any) -> None:
        try:
            clocks.require()
        except clocks.ClockIsOff as problem:
            raise CommandError(str(problem)) from problem
        now = timezone.now()
        wanted = reservation or list(Reservation.objects.due(now).values_list("pk", flat=True))
        if unknown := set(reservation) - set(
            Reservation.objects.filter(pk__in=reservation).values_list("pk", flat=True)
        ):
            raise CommandError(f"There is no reservation {', '.join(map(str, sorted(unknown)))}.")
        for number in wanted:
            reconcile.reconcile(number)
            row = Reservation.objects.get(pk=number)
            self.stdout.write(f"#{number} {row.state} {row.reason}")
        problems = 0
        for node in Node.objects.present():
            watch.watch(node, timezone.now())
        for gateway in Gateway.objects.all():
            try:
                drift = forwarding.check(gateway, timezone.now())
                self.stdout.write(f"gateway {gateway.name}: {drift} rules differed")
            except (NoAnswer, CommandFailed) as problem:
                problems += 1
                self.stderr.write(f"gateway {gateway.name}: {problem}")
        self.stdout.write(f"{len(wanted)} reservations looked at.")
        if problems:
            raise CommandError(f"{problems} gateways could not be checked.")
