"""manage.py mail_invoices"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from billing import mailing
from billing.models import Invoice, InvoiceDocument


class Command(BaseCommand):
    help = (
        "Show the invoices that were not mailed, and why. The worker tries each for about a week; what it has given up,"
        " or what somebody wants once more, is mailed within a minute of --again. Exits 1 if one is given up."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--again", metavar="NUMBER", nargs="+", default=[], help="mail these once more")

    def handle(self, *, again: list[str], **options: Any) -> None:
        now = timezone.now()
        found = {invoice.number: invoice for invoice in Invoice.objects.filter(number__in=again)}
        if missing := [number for number in again if number not in found]:
            raise CommandError(f"There is no invoice {', '.join(missing)}.")
        for invoice in found.values():
            mailing.mail_again(invoice=invoice, by="manage.py", now=now)
            self.stdout.write(f"{invoice} is mailed within a minute.")
        if again:
            return
        rows = InvoiceDocument.objects.filter(mailed_at=None).defer("pdf").select_related("invoice__workspace")
        waiting = list(rows.order_by("invoice__year", "invoice__position"))
        for row in waiting:
            when = f"tried again at {row.try_at:%Y-%m-%d %H:%M} UTC" if row.try_at else "given up"
            self.stdout.write(f"{row.invoice.number:20} {row.invoice.workspace.name:24} {when}  {row.problem}".rstrip())
        if not waiting:
            self.stdout.write("Every invoice was mailed.")
        if any(row.try_at is None for row in waiting):
            raise SystemExit(1)
