"""manage.py remove_node NODE"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from compute import actions
from compute.models import Node


class Command(BaseCommand):
    help = "Forget a node that nothing is booked on any more (drain it first)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("node")

    def handle(self, *, node: str, **options: Any) -> None:
        row = Node.objects.present().filter(name=node).first()
        if row is None:
            raise CommandError(f"There is no node {node!r}.")
        try:
            actions.remove_node(node=row, by="manage.py remove_node")
        except actions.InUse as problem:
            raise CommandError(str(problem)) from problem
        self.stdout.write(f"The node {node} was removed.")
