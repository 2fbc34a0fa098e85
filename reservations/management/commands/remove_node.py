"""manage.py remove_node NODE"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from compute import actions, clocks
from compute.models import Node
from reservations import leaving
from reservations.lost import Busy, declare_lost
from reservations.states import PLANNED


class Command(BaseCommand):
    help = (
        "Take a node that nothing is booked on any more out of the fleet (drain it first). With --lost: one that will"
        " never come back; what was on it is ended as failed, its local data is gone, remote volumes are free"
        " again, and what was booked there for later moves to other nodes."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("node", metavar="NODE", help="its name")
        parser.add_argument("--lost", action="store_true", help="its containers are taken to be gone for good")
        parser.add_argument(
            "--dry-run", action="store_true", help="only show what is on it and what would become of it"
        )

    def handle(self, *, node: str, lost: bool, dry_run: bool, **options: Any) -> None:
        row = Node.objects.present().filter(name=node).first()
        if row is None:
            raise CommandError(f"There is no node {node!r}.")
        if lost and row.health == Node.Health.OK:
            raise CommandError(f"The node {node} answers, so it is not lost: drain it, or end what is on it.")
        if dry_run:
            self._show(row, lost)
            return
        if lost:
            try:
                clocks.require()
                ended = declare_lost(node=row, by="manage.py remove_node --lost", now=timezone.now())
            except (Busy, clocks.ClockIsOff) as problem:
                raise CommandError(str(problem)) from problem
            self.stdout.write(f"{ended} reservations of {node} were ended.")
        try:
            actions.remove_node(node=row, by="manage.py remove_node")
        except actions.InUse as problem:
            raise CommandError(str(problem)) from problem
        self.stdout.write(f"The node {node} was removed.")

    def _show(self, row: Node, lost: bool) -> None:
        """Raises CommandError where it would be refused."""
        there = leaving.to_leave().filter(node=row).select_related("reservation__workspace")
        for container in there.order_by("reservation__start", "reservation_id"):
            reservation = container.reservation
            booked = "gets a place elsewhere, or is ended where there is none"
            fate = booked if reservation.state in PLANNED else "is ended as failed"
            self.stdout.write(
                f"{reservation} of {reservation.workspace}, {reservation.state}: {fate if lost else 'is in the way'}"
            )
        if not lost and row.allocations.held().exists():
            raise CommandError(f"The node {row.name} would not be removed: something is on it.")
        self.stdout.write(f"The node {row.name} would be removed. Nothing was changed.")
