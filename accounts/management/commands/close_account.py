"""manage.py close_account USERNAME [--yes]"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from accounts import closing
from accounts.models import User

BY = "manage.py close_account"


class Command(BaseCommand):
    help = (
        "Delete somebody's account, as they can themselves: what runs ends and is billed up to now, kept volumes,"
        " tokens, keys and log-ins go, and the user name is free. Bills and the audit log stay. Without --yes it only"
        " tells what would happen. This cannot be undone. Make sure first that it is really them who asks."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username", help="user name")
        parser.add_argument("--yes", action="store_true", help="do it")

    def handle(self, *, username: str, yes: bool, **options: Any) -> None:
        user = User.objects.filter(username__iexact=username).first() if "\0" not in username else None
        if user is None:
            raise CommandError(f"There is no user {username!r}.")
        name, now = user.username, timezone.now()
        if not yes:
            found = closing.plan(user=user, now=now)
            self._show(f"{name} would be deleted. What would end:", found)
            if found.refusals:
                raise CommandError(" ".join(refusal.sentence for refusal in found.refusals))
            self.stdout.write("Nothing is changed. With --yes it is done.")
            return
        try:
            done = closing.close_account(user=user, by=BY, now=now)
        except closing.CannotClose as problem:
            raise CommandError(str(problem)) from problem
        self._show(f"{name} is deleted. What ended:", done)

    def _show(self, headline: str, found: closing.Plan) -> None:
        self.stdout.write(headline)
        for fate in found.ending:
            self.stdout.write(f"  {fate.title}{': ' if fate.names else ''}{', '.join(fate.names)}")
        self.stdout.write("What stays:")
        for fate in found.staying:
            self.stdout.write(f"  {fate.title}: {fate.text}")
