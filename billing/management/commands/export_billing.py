"""manage.py export_billing"""

import os
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from billing import exports, months
from billing.exports import Table
from billing.forms import parse_month
from billing.models import Invoice, InvoiceLine, LedgerEntry, Payment


class Command(BaseCommand):
    help = (
        "Write a month of all workspaces as CSV, for the accountant: invoices.csv and lines.csv (the invoices for that"
        " month, wherever they were issued), payments.csv (received in it) and ledger.csv (the entries that belong to"
        " it). Files of these names in the folder are replaced; only their owner can read them."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--month", metavar="2026-05", required=True, help="the month, as 2026-05")
        parser.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="made if it is not there")

    def handle(self, *, month: str, out: Path, **options: Any) -> None:
        try:
            first = parse_month(month)
        except ValueError:
            raise CommandError(f"{month!r} is not a month such as 2026-05.") from None
        after = months.following(first)
        tables = {
            "invoices": exports.invoices(Invoice.objects.filter(month=first), timezone.localdate()),
            "lines": exports.invoice_lines(InvoiceLine.objects.filter(invoice__month=first)),
            "payments": exports.payments(Payment.objects.filter(received_on__gte=first, received_on__lt=after)),
            "ledger": exports.ledger(LedgerEntry.objects.filter(month=first)),
        }
        try:
            out.mkdir(parents=True, exist_ok=True)
            for name, table in tables.items():
                self.stdout.write(f"{out / name}.csv: {_write(out / f'{name}.csv', table)} rows")
        except OSError as problem:
            raise CommandError(f"The files cannot be written: {problem}") from problem


def _write(path: Path, table: Table) -> int:
    """Whole or not at all; returns how many rows there are."""
    count = 0

    def counted() -> Any:
        nonlocal count
        for row in table.rows:
            count += 1
            yield row

    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    opened = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(opened, "w", encoding="utf-8", newline="") as file:
        file.writelines(exports.text_of(Table(table.header, counted())))
    beside.replace(path)
    return count
