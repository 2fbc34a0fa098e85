"""Counts how starts end. The reservations' side tells of it by signals, since it knows nothing of metrics."""

from datetime import datetime
from typing import Any

from portal.metrics.processes import START_FAILURES, START_SECONDS
from reservations.models import Reservation
from reservations.starting import start_failed
from reservations.states import State
from reservations.transitions import moved


def _observe(reservation: Reservation, old: State, new: State, now: datetime, **kwargs: Any) -> None:
    if old != State.STARTING or (new != State.RUNNING and not reservation.failure):
        return  # also when its customer ended it meanwhile: that is neither
    seconds = max(0.0, (now - _since(reservation, now)).total_seconds())
    START_SECONDS.labels("success" if new == State.RUNNING else "failure").observe(seconds)


def _since(reservation: Reservation, now: datetime) -> datetime:
    """When it was due for the first time; for one that ran before, when it began to start again."""
    if reservation.running_since in {None, now}:
        return max(reservation.start, reservation.created_at)
    events = reservation.events.filter(new_state=State.STARTING, at__lte=now).order_by("-at", "-pk")
    return events.values_list("at", flat=True).first() or now


def _count(reason: str, **kwargs: Any) -> None:
    START_FAILURES.labels(reason).inc()


def connect() -> None:
    moved.connect(_observe, dispatch_uid="berth-metrics")
    start_failed.connect(_count, dispatch_uid="berth-metrics")
