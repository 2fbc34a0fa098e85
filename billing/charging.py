"""Enters into the ledger what was served: each reservation when it is over, and everything else when a month is closed.

A reservation is charged by month. What a month's entry has to be is the difference of two sums: what was served until
the month's end costs in all, less what was charged of it already. So entries add up to the whole, to the cent.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal

from django.db import transaction
from django.db.models import Min

from billing import ledger, months, pricing, tariffs, usage
from billing.accounts import lock
from billing.models import BillingAccount, DailyCost, LedgerEntry
from billing.pricing import NOTHING, Cost, Interval, Size, Terms
from reservations.models import Reservation, WorkspaceVolume

logger = logging.getLogger(__name__)
BY = "Berth"
ZONES_APART = timedelta(days=2)  # a month begins up to 26 hours later in one zone than in another


def settle_due(now: datetime) -> int:
    """Charge every reservation that is over and not settled yet; returns how many there were.

    A workspace whose reservations cannot be charged keeps no other one waiting.
    """
    count = 0
    for workspace_id in workspaces_to_settle():
        try:
            count += settle(workspace_id, now)
        except Exception:  # logged whole, and tried again by the next round
            logger.exception("what workspace %s has used could not be charged", workspace_id)
    return count


def workspaces_to_settle() -> list[int]:
    rows = Reservation.objects.filter(settled_at=None, state__in=usage.OVER).order_by()
    return list(rows.values_list("workspace", flat=True).distinct())


def settle(workspace_id: int, now: datetime) -> int:
    """Charge what is over of one workspace, in one transaction. A second time changes nothing."""
    with transaction.atomic(durable=True):
        return charge_what_is_over(lock(workspace_id), now)


def charge_what_is_over(account: BillingAccount, now: datetime) -> int:
    """What `settle` enters, within a transaction of the caller, who has locked the account."""
    rows = Reservation.objects.filter(workspace=account.workspace_id, state__in=usage.OVER)
    return _charge(account, usage.unsettled(rows), now, None)


def close(account: BillingAccount, month: date, now: datetime) -> None:
    """Enter everything that was served until the month's end. The account must be locked; `now` is after that end.

    Closing a month a second time enters what was not there yet.
    """
    end = months.stretch(month, account.zone)[1]
    if now < end:
        raise ValueError(f"{month:%Y-%m} is not over in {account.zone.key}")
    rows = Reservation.objects.filter(workspace=account.workspace_id)
    charge_what_is_over(account, now)
    running = rows.exclude(state__in=usage.OVER).filter(usage_periods__during__startswith__lt=end).distinct()
    _charge(account, usage.unsettled(running), now, month)
    for each in _open_months(account, month):
        _charge_volumes(account, each, now)
    if account.closed_through is None or account.closed_through < month:
        account.closed_through = month
        account.save(update_fields=["closed_through"])


def _charge(account: BillingAccount, rows: Iterable[Reservation], now: datetime, through: date | None) -> int:
    """Enter what is missing of each, and of those that are over (`through` None) note that nothing is."""
    rows = list(rows)
    before: dict[int, list[LedgerEntry]] = {}
    for entry in LedgerEntry.objects.usage().filter(reservation__in=rows):
        before.setdefault(entry.reservation_id or 0, []).append(entry)
    entries: list[LedgerEntry] = []
    days: list[DailyCost] = []
    for row in rows:
        for entry in _missing(account, row, before.get(row.pk, []), now, through):
            entries.append(entry)
            days += _days(account, row, entry, now)
    ledger.post(entries)
    DailyCost.objects.bulk_create(days)
    if through is None:
        Reservation.objects.filter(pk__in=[row.pk for row in rows]).update(settled_at=now)
    return len(rows)


def _missing(
    account: BillingAccount, row: Reservation, before: list[LedgerEntry], now: datetime, through: date | None
) -> Iterable[LedgerEntry]:
    """The entries that a reservation lacks, one a month at most; `before` are its charges and their corrections.

    What is given back is at most what those come to: what a correction took off is not given back a second time.
    """
    intervals, size, terms = usage.served(row, now), usage.size_of(row), usage.terms_of(row)
    there = {entry.month: entry for entry in before if entry.kind == LedgerEntry.Kind.CHARGE}
    left = sum((entry.amount for entry in before), NOTHING)
    parts = pricing.by_month(intervals, size, terms, account.zone)
    due = entered = NOTHING
    for month in sorted(parts.keys() | there.keys()):
        if through is not None and month > through:
            return
        part = parts.get(month, Cost())
        due += part.amount
        if month in there:
            entered += there[month].amount
            continue
        if amount := max(due - entered, -max(left, NOTHING)):
            entered += amount
            left += amount
            yield _charge_entry(account, row, month, amount, part, intervals, now)
    amount = max(due - entered, -max(left, NOTHING))
    if through is None and amount and there:
        # Less was served than a closed month had taken for served, as when its node turned out to be gone since. What
        # goes on makes up for it with its next entry.
        yield _recount(account, row, there[max(there)], amount, now)


def _charge_entry(
    account: BillingAccount,
    row: Reservation,
    month: date,
    amount: Decimal,
    part: Cost,
    intervals: list[Interval],
    now: datetime,
) -> LedgerEntry:
    start, end = months.stretch(month, account.zone)
    inside = [(max(opens, start), min(closes, end)) for opens, closes in intervals if opens < end and closes > start]
    return ledger.entry(
        account=account,
        kind=LedgerEntry.Kind.CHARGE,
        month=month,
        amount=amount,
        key=f"reservation:{row.pk}:{month:%Y-%m}",
        text=f"{row.title} (#{row.pk})",
        by=BY,
        now=now,
        reservation=row,
        service=row.service,
        details={
            "from": inside[0][0].isoformat(),
            "until": inside[-1][1].isoformat(),
            "served_s": round(part.served.total_seconds(), 3),
            "started_hours": part.started_hours,
            "rounding": usage.terms_of(row).rounding,
            "size": row.size_text,
            "cores": str(part.cores),
            "ram": str(part.ram),
            "storage": str(part.storage),
            "zone": account.zone.key,
        },
    )


def _recount(
    account: BillingAccount, row: Reservation, old: LedgerEntry, amount: Decimal, now: datetime
) -> LedgerEntry:
    return ledger.entry(
        account=account,
        kind=LedgerEntry.Kind.CORRECTION,
        month=months.month_of(now, account.zone),
        amount=amount,
        key=f"reservation:{row.pk}:{old.month:%Y-%m}:recount",
        text=f"{row.title} (#{row.pk}): served less than {old.month:%B %Y} was charged for",
        by=BY,
        now=now,
        reservation=row,
        service=row.service,
        corrects=old,
    )


def _days(account: BillingAccount, row: Reservation, entry: LedgerEntry, now: datetime) -> list[DailyCost]:
    """What of a reservation's entry belongs to which day, for the charts; adds up to the entry."""
    if entry.kind == LedgerEntry.Kind.CORRECTION:
        return [_day(entry, now.astimezone(account.zone).date(), entry.amount)]
    start, end = months.stretch(entry.month, account.zone)
    intervals = [(opens, min(closes, end)) for opens, closes in usage.served(row, now) if opens < end]
    parts = pricing.by_day(intervals, usage.size_of(row), usage.terms_of(row), account.zone)
    first = start.astimezone(account.zone).date()
    return _spread(entry, {day: part for day, part in parts.items() if day >= first}, row.cores)


def _spread(entry: LedgerEntry, parts: Mapping[date, Cost], cores: Decimal) -> list[DailyCost]:
    """By the parts; what the entry makes up for of other months is on its last day."""
    found = [
        _day(entry, day, part.amount, Decimal(str(round(part.served.total_seconds(), 2))) * cores)
        for day, part in sorted(parts.items())
    ]
    found[-1].amount += entry.amount - sum((day.amount for day in found), NOTHING)
    return found


def _day(entry: LedgerEntry, day: date, amount: Decimal, core_seconds: Decimal = NOTHING) -> DailyCost:
    return DailyCost(
        entry=entry,
        workspace_id=entry.workspace_id,
        service_id=entry.service_id,
        day=day,
        amount=amount,
        core_seconds=core_seconds,
    )


def _open_months(account: BillingAccount, through: date) -> list[date]:
    """The months up to `through` that are not closed, and that one in any case.

    Reservations make up for one that was skipped; volumes are charged month by month.
    """
    if account.closed_through is not None:
        first: date | None = min(months.following(account.closed_through), through)
    else:
        used = WorkspaceVolume.objects.filter(workspace=account.workspace_id)
        begin = used.aggregate(first=Min("volume__formatted_at"))["first"]
        first = months.month_of(begin, account.zone) if begin else None
    return months.through(first, through) if first else []


def _charge_volumes(account: BillingAccount, month: date, now: datetime) -> None:
    """Kept volumes are charged when the month is closed: for everything until its end that is not charged yet."""
    start = months.stretch(month, account.zone)[0]
    volumes = WorkspaceVolume.objects.filter(workspace=account.workspace_id).select_related("volume", "service")
    charges = LedgerEntry.objects.filter(volume__in=volumes, kind=LedgerEntry.Kind.CHARGE)
    entered: dict[int, dict[date, datetime]] = defaultdict(dict)
    for entry in charges:
        entered[entry.volume_id or 0][entry.month] = datetime.fromisoformat(entry.details["until"])
    # What was deleted since the month before ended is owed until then, and that may have ended earlier, elsewhere.
    for volume in volumes.exclude(deleted_at__lte=start - ZONES_APART):
        there = entered[volume.pk]
        if month not in there:
            _charge_volume(account, volume, max(there.values(), default=None), month, now)


def _charge_volume(
    account: BillingAccount, volume: WorkspaceVolume, charged: datetime | None, month: date, now: datetime
) -> None:
    """From where it was charged until, or from its first use on: months that lack a charge cost nothing."""
    start, end = months.stretch(month, account.zone)
    kept = usage.kept_during(volume, charged or volume.volume.formatted_at or end, end)
    if not kept:
        return
    size, terms = Size(Decimal(0), 0, volume.volume.size_gb), tariffs.terms_for(account.workspace_id, kept[0][0], end)
    if not (amount := pricing.cost(kept, size, terms).amount):
        return
    entry = ledger.entry(
        account=account,
        kind=LedgerEntry.Kind.CHARGE,
        month=month,
        amount=amount,
        key=f"volume:{volume.pk}:{month:%Y-%m}",
        text=f"Kept volume {volume}",
        by=BY,
        now=now,
        volume=volume,
        service=volume.service,
        details={
            "from": _costs_from(kept, terms, start).isoformat(),
            "until": end.isoformat(),
            "size_gb": volume.volume.size_gb,
            "zone": account.zone.key,
        },
    )
    ledger.post([entry])
    parts = pricing.by_day(kept, size, terms, account.zone)
    inside = {day: part for day, part in parts.items() if day >= month} or {month: Cost()}
    DailyCost.objects.bulk_create(_spread(entry, inside, Decimal(0)))


def _costs_from(kept: list[Interval], terms: Terms, start: datetime) -> datetime:
    """Where it began, without what cost nothing before the month."""
    opens = kept[0][0]
    paid = next(price.since for price in terms.prices if price.per_gb_month and price.factor)
    return max(opens, min(start, paid))
