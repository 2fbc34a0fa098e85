"""What was served and by whom: from rows to the values that prices are computed from."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from django.db.models import Prefetch, QuerySet

from billing.pricing import Cost, Interval, Size, Terms, cost
from reservations.models import Reservation, UsagePeriod, WorkspaceVolume
from reservations.states import State

OVER = tuple(state.value for state in State if state.final or state == State.ENDING)  # usage no longer changes


def with_usage(rows: "QuerySet[Reservation]") -> "QuerySet[Reservation]":
    """With what was served and the service, in a constant number of queries."""
    return rows.select_related("service").prefetch_related(
        Prefetch("usage_periods", UsagePeriod.objects.order_by("during"))
    )


def served(reservation: Reservation, now: datetime) -> list[Interval]:
    """The intervals in which it served, oldest first; one that is still open reaches until `now`, or its end."""
    return [
        (period.during.lower, end)
        for period in reservation.usage_periods.all()
        if (end := period.during.upper or min(now, reservation.end)) > period.during.lower
    ]


def size_of(reservation: Reservation) -> Size:
    storage_gb = 0 if reservation.kept_volume_id else reservation.storage_gb
    return Size(reservation.cores, reservation.ram_mib, storage_gb)


def terms_of(reservation: Reservation) -> Terms:
    return replace(Terms.from_json(reservation.terms), booked=(reservation.start, reservation.end))


def cost_of(reservation: Reservation, now: datetime) -> Cost:
    """What it has cost until `now`, from its served intervals and the terms of its booking."""
    return cost(served(reservation, now), size_of(reservation), terms_of(reservation))


def expected(reservation: Reservation, now: datetime) -> list[Interval]:
    """The intervals that it may still come to: what was served once it is over, else all that is booked."""
    if reservation.state in OVER:
        return served(reservation, now)
    return [(reservation.start, reservation.start + reservation.length)]


def kept_during(volume: WorkspaceVolume, start: datetime, end: datetime) -> list[Interval]:
    """When a kept volume was there within [start, end): from its first use until its owner deleted it."""
    opens = volume.volume.formatted_at
    closes = volume.deleted_at or end
    if opens is None or max(opens, start) >= min(closes, end):
        return []
    return [(max(opens, start), min(closes, end))]


def unsettled(rows: "QuerySet[Reservation]") -> Iterable[Reservation]:
    """Those whose cost is not wholly in the ledger yet."""
    return with_usage(rows.filter(settled_at=None))
