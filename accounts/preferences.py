"""How somebody wants to read Berth."""

from django.db import transaction

from accounts import audit
from accounts.models import User


def choose_dates(*, user: User, time_zone: str, date_language: str, by: object) -> None:
    """Dates are shown to `user` in this zone (empty: the browser's) and language (empty: as Berth writes English)."""
    with transaction.atomic(durable=True):
        User.objects.filter(pk=user.pk).update(time_zone=time_zone, date_language=date_language)
        audit.record(
            by=by, action="user.dates", target=f"user:{user.pk}", time_zone=time_zone, date_language=date_language
        )
