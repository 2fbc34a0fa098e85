"""manage.py alerts"""

import json
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from monitoring import heartbeats
from monitoring.alerts import delivering, incidents, wording
from monitoring.models import Delivery, Incident

MOST = 1000
NOBODY = (
    "Nobody hears of alerts: no superuser has an e-mail address, and neither BERTH_ALERT_MAIL nor BERTH_ALERT_WEBHOOK"
    " is set."
)


class Command(BaseCommand):
    help = (
        "List what is wrong and was told. Exits 1 when something critical is open or nobody looks for what is wrong, or"
        " when a test message could not be sent or has nobody to go to."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", dest="as_json", help="for programs")
        parser.add_argument(
            "--all", action="store_true", dest="also_closed", help=f"what is over, too (the last {MOST})"
        )
        parser.add_argument("--test", action="store_true", help="send a test message to everybody who is told")

    def handle(self, *, as_json: bool, also_closed: bool, test: bool, **options: Any) -> None:
        if test:
            self._test()
            return
        rows, watch = incidents.open_now(), heartbeats.watch(timezone.now())
        over = list(Incident.objects.exclude(closed_at=None).order_by("-closed_at")[:MOST]) if also_closed else []
        if not watch.is_kept:
            self.stderr.write(_unwatched(watch.last))
        if as_json:
            self.stdout.write(json.dumps([_as_json(row) for row in [*rows, *over]], indent=2))
        else:
            self._print(rows, over, is_watched=watch.is_kept)
        if not watch.is_kept or any(row.severity == Incident.Severity.CRITICAL for row in rows):
            raise SystemExit(1)

    def _print(self, rows: list[Incident], over: list[Incident], *, is_watched: bool) -> None:
        for row in rows:
            who = f", {row.acknowledged_by or 'somebody'} looks after it" if row.acknowledged_at else ""
            self.stdout.write(
                f"{row.severity:<8}  {incidents.title(row)}, since {wording.moment(row.first_seen_at)}{who}"
            )
            self.stdout.write("".join(f"          {line}\n" for line in (row.sentence, row.mend) if line).rstrip())
        if not rows and is_watched:
            self.stdout.write("Nothing is wrong that Berth knows of.")
        for row in over:
            lasted = wording.in_words((row.closed_at or row.last_seen_at) - row.first_seen_at)
            self.stdout.write(f"over      {incidents.title(row)}, {wording.moment(row.first_seen_at)}, for {lasted}")
        waiting = Delivery.objects.filter(sent_at=None).exclude(problem="").count()
        if waiting:
            self.stdout.write(f"{waiting} messages were not sent: see {delivering.page()}")
        if not delivering.places():
            self.stdout.write(NOBODY)

    def _test(self) -> None:
        answers = delivering.test(now=timezone.now())
        for place, problem in answers:
            self.stdout.write(f"{place.channel} to {place.recipient}: {problem or 'sent'}")
        if not answers:
            self.stdout.write(NOBODY)
        if not answers or any(problem for _, problem in answers):
            raise SystemExit(1)


def _unwatched(last: datetime | None) -> str:
    since = f" since {wording.moment(last)}" if last else ""
    return (
        f"Nobody looks for what is wrong{since}: what is new is not here, and nobody is told. See that a worker and the"
        " beat run."
    )


def _as_json(row: Incident) -> dict[str, Any]:
    times = {
        name: at.isoformat() if at else None
        for name, at in (
            ("first_seen_at", row.first_seen_at),
            ("last_seen_at", row.last_seen_at),
            ("opened_at", row.opened_at),
            ("closed_at", row.closed_at),
            ("acknowledged_at", row.acknowledged_at),
        )
    }
    return {
        "id": row.pk,
        "kind": row.kind,
        "severity": row.severity,
        "subject": row.subject,
        "name": row.name,
        "title": incidents.title(row),
        "sentence": row.sentence,
        "mend": row.mend,
        "note": row.note,
        **times,
    }
