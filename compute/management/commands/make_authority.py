"""manage.py make_authority"""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.utils import timezone

from compute import audit, authority
from compute.authority import Authority

BY = "manage.py make_authority"


class Command(BaseCommand):
    help = (
        "Make an authority for the engines' certificates (ca.pem and ca-key.pem) where there is none, and by it the"
        " portal's own certificate in BERTH_TLS_DIR where there is none. What is there is never replaced. Keep"
        " ca-key.pem safe: whoever has it is root on every node. Only enrol_node and renew_certificate need it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--ca", type=Path, metavar="FOLDER", help="where the authority is to be (default: BERTH_CA_DIR)"
        )
        parser.add_argument("--dry-run", action="store_true", help="only say what would be made")

    def handle(self, *, ca: Path | None, dry_run: bool, **options: Any) -> None:
        folder, tls_dir = ca or settings.BERTH_CA_DIR, settings.BERTH_TLS_DIR
        if folder is None:
            raise CommandError("Say where: set BERTH_CA_DIR, or say --ca FOLDER.")
        if tls_dir is None:
            raise CommandError("BERTH_TLS_DIR must be set: the portal's own certificate belongs there.")
        made = []
        try:
            if not (folder / "ca.pem").exists():
                made.append(f"an authority in {folder}")
                authority.nothing_there(folder, "ca-key.pem")
                if not dry_run:
                    authority.make(folder, now=timezone.now())
            if not (tls_dir / "ca.pem").exists():
                made.append(f"the portal's own certificate in {tls_dir}")
                authority.nothing_there(tls_dir, "cert.pem", "key.pem")
                if not dry_run:
                    Authority(folder).check(timezone.now())
                    Authority(folder).issue_client(tls_dir, name="berth portal", now=timezone.now())
            if not (dry_run and made):
                authority.check_client(tls_dir, Authority(folder), timezone.now())
        except (OSError, authority.Unusable) as problem:
            raise CommandError(f"{problem}.") from problem
        if made and not dry_run:
            with transaction.atomic(durable=True):
                audit.record(by=BY, action="authority.make", target="tls", made=made)
        for what in made:
            self.stdout.write(f"{'Would make' if dry_run else 'Made'} {what}.")
        if not made:
            self.stdout.write(f"There is an authority in {folder} and a certificate in {tls_dir}; nothing was changed.")
