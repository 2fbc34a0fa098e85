"""manage.py create_token USER"""

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from accounts import actions
from accounts.models import Scope, User, every_scope

DAYS = 90


class Command(BaseCommand):
    help = "Make an API token for a user and print it. It is kept hashed only, so this is the one time to see it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", help="user name")
        parser.add_argument("--name", default="manage.py", help="what it is for")
        parser.add_argument(
            "--scope",
            action="append",
            choices=Scope.values,
            help="what it may do; give it twice for both (default: everything)",
        )
        longest = actions.LONGEST_TOKEN.days
        until = parser.add_mutually_exclusive_group()
        until.add_argument(
            "--days", type=int, default=DAYS, help=f"good for so many days, 1 to {longest} (default: {DAYS})"
        )
        until.add_argument("--never", action="store_true", help="it never expires; only this command offers that")

    def handle(self, *, user: str, name: str, scope: list[str] | None, days: int, never: bool, **options: Any) -> None:
        owner = User.objects.filter(username__iexact=user, is_active=True).first()
        if owner is None:
            raise CommandError(f"There is no active user {user!r}.")
        if not 1 <= days <= actions.LONGEST_TOKEN.days:
            raise CommandError(f"--days must be between 1 and {actions.LONGEST_TOKEN.days}.")
        try:
            _, secret = actions.create_token(
                user=owner,
                name=name,
                scopes=scope or every_scope(),
                lifetime=None if never else timedelta(days=days),
                now=timezone.now(),
                by="manage.py create_token",
            )
        except actions.BadToken as problem:
            raise CommandError(str(problem)) from None
        self.stdout.write(secret)
