"""manage.py reset_mfa USER"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts import actions
from accounts.models import User


class Command(BaseCommand):
    help = (
        "Remove the second factors and recovery codes of somebody who lost them, and log them out everywhere. "
        "Their password stays. Make sure first that it is really them who asks."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", help="user name")

    def handle(self, *, user: str, **options: Any) -> None:
        found = User.objects.filter(username__iexact=user).first()
        if found is None:
            raise CommandError(f"There is no user {user!r}.")
        factors, sessions = actions.reset_second_factors(user=found, by="manage.py reset_mfa")
        if not factors:
            self.stdout.write(f"{found} had no second factor. Sessions ended: {sessions}.")
            return
        self.stdout.write(f"Second factors of {found} removed: {factors}. Sessions ended: {sessions}.")
        self.stdout.write("A new one is set up under Account, Two-step log-in.")
