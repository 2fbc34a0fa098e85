"""manage.py move RESERVATION [--to NODE]"""

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from compute import clocks
from compute.models import Node
from reservations import relocation, starting
from reservations.management.numbered import add_number, reservation_of
from reservations.models import Reservation

WAIT_S = 15.0  # for a worker that has it in its hands
BY = "manage.py move"


class Command(BaseCommand):
    help = (
        "Start a reservation on another node, at the same address: its old container is ended and removed, a new one"
        " takes over, and its remote volume comes along. Customers read that it was moved. It is away for some"
        " seconds, which are not billed. Refused, with the reason, when its data is on its node's own disk, when no"
        " other node has room, or when it is over. The workers do the work; manage.py reservations shows how far it is."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add_number(parser)
        parser.add_argument("--to", metavar="NODE", help="the node that it should come to (default: the emptiest)")
        parser.add_argument(
            "--lose-local-data",
            action="store_true",
            help="move it even if its volume is on its node's own disk (C1): what is in that is lost",
        )
        parser.add_argument("--dry-run", action="store_true", help="only say whether it would be refused, and why")

    def handle(self, *, reservation: int, to: str | None, lose_local_data: bool, dry_run: bool, **options: Any) -> None:
        row = reservation_of(reservation)
        target = Node.objects.present().select_related("gateway").filter(name=to).first() if to else None
        if to and target is None:
            raise CommandError(f"There is no node {to!r}.")
        try:
            if dry_run:
                self._say_what_would_be(row, target, lose_local_data)
                return
            node = self._move(row, target, lose_local_data)
        except (relocation.CannotMove, clocks.ClockIsOff) as problem:
            raise CommandError(f"Reservation {row} is not moved. {problem}") from problem
        self.stdout.write(f"{row} moves from {row.node_name} to {node.name}.")

    def _say_what_would_be(self, row: Reservation, to: Node | None, lose_local_data: bool) -> None:
        container = starting.container_of(row)
        why_not = relocation.refusal(row, container, to=to, lose_local_data=lose_local_data, now=timezone.now())
        if why_not:
            raise relocation.CannotMove(why_not)
        place = relocation.place_for(row, container, to, timezone.now())
        self.stdout.write(f"{row} would move from {container.node.name} to {place}. Nothing was changed.")

    def _move(self, row: Reservation, to: Node | None, lose_local_data: bool) -> Node:
        until = time.monotonic() + WAIT_S
        while True:
            try:
                return relocation.relocate(
                    reservation=row, to=to, lose_local_data=lose_local_data, by=BY, now=timezone.now()
                )
            except relocation.Busy:
                if time.monotonic() >= until:
                    raise
                time.sleep(0.2)
