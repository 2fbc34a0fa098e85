"""manage.py states"""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from reservations import states


class Command(BaseCommand):
    help = "Print the table of states as docs/states.md, write it, or compare it with the file."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--write", action="store_true", help="write docs/states.md")
        parser.add_argument("--check", action="store_true", help="exit 1 if docs/states.md is not of today's table")

    def handle(self, *, write: bool, check: bool, **options: Any) -> None:
        path = settings.BASE_DIR / "docs/states.md"
        if write:
            path.write_text(states.diagram())
        elif check:
            if not path.exists() or path.read_text() != states.diagram():
                raise CommandError("docs/states.md is out of date: run manage.py states --write")
        else:
            self.stdout.write(states.diagram())
