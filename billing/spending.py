"""This month in figures: spent, held, the forecast; and the mails that tell how much of a budget is spent."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.core.mail import EmailMessage
from django.template.loader import render_to_string

from accounts.models import Role
from billing import ledger, months, pricing, tariffs, usage
from billing.models import BillingAccount, BudgetNotice, LedgerEntry
from billing.pricing import NOTHING, Interval, Size, Terms
from reservations.models import Reservation, WorkspaceVolume

logger = logging.getLogger(__name__)
STEPS_PERCENT = (50, 80, 100)
TRY_FOR = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class Spending:
    """A month's money before tax. `forecast` is what it comes to if all that is booked is served to its end."""

    month: date
    charged: Decimal  # in the ledger
    accrued: Decimal  # served, and not in the ledger yet
    to_come: Decimal  # booked for the rest of the month

    @property
    def spent(self) -> Decimal:
        return self.charged + self.accrued

    @property
    def forecast(self) -> Decimal:
        return self.spent + self.to_come


@dataclass(frozen=True, slots=True)
class Accrual:
    """What a reservation or a kept volume adds to a month, as far as the ledger does not have it yet."""

    of: Reservation | WorkspaceVolume
    size: Size
    terms: Terms
    booked: list[Interval]  # what is served, and what is booked from now on
    served: timedelta  # in this month until now
    so_far: Decimal
    at_end: Decimal


def spending(account: BillingAccount, month: date, now: datetime, found: list[Accrual] | None = None) -> Spending:
    """What a month has cost until `now` and will have cost at its end; `found` are its accruals if they are known."""
    entries = ledger.of_account(account).usage().filter(month=month)
    accrued = to_come = NOTHING
    for accrual in accruals(account, month, now) if found is None else found:
        accrued += accrual.so_far
        to_come += max(accrual.at_end - accrual.so_far, NOTHING)
    return Spending(month, entries.total(), accrued, to_come)


def accruals(account: BillingAccount, month: date, now: datetime) -> list[Accrual]:
    """Whatever costs something in the month and is not in the ledger for it, in a constant number of queries."""
    return [*_of_reservations(account, month, now), *accrued_volumes(account, month, now)]


def _of_reservations(account: BillingAccount, month: date, now: datetime) -> Iterator[Accrual]:
    """Each that is not settled: what it has cost in this month, and what it will have."""
    start, end = months.stretch(month, account.zone)
    rows = Reservation.objects.filter(workspace=account.workspace_id, start__lt=end, end__gt=start)
    unsettled = list(usage.unsettled(rows))
    charges = LedgerEntry.objects.filter(reservation__in=unsettled, kind=LedgerEntry.Kind.CHARGE, month=month)
    charged = set(charges.values_list("reservation", flat=True))
    for row in unsettled:
        if row.pk in charged:
            continue
        served = usage.served(row, now)
        booked = served if row.state in usage.OVER else [*served, *_left(row, now)]
        size, terms = usage.size_of(row), usage.terms_of(row)
        so_far = pricing.cost(served, size, terms, end) - pricing.cost(served, size, terms, start)
        at_end = pricing.cost(booked, size, terms, end) - pricing.cost(booked, size, terms, start)
        yield Accrual(row, size, terms, booked, so_far.served, so_far.amount, at_end.amount)


def _left(row: Reservation, now: datetime) -> list[Interval]:
    """What is booked from now on."""
    opens = max(now, row.start)
    return [(opens, row.end)] if opens < row.end else []


def accrued_volumes(account: BillingAccount, month: date, now: datetime) -> Iterator[Accrual]:
    """Each kept volume that is not charged for this month: its cost until now, and until the month's end."""
    start, end = months.stretch(month, account.zone)
    terms = tariffs.terms_for(account.workspace_id, start, end)
    if not any(price.per_gb_month for price in terms.prices):
        return
    charges = LedgerEntry.objects.filter(kind=LedgerEntry.Kind.CHARGE, month=month, volume__isnull=False)
    volumes = WorkspaceVolume.objects.filter(workspace=account.workspace_id).select_related("volume", "service")
    for volume in volumes.exclude(pk__in=charges.values("volume")).exclude(deleted_at__lte=start):
        size = Size(Decimal(0), 0, volume.volume.size_gb)
        kept = usage.kept_during(volume, start, end)
        at_end = pricing.cost(kept, size, terms)
        so_far = pricing.cost(usage.kept_during(volume, start, min(max(now, start), end)), size, terms)
        yield Accrual(volume, size, terms, kept, so_far.served, so_far.amount, at_end.amount)


def note_budgets(now: datetime) -> int:
    """Note for every budget of which another step is spent, and send what was noted; returns how many went out."""
    for account in BillingAccount.objects.exclude(monthly_budget=None).select_related("workspace"):
        this = months.month_of(now, account.zone)
        try:
            # The month before too until it is closed: what was spent in its last minute, or is charged for it late.
            if account.closed_through is None or account.closed_through < months.previous(this):
                _note(account, months.previous(this), now)
            _note(account, this, now)
        except Exception:  # logged whole; no other workspace has to do without its mails
            logger.exception("how much of its budget %s has spent could not be found", account)
    return send_notices(now)


def _note(account: BillingAccount, month: date, now: datetime) -> None:
    spent, budget = spending(account, month, now).spent, account.monthly_budget or NOTHING
    reached = [percent for percent in STEPS_PERCENT if spent >= budget * percent / 100]
    for percent in reached:
        BudgetNotice.objects.get_or_create(
            account=account, month=month, percent=percent, budget=budget, defaults={"spent": spent, "noted_at": now}
        )


def send_notices(now: datetime) -> int:
    """Send what was noted and not sent: of one account and month the highest step only. A failed one is repeated."""
    sent = 0
    due = BudgetNotice.objects.filter(sent_at=None, noted_at__gt=now - TRY_FOR).order_by("-percent")
    told: set[tuple[int, date]] = set()
    for notice in due.select_related("account__workspace"):
        name = (notice.account_id, notice.month)
        if name not in told:
            try:
                _send(notice)
            except OSError as problem:  # the mail server: a later round tries again
                logger.warning("the mail about %s could not be sent: %s", notice, problem)
                continue
            sent += 1
        told.add(name)
        BudgetNotice.objects.filter(pk=notice.pk).update(sent_at=now)
    return sent


def _send(notice: BudgetNotice) -> None:
    account = notice.account
    context = {"notice": notice, "account": account, "url": f"{settings.BERTH_BASE_URL}/billing/"}
    subject = f"[Berth] {notice.percent} % of the budget for {notice.month:%B %Y} is spent"
    to = recipients(account)
    if to:
        EmailMessage(subject, render_to_string("billing/email/budget.txt", context), to=to).send()


def recipients(account: BillingAccount) -> list[str]:
    """Where mails about money go: the account's address, else its owners'."""
    if account.email:
        return [account.email]
    owners = account.workspace.memberships.filter(role=Role.OWNER, user__is_active=True).exclude(user__email="")
    return list(owners.order_by("pk").values_list("user__email", flat=True))
