"""What cordon and uncordon have in common."""

from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandError, CommandParser

from compute import actions
from compute.models import Node


class NodeStateCommand(BaseCommand):
    state: ClassVar[Node.State]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("node", nargs="+", metavar="NODE", help="names of nodes")

    def handle(self, *, node: list[str], **options: Any) -> None:
        rows = list(Node.objects.present().filter(name__in=node))
        if unknown := set(node) - {row.name for row in rows}:
            raise CommandError(f"There is no node {', '.join(sorted(unknown))}.")
        for row in rows:
            actions.set_node_state(node=row, state=self.state, by=f"manage.py {self.__module__.rsplit('.', 1)[-1]}")
            held = row.allocations.held().count()
            self.stdout.write(f"{row.name} is {self.state}; {held} reservations are on it.")
