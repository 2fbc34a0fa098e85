"""manage.py add_storage"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from compute import actions
from compute.models import StorageServer


class Command(BaseCommand):
    help = "Take a storage server in (reached by sftp), or bring the one of this name up to date."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="what it shall be called")
        parser.add_argument("--ssh", required=True, help="account@address, as portal and nodes reach it")
        parser.add_argument("--path", default="/volumes", help="the folder that sftp shows (default /volumes)")
        parser.add_argument("--capacity-gb", type=int, default=1000, help="what may be promised of it (default 1000)")

    def handle(self, *, name: str, ssh: str, path: str, capacity_gb: int, **options: Any) -> None:
        account, at, address = ssh.partition("@")
        if not at:
            raise CommandError("--ssh must look like account@address.")
        wanted = StorageServer(name=name, address=address, account=account, path=path, capacity_gb=capacity_gb)
        try:
            row, new = actions.add_storage(server=wanted, by="manage.py add_storage")
        except actions.CannotAdd as problem:
            raise CommandError(str(problem)) from problem
        self.stdout.write(f"Storage server {row.name} {'added' if new else 'is up to date'}: {row.address}.")
