"""News in the page: what somebody has not read yet, and reading it."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import DatabaseError
from django.db.models import QuerySet

from accounts.models import Notification, User

logger = logging.getLogger(__name__)
KEEP = timedelta(days=90)
COUNTED = 9  # more than these are "9+"
AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class Unread:
    """What the bell shows: the newest unread ones, at most one more than are counted."""

    newest: list[Notification] = field(default_factory=list)

    @property
    def count(self) -> str:
        """Empty, 1 to 9, or 9+."""
        many = len(self.newest)
        return f"{COUNTED}+" if many > COUNTED else str(many or "")

    @property
    def last(self) -> int:
        """The number of the newest, by which a page sees that there is another; 0 without any."""
        return max((row.pk for row in self.newest), default=0)

    def __iter__(self) -> Iterator[Notification]:
        return iter(self.newest)


def shown_to(user: User) -> QuerySet[Notification]:
    """All that is in the page for this person, newest first."""
    return Notification.objects.filter(user=user, in_app=True).order_by("-created_at", "-pk")


def unread(user: User) -> Unread:
    """One query on an index. A page comes without a count rather than not at all."""
    try:
        return Unread(list(shown_to(user).filter(read_at=None)[: COUNTED + 1]))
    except DatabaseError as problem:
        logger.warning("the unread news of %s cannot be counted: %s", user, problem)
        return Unread()


def read(*, user: User, pk: int, now: datetime) -> Notification | None:
    """Note that they have read it, once; None when there is no such one of theirs."""
    row = shown_to(user).filter(pk=pk).first()
    if row and row.read_at is None:
        Notification.objects.filter(pk=row.pk, read_at=None).update(read_at=now)
        row.read_at = now
    return row


def read_all(*, user: User, until: int, now: datetime) -> int:
    """All up to that number: what came since they looked at the list stays unread. How many."""
    return shown_to(user).filter(read_at=None, pk__lte=until).update(read_at=now)


def prune(now: datetime) -> int:
    """Forget what is older than KEEP; how many."""
    gone = 0
    while True:
        old = Notification.objects.filter(created_at__lt=now - KEEP).order_by("pk").values_list("pk", flat=True)
        deleted, _ = Notification.objects.filter(pk__in=list(old[:AT_ONCE])).delete()
        gone += deleted
        if deleted < AT_ONCE:
            return gone
