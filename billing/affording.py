"""Whether a workspace may spend what it asks for: its monthly budget, and how much it may owe.

What is booked is *held* at its full price until it is over; then what it really cost counts.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal

from django.conf import settings
from django.db.models import Q, Sum

from billing import ledger, months, pricing, spending, usage
from billing.accounts import account_of
from billing.models import BillingAccount, LedgerEntry
from billing.pricing import NOTHING, Size, Terms
from billing.spending import Accrual
from reservations.amounts import money
from reservations.models import Reservation
from reservations.pricing import Quote, Wanted


@dataclass(frozen=True, slots=True)
class Committed:
    """What a workspace has spent and what it may still come to, before tax."""

    by_month: Mapping[date, Decimal] = field(default_factory=dict)
    held: Decimal = NOTHING  # of what is booked and not in the ledger yet


def refusal(wanted: Wanted, quote: Quote, *, reservation_id: int | None = None, now: datetime) -> str:
    """Why the workspace may not spend this, as a sentence; empty when it may (see reservations.pricing.Prices)."""
    account = account_of(wanted.workspace_id)
    budgeted = account.hard_stop and account.monthly_budget is not None
    if not budgeted and account.credit_limit is None:
        return ""
    added = _added(account, wanted, quote, reservation_id)
    committed = commitments(account, now)
    if account.credit_limit is not None and (problem := _over_limit(account, committed, sum(added.values(), NOTHING))):
        return problem
    return _over_budget(account, committed, added) if budgeted else ""


def _added(account: BillingAccount, wanted: Wanted, quote: Quote, reservation_id: int | None) -> dict[date, Decimal]:
    """What each month would get beyond what it has: all of a new booking, and the more of an old one."""
    size = Size(wanted.cores, wanted.ram_mib, wanted.storage_gb)
    parts = _by_month([(wanted.start, wanted.end)], size, Terms.from_json(quote.terms), account)
    if reservation_id is None:
        return parts
    row = Reservation.objects.get(pk=reservation_id)
    before = _by_month([(row.start, row.end)], usage.size_of(row), usage.terms_of(row), account)
    return {month: amount - before.get(month, NOTHING) for month, amount in parts.items()}


def commitments(account: BillingAccount, now: datetime, volumes: Iterable[Accrual] | None = None) -> Committed:
    """What is spent and held, with what kept volumes come to in this month; `volumes` is that, if it is known."""
    unsettled = list(usage.unsettled(Reservation.objects.filter(workspace=account.workspace_id)))
    entries = ledger.of_account(account).usage()
    ours = entries.filter(reservation__in=unsettled, kind=LedgerEntry.Kind.CHARGE)
    charged = {(pk, month): amount for pk, month, amount in ours.values_list("reservation", "month", "amount")}
    of_others = entries.exclude(Q(reservation__in=unsettled) & Q(kind=LedgerEntry.Kind.CHARGE))
    by_month = defaultdict(lambda: NOTHING, of_others.order_by().values_list("month").annotate(Sum("amount")))
    held = NOTHING
    for row in unsettled:
        for month, amount in _parts(row, account, now).items():
            if (row.pk, month) in charged:
                by_month[month] += charged[row.pk, month]
            else:
                by_month[month] += amount
                held += amount
    this = months.month_of(now, account.zone)
    for accrual in spending.accrued_volumes(account, this, now) if volumes is None else volumes:
        by_month[this] += accrual.at_end
        held += accrual.at_end
    return Committed(by_month, held)


def with_tax(amount: Decimal) -> Decimal:
    return amount + pricing.percent_of(amount, settings.BERTH_TAX_PERCENT)


def _parts(row: Reservation, account: BillingAccount, now: datetime) -> dict[date, Decimal]:
    intervals = usage.expected(row, now)
    return _by_month(intervals, usage.size_of(row), usage.terms_of(row), account)


def _by_month(
    intervals: list[pricing.Interval], size: Size, terms: Terms, account: BillingAccount
) -> dict[date, Decimal]:
    parts = pricing.by_month(intervals, size, terms, account.zone)
    return {month: part.amount for month, part in parts.items()}


def _over_limit(account: BillingAccount, committed: Committed, price: Decimal) -> str:
    entries = ledger.of_account(account)
    owed = entries.total()
    untaxed = entries.usage().filter(line=None).total()  # what no invoice has yet, so that its tax is still to come
    would_owe = owed + with_tax(untaxed + committed.held + price) - untaxed
    limit = account.credit_limit or NOTHING
    if would_owe <= limit:
        return ""
    left = max(limit - (would_owe - with_tax(price)), NOTHING)
    what = "prepaid credit" if not limit else f"limit of {money(limit)}"
    return (
        f"This costs {money(with_tax(price))}, and {money(left)} of the {what} of {account.workspace} is left"
        " after what is booked already."
    )


def _over_budget(account: BillingAccount, committed: Committed, added: Mapping[date, Decimal]) -> str:
    budget = account.monthly_budget or NOTHING
    for month, amount in added.items():
        spent = committed.by_month.get(month, NOTHING)
        if amount > 0 and spent + amount > budget:
            return (
                f"This costs {money(amount)} in {month:%B %Y}, and {money(max(budget - spent, NOTHING))} of the"
                f" budget of {money(budget)} for {account.workspace} is left after what is booked already."
            )
    return ""
