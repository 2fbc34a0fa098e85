"""What is behind a quote, in the figures that somebody who is choosing wants to know."""

from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from django.conf import settings

from billing import affording, months, pricing
from billing.accounts import account_of
from billing.pricing import NOTHING, Rounding, Size, Terms
from reservations.pricing import Details, Quote, Wanted


def details(wanted: Wanted, quote: Quote, *, kept_gb: int, now: datetime) -> Details:
    """See reservations.pricing.Prices."""
    terms = Terms.from_json(quote.terms)
    account = account_of(wanted.workspace_id)
    budget, left = account.monthly_budget, None
    if budget is not None:
        month = months.month_of(wanted.start, account.zone)
        left = max(budget - affording.commitments(account, now).by_month.get(month, NOTHING), NOTHING)
    return Details(
        per_second=terms.rounding == Rounding.SECOND,
        prices_ram=any(price.per_gib_hour for price in terms.prices),
        prices_storage=bool(wanted.storage_gb) and any(price.per_gb_month for price in terms.prices),
        discount_percent=max(price.discount_percent for price in terms.prices),
        changes=len(terms.prices) > 1,
        kept_per_month=_per_month(kept_gb, terms, wanted.start) if kept_gb else None,
        tax_label=settings.BERTH_TAX_LABEL,
        tax_percent=settings.BERTH_TAX_PERCENT,
        with_tax=affording.with_tax(quote.price),
        budget=budget,
        budget_left=left,
    )


def _per_month(size_gb: int, terms: Terms, at: datetime) -> Decimal:
    """What a whole month of a volume costs at the first of these prices."""
    first = Terms(terms.prices[:1], terms.rounding, terms.zone, terms.currency)
    zone = ZoneInfo(terms.zone)
    whole = months.stretch(months.month_of(at, zone), zone)
    return pricing.cost([whole], Size(Decimal(0), 0, size_gb), first).storage
