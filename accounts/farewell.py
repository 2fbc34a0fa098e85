"""The last mail to somebody whose account is deleted: a row until it is sent or given up; then nothing of it is left.

It is written within the transaction that deletes the account. Sent is it as news are (accounts/mailing.py): taken by
moving its next attempt away, so that two workers send it once, and tried again with the same pauses.
"""

import logging
from collections.abc import Callable
from datetime import datetime
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction

from accounts.mailing import OF_THIS_MAIL, OURS_FOR, pause_after
from accounts.models import Farewell
from accounts.notifying import GOOD_FOR

logger = logging.getLogger(__name__)


def write(*, email: str, text: str, now: datetime) -> None:
    """Within a transaction of the caller; nothing for who has no address."""
    if email:
        Farewell.objects.create(email=email, text=text, created_at=now, mail_at=now)


def mail_due(clock: Callable[[], datetime]) -> int:
    """Send what is due; how many mails went out. While the mail server gives no answer, one attempt is enough."""
    _give_up(clock())
    sent = 0
    while row := _take(clock()):
        try:
            _message(row).send()
        except OSError as problem:
            why = type(problem).__name__  # no more of it: the text may have the address
            logger.warning("farewell %d could not be mailed (%s)", row.pk, why)
            _again(row, clock())
            if not isinstance(problem, OF_THIS_MAIL):
                break
        except Exception:  # logged whole; the others go out
            logger.exception("farewell %d cannot be made into a mail", row.pk)
            _again(row, clock())
        else:
            row.delete()
            sent += 1
    return sent


def _give_up(now: datetime) -> None:
    """An address that nobody can be reached at is not kept for ever."""
    gone, _ = Farewell.objects.filter(created_at__lt=now - GOOD_FOR, mail_at__lte=now).delete()
    if gone:
        logger.warning("%d mails about a deleted account are given up", gone)


def _take(now: datetime) -> Farewell | None:
    with transaction.atomic(durable=True):
        due = Farewell.objects.filter(mail_at__lte=now).order_by("mail_at", "pk")
        row = due.select_for_update(skip_locked=True).first()
        if row:
            row.mail_at, row.attempts = now + OURS_FOR, row.attempts + 1
            row.save(update_fields=["mail_at", "attempts"])
    return row


def _again(row: Farewell, now: datetime) -> None:
    row.mail_at = now + pause_after(row.attempts)
    row.save(update_fields=["mail_at"])


def _message(row: Farewell) -> EmailMessage:
    return EmailMessage(
        f"{settings.ACCOUNT_EMAIL_SUBJECT_PREFIX}Your account is deleted",
        row.text,
        to=[row.email],
        headers={
            "Message-ID": f"<farewell.{row.pk}@{urlsplit(settings.BERTH_BASE_URL).hostname}>",
            "Auto-Submitted": "auto-generated",
        },
    )
