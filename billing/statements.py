"""What the reservations of a month cost, computed from the served intervals and nothing else.

A reservation is listed in the month in which it was booked to start, in the reader's zone, and costs what it
served in all: started hours are counted over the whole reservation and never twice at a month's end.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from django.db.models import Prefetch
from django.utils import timezone

from accounts.models import User
from billing import pricing
from reservations.models import Reservation, UsagePeriod


@dataclass(frozen=True, slots=True)
class Row:
    """One reservation's cost so far."""

    reservation: Reservation
    served: timedelta
    started_hours: int
    cores: Decimal
    amount: Decimal


def month(user: User, first: date, now: datetime) -> list[Row]:
    """The rows of the month that begins with `first`, newest first."""
    begin = timezone.make_aware(datetime(first.year, first.month, 1))  # noqa: DTZ001 - made aware right here
    after = timezone.make_aware(datetime(first.year + first.month // 12, first.month % 12 + 1, 1))  # noqa: DTZ001
    reservations = (
        Reservation.objects.visible_to(user)
        .filter(start__gte=begin, start__lt=after)
        .select_related("service", "workspace")
        .prefetch_related(Prefetch("usage_periods", UsagePeriod.objects.order_by("during")))
        .order_by("-start", "-pk")
    )
    return [row(reservation, now) for reservation in reservations]


def row(reservation: Reservation, now: datetime) -> Row:
    served = [_length(period, reservation, now) for period in reservation.usage_periods.all()]
    bill = pricing.bill(served, reservation.cores, reservation.rate)
    return Row(reservation, sum(served, timedelta(0)), bill.started_hours, reservation.cores, bill.amount)


def _length(period: UsagePeriod, reservation: Reservation, now: datetime) -> timedelta:
    end: datetime = period.during.upper or min(now, reservation.end)
    start: datetime = period.during.lower
    return max(end - start, timedelta(0))


def total(rows: list[Row]) -> Decimal:
    return sum((row.amount for row in rows), Decimal("0.00"))


def months(user: User, now: datetime) -> list[date]:
    """The months that have something, and this one, newest first."""
    found = set(Reservation.objects.visible_to(user).datetimes("start", "month"))
    return sorted({moment.date() for moment in found} | {timezone.localdate(now).replace(day=1)}, reverse=True)
