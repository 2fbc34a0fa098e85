"""manage.py rotate_keys"""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from compute import audit, drivers
from compute.key_rotation import NotYet, Rotation
from compute.keys import KeyFiles, Machine
from compute.models import Gateway, Node, StorageServer


class Command(BaseCommand):
    help = (
        "Give the portal a new SSH key (BERTH_SSH_KEY): make it, let it in beside the old one on every gateway, node"
        " and storage server, try it on each, put it in use, and take the old one away. Nothing is switched before"
        " every machine lets the new key in. May be killed at any point and run again. Run it as root or"
        " as the key's owner."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only say what would be done, and who answers")
        parser.add_argument(
            "--keep-old",
            action="store_true",
            help="stop before the old key is taken away, to copy the new one to other machines of the portal first",
        )
        parser.add_argument(
            "--skip", nargs="+", default=[], metavar="NAME", help="machines that are gone; they get no new key"
        )

    def handle(self, *, dry_run: bool, keep_old: bool, skip: list[str], **options: Any) -> None:
        if settings.BERTH_SSH_KEY is None:
            raise CommandError("BERTH_SSH_KEY is not set: there is no key of the portal's own to change.")
        machines = _machines()
        unknown = set(skip) - {machine.name for machine in machines}
        if unknown:
            raise CommandError(f"There is no machine {', '.join(sorted(unknown))}.")
        wanted = [machine for machine in machines if machine.name not in skip]
        rotation = Rotation(KeyFiles(settings.BERTH_SSH_KEY), wanted, drivers.ssh_options(), self.stdout.write)
        try:
            if dry_run:
                rotation.plan()
            else:
                rotation.run(keep_old=keep_old)
                audit.record(
                    by="manage.py rotate_keys", action="keys.rotate", target="ssh", name=str(rotation.files.key)
                )
        except (NotYet, OSError, ValueError) as problem:
            raise CommandError(f"{problem}\nThen run this again.") from problem


def _machines() -> list[Machine]:
    """Each once, by where the portal logs in."""
    found = [Machine(row.name, row.ssh) for row in Gateway.objects.exclude(ssh="")]
    found += [Machine(row.name, row.ssh) for row in Node.objects.present().with_ssh()]
    found += [Machine(row.name, f"{row.account}@{row.address}", True) for row in StorageServer.objects.all()]
    return list({machine.target: machine for machine in reversed(found)}.values())[::-1]
