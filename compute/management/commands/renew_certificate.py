"""manage.py renew_certificate NODE"""

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from compute import actions, authority, certificates
from compute.management import enrolling
from compute.management.spans import span
from compute.models import Node

BY = "manage.py renew_certificate"


class Command(BaseCommand):
    help = (
        "Give the engines of nodes new keys and certificates, signed by the authority, and restart them: each key is"
        " made on its node and stays there. A restart ends the containers of an engine without live-restore, so it"
        " is refused while some run: drain the node first. One after the other; one that was interrupted goes on."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("node", nargs="+", metavar="NODE", help="names of nodes")
        parser.add_argument(
            "--within", type=span, metavar="SPAN", help="only if it ends within so long, as 60d (for a cron job)"
        )
        enrolling.add_engine_arguments(parser)

    def handle(self, *, node: list[str], dry_run: bool, **options: Any) -> None:
        rows = list(Node.objects.present().filter(name__in=node))
        if unknown := set(node) - {row.name for row in rows}:
            raise CommandError(f"There is no node {', '.join(sorted(unknown))}.")
        for row in rows:
            if not row.ssh or not row.engine_url.startswith("tcp://"):
                raise CommandError(f"The engine of {row.name} has no certificate that Berth could renew over SSH.")
        own = enrolling.files()
        try:
            signer = enrolling.authority_of(options["ca"], own)
        except authority.Unusable as problem:
            raise CommandError(str(problem)) from problem
        problems = []
        for row in rows:
            try:
                self._renew(row, own, signer, dry_run, options)
            except enrolling.TROUBLES as problem:
                problems.append(f"{row.name}: {problem}")
        if problems:
            raise CommandError("\n".join(problems))

    def _renew(
        self, row: Node, own: enrolling.Keys, signer: authority.Authority, dry_run: bool, options: dict[str, Any]
    ) -> None:
        ahead: timedelta = options["within"] or timedelta.max  # every certificate ends within that

        def say(line: str) -> None:
            self.stdout.write(f"{row.name}: {line}")

        with enrolling.trusted(row.ssh, "", own, say, dry_run=dry_run) as ssh:
            if ssh is None:
                return
            with enrolling.logged_in(row.name, row.ssh, None, ssh, own, say, dry_run=dry_run) as (host, _):
                wishes = enrolling.EngineWishes.of(options)
                steps = enrolling.steps_on(host, row, signer, wishes, say, renew_before=ahead).run(dry_run=dry_run)
        if dry_run:
            return
        if not steps:
            say("its certificate is good for longer; nothing was changed.")
            return
        expires_at = certificates.engine_expiry(row.engine_url, own.tls_dir)
        Node.objects.filter(pk=row.pk).update(tls_expires_at=expires_at)
        actions.note_enrolled(node=row, steps=steps, by=BY, action="node.renew_certificate")
        say(f"its certificate is good until {expires_at:%Y-%m-%d}." if expires_at else "it has a new certificate.")
