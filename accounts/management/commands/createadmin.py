"""manage.py createadmin"""

import os
import secrets
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts import actions
from accounts.models import User


class Command(BaseCommand):
    help = (
        "Make the first admin. The password is BERTH_ADMIN_PASSWORD, or a random one that is printed this once. "
        "Running it again changes nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--username", default="admin", help="the name to log in with (default: admin)")
        parser.add_argument("--password-file", type=Path, help="also keep the password in this file (mode 600)")

    def handle(self, *, username: str, password_file: Path | None, **options: Any) -> None:
        if User.objects.filter(username__iexact=username).exists():
            self.stdout.write(f"The user {username} exists already; nothing changed.")
            return
        password = os.environ.get("BERTH_ADMIN_PASSWORD") or secrets.token_urlsafe(12)
        if len(password) < 8:
            raise CommandError("BERTH_ADMIN_PASSWORD must have at least 8 characters.")
        if password_file:
            password_file.unlink(missing_ok=True)
            with open(os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(password + "\n")
        actions.create_admin(username=username, password=password, by="manage.py createadmin")
        self.stdout.write(f"Made the admin {username}, password: {password}")
