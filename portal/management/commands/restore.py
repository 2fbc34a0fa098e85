"""manage.py restore BACKUP"""

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError

from portal.backup import manifest, restoring
from portal.backup.manifest import Manifest, StoredVolume
from portal.backup.restoring import CannotRestore, Outcome
from portal.management.progress import Progress

NEXT = """\
Next (docs/backup.md):
1. Start web, worker, beat and live. The workers end what is over by the rows, start what should run, and repair the
   gateway.
2. manage.py doctor says what machines and rows do not agree about.
3. manage.py quarantine shows containers that are newer than the backup: they were stopped and are kept. Look into them,
   then remove them. Images of volumes that are newer than the backup stay, too; doctor names them.
4. manage.py audit_ledger checks the books. What was booked, paid or changed after {made_at} is not in them.\
"""


class Command(BaseCommand):
    help = (
        "Restore a backup that manage.py backup made: its database into an empty one (createdb, with or without"
        " migrate), and its kept volumes to their storage servers, where no image is ever overwritten. Stop web,"
        " worker, beat and live before. A backup of an older version is brought up to this one."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("backup", type=Path, help="the folder of the backup")
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--no-volumes", action="store_true", help="the database only")
        what.add_argument(
            "--only-volumes", action="store_true", help="volumes only, when the database was restored before"
        )
        parser.add_argument("--volume", action="append", metavar="NAME", help="of the volumes only this one; again…")
        parser.add_argument(
            "--other-secret-key", action="store_true", help="although SECRET_KEY is another: what it sealed is lost"
        )

    def handle(self, **options: Any) -> None:
        progress = Progress(self.stdout, sys.stdout.isatty())
        only_volumes = options["only_volumes"]
        try:
            folder = manifest.find(options["backup"].absolute())
            progress.tell("checking the backup")
            found = restoring.check(folder, other_key=options["other_secret_key"], only_volumes=only_volumes)
            wanted = [] if options["no_volumes"] else self._chosen(found, options["volume"])
            if not only_volumes:
                newer = restoring.restore_database(folder, found)
                progress.say(
                    f"database: {sum(found.tables.values())} rows, as of {found.made_at:%Y-%m-%d %H:%M:%S} UTC"
                )
                if newer:
                    progress.say(f"database: {newer} newer migrations were applied")
        except (manifest.NotABackup, CannotRestore) as problem:
            raise CommandError(str(problem)) from problem
        except OperationalError as problem:
            raise CommandError(f"The database cannot be reached: {problem}") from problem
        outcome = restoring.restore_volumes(folder, wanted, progress.say, progress.tell)
        self._tell(found, outcome, options)

    def _chosen(self, found: Manifest, names: list[str] | None) -> list[StoredVolume]:
        if names is None:
            return found.volumes
        chosen = []
        for name in names:
            of_it = [v for v in found.volumes if name in {f"vol-{v.number}", v.name, f"{v.workspace}/{v.name}"}]
            if not of_it:
                raise CannotRestore(f"The backup has no volume {name!r}.")
            chosen += of_it
        return chosen

    def _tell(self, found: Manifest, outcome: Outcome, options: dict[str, Any]) -> None:
        for left in found.left_out:
            self.stdout.write(f"vol-{left.number} ({left.workspace}/{left.name}) is not in this backup: {left.why}")
        if not options["only_volumes"]:
            self.stdout.write("\n" + NEXT.format(made_at=f"{found.made_at:%Y-%m-%d %H:%M} UTC"))
        if outcome.failed:
            raise CommandError(
                f"{len(outcome.failed)} volumes were not restored. When their storage server answers (add_storage gives"
                f" it another address): manage.py restore {options['backup']} --only-volumes"
            )
