"""manage.py backup FOLDER | --verify BACKUP"""

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from compute.freezing import MOST_S
from portal.backup import making, manifest
from portal.backup.making import CannotBackUp, Wish, readable
from portal.management.progress import Progress

NOT_ALL = 2


class Command(BaseCommand):
    help = (
        "Back up the database and the volumes that customers keep (C3) into a new folder berth-… below FOLDER, which"
        " only its owner may read. SECRET_KEY, the portal's keys and certificates are not in it: keep /etc/berth, too"
        " (docs/backup.md). Exits 1 when there is no backup, 2 when some volume is not in it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path, help="where backups are kept; with --verify a backup")
        parser.add_argument("--verify", action="store_true", help="make none: check that this one is whole")
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--no-volumes", action="store_true", help="the database only")
        what.add_argument("--volume", action="append", metavar="NAME", help="vol-7, NAME or WORKSPACE/NAME; again…")
        parser.add_argument(
            "--freeze",
            type=int,
            default=making.FREEZE_S,
            metavar="SECONDS",
            help="hold the writes of a volume in use for so long at most while it is copied; what takes longer is left"
            f" out. 0 leaves out all that is in use, {MOST_S} is the most. Default: %(default)s",
        )
        parser.add_argument("--keep", type=int, metavar="N", help="then remove all but the newest N backups in FOLDER")

    def handle(self, **options: Any) -> None:
        folder = options["folder"].absolute()
        if options["verify"]:
            self._verify(folder)
            return
        if not 0 <= options["freeze"] <= MOST_S:
            raise CommandError(f"--freeze is 0 to {MOST_S} seconds.")
        if options["keep"] is not None and options["keep"] < 1:
            raise CommandError("--keep is 1 or more.")
        volumes = [] if options["no_volumes"] else options["volume"]
        progress = Progress(self.stdout, sys.stdout.isatty())
        wish = Wish(folder, volumes, options["freeze"], options["keep"])
        try:
            path, made, removed = making.make(wish, timezone.now(), progress.say, progress.tell)
        except CannotBackUp as problem:
            raise CommandError(f"No backup was made: {problem}") from problem
        for older in removed:
            self.stdout.write(f"{older.name} was removed.")
        self.stdout.write(f"{path}: {readable(made.bytes)}, {len(made.volumes)} volumes.")
        if made.left_out:
            raise CommandError(f"{len(made.left_out)} volumes are not in it, as said above.", returncode=NOT_ALL)

    def _verify(self, path: Path) -> None:
        try:
            folder = manifest.find(path)
            found = manifest.read(folder)
        except manifest.NotABackup as problem:
            raise CommandError(str(problem)) from None
        if wrong := manifest.verify(folder, found):
            raise CommandError("The backup is not whole.\n" + "\n".join(wrong))
        rows = sum(found.tables.values())
        self.stdout.write(
            f"{folder.name} is whole: of {found.made_at:%Y-%m-%d %H:%M} UTC, {rows} rows, {len(found.volumes)} volumes,"
            f" {readable(found.bytes)}."
        )
        for left in found.left_out:
            self.stdout.write(f"not in it: vol-{left.number} ({left.workspace}/{left.name}): {left.why}")
        if manifest.key_differs(found):
            self.stdout.write("It was made with another SECRET_KEY than this portal has.")
