"""Mails news: the rows of `accounts.notifying` are the queue, and what fails is tried again until it is no news.

All that is due for one person goes as one mail, so ten copies that end together are one. Rows are taken by moving
their next attempt away before anything is sent, so that two workers send them once; one that dies between sending and
writing that down sends the same again, under the same Message-ID, by which mail programs tell.
"""

import logging
import smtplib
from collections.abc import Callable
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.db.models import QuerySet
from django.template.loader import render_to_string
from django.urls import reverse

from accounts import choosing
from accounts.models import Notification

logger = logging.getLogger(__name__)
OURS_FOR = timedelta(minutes=3)  # longer than sending takes (accounts/smtp.py); after that a worker that took it died
PAUSES = [timedelta(seconds=s) for s in (10, 30, 60, 120, 300, 600, 1800)]  # the last for all that follow
TOGETHER = 50
OF_THIS_MAIL = (  # answers about one mail; any other trouble of the server's is the next mail's, too
    smtplib.SMTPRecipientsRefused,
    smtplib.SMTPSenderRefused,
    smtplib.SMTPDataError,
)


def mail_due(clock: Callable[[], datetime]) -> int:
    """Send what is due; how many mails went out. While the mail server gives no answer, one attempt is enough."""
    sent = 0
    while rows := _take(clock()):
        news = _still_wanted(rows, clock())
        if not news:
            continue
        try:
            _message(news).send()
        except OSError as problem:
            _note(news, problem, clock())
            if not isinstance(problem, OF_THIS_MAIL):
                break
        except Exception as problem:  # logged whole; the others go out
            logger.exception("news %d cannot be made into a mail", news[0].pk)
            _note(news, problem, clock())
        else:
            _mine(news).update(mailed_at=clock(), mail_at=None)
            sent += 1
    return sent


def _take(now: datetime) -> list[Notification]:
    """All that goes into the next mail, ours for OURS_FOR.

    What was tried before goes as it went, so that a mail that did arrive is the same one.
    """
    with transaction.atomic(durable=True):
        due = Notification.objects.filter(by_mail=True, mailed_at=None, mail_at__lte=now).order_by("mail_at", "pk")
        locked = due.select_for_update(skip_locked=True, no_key=True, of=("self",))
        first = locked.first()
        if first is None:
            return []
        rest = locked.filter(user=first.user_id, mail_attempts=first.mail_attempts)
        if first.mail_attempts:
            rest = rest.filter(mail_at=first.mail_at)
        rows = list(rest.select_related("user").order_by("created_at", "pk")[:TOGETHER])
        until, attempts = now + OURS_FOR, first.mail_attempts + 1
        Notification.objects.filter(pk__in=[row.pk for row in rows]).update(mail_at=until, mail_attempts=attempts)
        for row in rows:
            row.mail_at, row.mail_attempts = until, attempts
    return rows


def _mine(rows: list[Notification]) -> QuerySet[Notification]:
    """The rows as long as nobody took them since."""
    first = rows[0]
    return Notification.objects.filter(
        pk__in=[row.pk for row in rows], mail_at=first.mail_at, mail_attempts=first.mail_attempts, mailed_at=None
    )


def _still_wanted(rows: list[Notification], now: datetime) -> list[Notification]:
    """Without what is no news any more; nothing for somebody who has left or has no address any more."""
    user = rows[0].user
    here = user.is_active and user.closed_at is None and user.email
    wanted = [row for row in rows if here and (row.mail_until is None or now < row.mail_until)]
    if len(wanted) < len(rows):
        given_up = [row for row in rows if row not in wanted]
        why = "it is no news any more" if here else "they have left or have no address"
        _mine(given_up).update(mail_at=None)
        keys = ", ".join(row.key for row in given_up)
        logger.warning("%d news for %s are given up, %s: %s", len(given_up), user.username, why, keys)
    return wanted


def _note(rows: list[Notification], problem: Exception, now: datetime) -> None:
    """When it is tried again."""
    text = " ".join(f"{type(problem).__name__}: {problem}".split())[:300]
    logger.warning("%d news for %s could not be mailed (%s)", len(rows), rows[0].user.username, text)
    _mine(rows).update(mail_at=now + pause_after(rows[0].mail_attempts))


def pause_after(attempts: int) -> timedelta:
    """How long it is left alone after so many attempts, of which there was one at least."""
    return PAUSES[min(attempts, len(PAUSES)) - 1]


def _message(rows: list[Notification]) -> EmailMessage:
    first, user = rows[0], rows[0].user
    base = settings.BERTH_BASE_URL
    kinds = {row.kind for row in rows}
    stop = base + reverse("notifications:stop", args=[choosing.token(user, first.kind if len(kinds) == 1 else "")])
    context = {
        "user": user,
        "news": [{"row": row, "url": base + row.path if row.path else ""} for row in rows],
        "choices": base + reverse("notifications:choices"),
        "stop": stop,
        "base": base,
    }
    subject = first.title if len(rows) == 1 else f"{first.title}, and {len(rows) - 1} more"
    return EmailMessage(
        f"[Berth] {subject}",
        render_to_string("accounts/email/news.txt", context),
        to=[user.email],
        headers={
            "Message-ID": f"<news.{first.pk}.{len(rows)}@{urlsplit(base).hostname}>",
            "Auto-Submitted": "auto-generated",
            "List-Unsubscribe": f"<{stop}>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        },
    )
