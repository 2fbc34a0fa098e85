"""Checks at the start (every start migrates, and that runs them): the currency may not change under open accounts."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.db import connection
from django.db.models import Sum

from billing.models import BillingAccount, Invoice, LedgerEntry
from reservations.models import Reservation


def currency_of_what_is_open(app_configs: Any, databases: Any = None, **options: Any) -> list[CheckMessage]:
    """One error when something in another currency is still open: an invoice, an uneven account, a booking."""
    if not databases or BillingAccount._meta.db_table not in connection.introspection.table_names():
        return []
    found = _first_open()
    if not found:
        return []
    return [
        Error(
            f"BERTH_CURRENCY is {settings.BERTH_CURRENCY}, but {found}.",
            hint="Set it back, and settle what is open before you change it.",
            id="billing.E001",
        )
    ]


def _first_open() -> str:
    """It runs before what is to be migrated is: only columns that have always been there are asked for."""
    others = Invoice.objects.exclude(currency=settings.BERTH_CURRENCY).only("number", "total", "currency")
    if invoice := others.open().first():
        return f"invoice {invoice.number} over {invoice.total} {invoice.currency} is not paid"
    entries = LedgerEntry.objects.exclude(currency=settings.BERTH_CURRENCY).order_by("workspace__name", "currency")
    uneven = entries.values("workspace__name", "currency").annotate(total=Sum("amount")).exclude(total=0).first()
    if uneven:
        return f"the account of {uneven['workspace__name']} is not even ({uneven['total']} {uneven['currency']})"
    usage = entries.usage().filter(line=None).select_related("workspace")
    if entry := usage.only("amount", "currency", "workspace__name").first():
        return f"{entry.amount} {entry.currency} of {entry.workspace} are on no invoice yet"
    unsettled = Reservation.objects.filter(settled_at=None).exclude(terms__currency=settings.BERTH_CURRENCY)
    booked = unsettled.select_related("service").only("name", "terms", "service__name").first()
    return f"reservation {booked} was booked in {booked.terms.get('currency')} and is not charged yet" if booked else ""
