"""manage.py health_report"""

import os
from datetime import UTC
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.validators import validate_email
from django.utils import timezone

from monitoring import report_files, report_mail, report_periods, reports


class Command(BaseCommand):
    help = (
        "Report on a period: availability of each node, starts with p50, p95 and p99, failures, utilisation, customers,"
        " incidents, storage. Times are UTC. Changes nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--since", default="7d", help="7d, 24h, 2w, 2026-11-01 or 2026-11-01T14:00; default 7d")
        parser.add_argument("--until", default="", help="2026-11-08 (up to its end) or with a time; default now")
        parser.add_argument("--format", choices=sorted(report_files.FORMATS), default="html", help="default: html")
        parser.add_argument("--output", type=Path, metavar="FILE", help="write it there; default: print it")
        parser.add_argument("--mail", metavar="ADDRESS", help="mail it instead, as HTML and CSV")

    def handle(self, *, since: str, until: str, output: Path | None, mail: str | None, **options: Any) -> None:
        now = timezone.now()
        try:
            first, last = report_periods.period(since, until, now, UTC)
        except report_periods.NoSuchPeriod as problem:
            raise CommandError(str(problem)) from None
        if mail:
            self._check(mail)
        found = reports.report(first, last, now)
        if mail:
            try:
                report_mail.send(found, mail, mark=f"{first:%Y%m%d%H}.{now:%Y%m%d%H%M%S}")
            except OSError as problem:
                raise CommandError(f"The report could not be mailed to {mail}: {problem}") from problem
            self.stdout.write(f"The report was mailed to {mail}.")
            return
        file = report_files.make(found, options["format"])
        if output is None:
            self.stdout.write(file.text, ending="")
            return
        try:
            half = output.with_name(f".{output.name}.{os.getpid()}")
            half.write_text(file.text, encoding="utf-8", newline="")
            half.replace(output)
        except OSError as problem:
            raise CommandError(f"{output} cannot be written: {problem.strerror}.") from None
        self.stdout.write(f"{output}: {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC.")

    def _check(self, address: str) -> None:
        try:
            validate_email(address)
        except ValidationError:
            raise CommandError(f"{address!r} is no e-mail address.") from None
