"""manage.py record_payment INVOICE AMOUNT --reference TEXT"""

from datetime import date
from decimal import Decimal
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from billing import payments
from billing.accounts import account_of
from billing.management import arguments
from billing.models import Invoice, Payment


class Command(BaseCommand):
    help = (
        "Record money that came for an invoice, all of it or a part: record_payment INV-2026-0007 119.00 --reference"
        " 'SEPA 4711'. It is refused when the reference was recorded before, or the amount is more than what is open."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("invoice", help="its number")
        parser.add_argument("amount", type=arguments.decimal, help="in the invoice's currency, such as 119.00")
        parser.add_argument(
            "--reference", required=True, help="what the bank's statement says; it keeps the payment from coming twice"
        )
        parser.add_argument(
            "--method", choices=Payment.Method.values, default="bank", help="how it came (default: bank)"
        )
        parser.add_argument(
            "--received", type=arguments.day, help="the day it came, such as 2026-05-31 (default: today)"
        )
        parser.add_argument("--currency", default="", help="refuse unless the invoice is in it, such as EUR")

    def handle(
        self,
        *,
        invoice: str,
        amount: Decimal,
        reference: str,
        method: str,
        received: date | None,
        currency: str,
        **options: Any,
    ) -> None:
        row = Invoice.objects.select_related("workspace").filter(number=invoice).first()
        if row is None:
            raise CommandError(f"There is no invoice {invoice!r}.")
        now = timezone.now()
        try:
            payments.record_payment(
                invoice=row,
                amount=amount,
                method=method,
                reference=reference,
                received_on=received or now.astimezone(account_of(row.workspace_id).zone).date(),
                by="manage.py record_payment",
                now=now,
                currency=currency,
            )
        except payments.Refused as problem:
            raise CommandError(str(problem)) from None
        self.stdout.write(f"Recorded. {payments.open_amount(row)} {row.currency} of {row} are open.")
