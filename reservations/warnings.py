"""Warns people before their reservations end: a day, an hour and ten minutes before, once for each end.

A round finds the ends that came nearer than one of these since the last round, by the index on the end. So what was
nearer already when it was booked, or when its end was changed, is not warned of; and after a pause of the workers
only the nearest is told. The mark is moved last: a round that dies is done again, and who was told is not told twice.
"""

import logging
from datetime import UTC, datetime, timedelta

from django.db import transaction
from django.db.models import Q, QuerySet
from django.urls import reverse

from accounts.dates import format_for
from accounts.models import Notice, User
from accounts.notifying import News, tell
from compute.models import SamplingMark
from reservations.models import Reservation
from reservations.states import State
from reservations.telling import hearers, name_of

logger = logging.getLogger(__name__)
BEFORE = {"10min": timedelta(minutes=10), "1h": timedelta(hours=1), "24h": timedelta(hours=24)}  # the nearest first
WARNED = [State.BOOKED, State.STARTING, State.RUNNING, State.STOPPED]
AT_ONCE = 500


def warn_of_ends(now: datetime) -> int:
    """Tell of every end that came near since the last round; how many people were told something new."""
    mark, _ = SamplingMark.objects.get_or_create(pk=SamplingMark.Name.WARNINGS, defaults={"at": now})
    since = min(mark.at, now)  # later than now: the clock was off when it was written
    due = list(_came_near(since, now).values_list("pk", flat=True))
    told = 0
    for start in range(0, len(due), AT_ONCE):
        told += _warn(due[start : start + AT_ONCE], since, now)
    SamplingMark.objects.filter(pk=mark.pk, at=mark.at).update(at=now)
    if told:
        logger.info("warned %d times of ends", told)
    return told


def _came_near(since: datetime, now: datetime) -> "QuerySet[Reservation]":
    near = Q()
    for before in BEFORE.values():
        near |= Q(end__gt=max(since + before, now), end__lte=now + before)
    return Reservation.objects.filter(near, state__in=WARNED).order_by()


def _warn(ids: list[int], since: datetime, now: datetime) -> int:
    """Three queries, whatever their number."""
    with transaction.atomic():
        rows = list(Reservation.objects.filter(pk__in=ids, state__in=WARNED, end__gt=now).select_related("service"))
        people = hearers(rows)
        news = [
            _news(user, row, label, now)
            for row in rows
            if (label := _nearest(row, since, now))
            for user in people[row.pk]
        ]
        return len(tell(news, now=now))


def _nearest(row: Reservation, since: datetime, now: datetime) -> str:
    """The last of BEFORE that was passed since the last round, if it was not when it was booked or started."""
    for label, before in BEFORE.items():
        at = row.end - before
        if since < at <= now and at > max(row.start, row.created_at):
            return label
    return ""


def _news(user: User, row: Reservation, label: str, now: datetime) -> News:
    kept = "What is on its kept volume stays." if row.kept_volume_id else "What it has stored is deleted then."
    return News(
        user.pk,
        Notice.ENDS_SOON,
        f"ends_soon:{row.pk}:{label}:{row.end.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        f"{name_of(row)} ends in {in_words(row.end - now)}",
        f"It ends on {format_for(user, row.end)}. {kept} If you need it longer, extend it before.",
        reverse("reservations:extend", args=[row.pk]),
        mail_until=row.end,
    )


def in_words(left: timedelta) -> str:
    """24 hours, 5 hours 12 minutes, 10 minutes: to the nearest minute, 1 at least."""
    minutes = max(round(left.total_seconds() / 60), 1)
    parts = [(minutes // 60, "hour"), (minutes % 60, "minute")]
    return " ".join(f"{count} {unit}{'' if count == 1 else 's'}" for count, unit in parts if count)
