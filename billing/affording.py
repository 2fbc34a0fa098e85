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

from billing import ledger, months, pricing, spending, tariffs, usage
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


@dataclass(frozen=True, slots=True)
class Means:
    """What a workspace with a budget or a limit has left, as it was read; `owed` and `untaxed` matter with a limit."""

    account: BillingAccount
    committed: Committed
    owed: Decimal = NOTHING
    untaxed: Decimal = NOTHING

    @classmethod
    def of(cls, account: BillingAccount, now: datetime) -> "Means | None":
        """None when neither a budget stops it nor a limit."""
        if not _stops(account) and account.credit_limit is None:
            return None
        if account.credit_limit is None:
            return cls(account, commitments(account, now))
        entries = ledger.of_account(account)
        # What no invoice has yet, so that its tax is still to come.
        untaxed = entries.usage().filter(line=None).total()
        return cls(account, commitments(account, now), entries.total(), untaxed)

    def refusal(self, added: Mapping[date, Decimal]) -> str:
        """Why so much more by month may not be spent; empty when it may."""
        price = sum(added.values(), NOTHING)
        if self.account.credit_limit is not None and (problem := self._over_limit(price)):
            return problem
        return _over_budget(self.account, self.committed, added) if _stops(self.account) else ""

    def _over_limit(self, price: Decimal) -> str:
        would_owe = self.owed + with_tax(self.untaxed + self.committed.held + price) - self.untaxed
        limit = self.account.credit_limit or NOTHING
        if would_owe <= limit:
            return ""
        left = max(limit - (would_owe - with_tax(price)), NOTHING)
        what = "prepaid credit" if not limit else f"limit of {money(limit)}"
        return (
            f"This costs {money(with_tax(price))}, and {money(left)} of the {what} of {self.account.workspace} is left"
            " after what is booked already."
        )


def refusal(wanted: Wanted, quote: Quote, *, reservation_id: int | None = None, now: datetime) -> str:
    """Why the workspace may not spend this, as a sentence; empty when it may (see reservations.pricing.Prices)."""
    account = account_of(wanted.workspace_id)
    means = Means.of(account, now)
    return means.refusal(_added(account, wanted, quote, reservation_id)) if means else ""


@dataclass(frozen=True, slots=True)
class Prolonged:
    """A booking that would end later, asked about for many ends: everything was read once."""

    wanted: Wanted
    terms: Terms
    means: Means | None
    before: Mapping[date, Decimal]

    @classmethod
    def of(cls, wanted: Wanted, terms: Terms, until: datetime, *, reservation_id: int, now: datetime) -> "Prolonged":
        """`wanted` ends at the latest end that will be asked about; the booking of these terms ends `until`."""
        account = account_of(wanted.workspace_id)
        means, before = Means.of(account, now), {}
        if means:
            row = Reservation.objects.get(pk=reservation_id)
            before = _by_month([(row.start, row.end)], usage.size_of(row), usage.terms_of(row), account)
        return cls(wanted, tariffs.extended(terms, wanted.workspace_id, until, wanted.end), means, before)

    def price(self, end: datetime) -> Decimal:
        return pricing.cost([(self.wanted.start, end)], self._size, self.terms).amount

    def refusal(self, end: datetime) -> str:
        if self.means is None:
            return ""
        parts = _by_month([(self.wanted.start, end)], self._size, self.terms, self.means.account)
        return self.means.refusal({month: amount - self.before.get(month, NOTHING) for month, amount in parts.items()})

    @property
    def _size(self) -> Size:
        return Size(self.wanted.cores, self.wanted.ram_mib, self.wanted.storage_gb)


def _stops(account: BillingAccount) -> bool:
    return account.hard_stop and account.monthly_budget is not None


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
