"""manage.py create_token USER"""

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from accounts import actions
from accounts.models import User


class Command(BaseCommand):
    help = "Make an API token for a user and print it. It is kept hashed only, so this is the one time to see it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", help="user name")
        parser.add_argument("--name", default="manage.py", help="what it is for")
        parser.add_argument("--days", type=int, help="days until it expires (default: never)")

    def handle(self, *, user: str, name: str, days: int | None, **options: Any) -> None:
        owner = User.objects.filter(username__iexact=user, is_active=True).first()
        if owner is None:
            raise CommandError(f"There is no active user {user!r}.")
        if days is not None and not 1 <= days <= 3650:
            raise CommandError("--days must be between 1 and 3650.")
        expires_at = timezone.now() + timedelta(days=days) if days else None
        _, secret = actions.create_token(user=owner, name=name, expires_at=expires_at, by="manage.py create_token")
        self.stdout.write(secret)
