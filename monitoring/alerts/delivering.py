"""Tells people: the deliveries' rows are the queue, and what could not be sent is tried again for three days.

All that waits for one address goes as one message, so that a thousand nodes that fall silent are one mail. It is taken
by moving its next attempt away before anything is sent, so that two processes send it once. While an address has a
message under way or waiting for its next attempt, nothing else goes there: an all-clear never overtakes its alert. What
failed and certainly did not arrive goes together with what came since; so after an outage of the mail server one mail
says what happened meanwhile, and of what is over already, from when to when it was. What may have arrived (a process
died, or no answer came) is sent again as it was, under the same Message-ID, by which mail programs tell.
"""

import logging
import smtplib
import socket
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import connection, transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.urls import reverse

from accounts import audit
from accounts.models import User
from compute import failpoints
from monitoring.alerts import incidents, webhook, wording
from monitoring.alerts.rules import RULES
from monitoring.models import Delivery, Incident

logger = logging.getLogger(__name__)
MAIL, WEBHOOK = Delivery.Channel.MAIL, Delivery.Channel.WEBHOOK
OPENED, CLOSED = Delivery.About.OPENED, Delivery.About.CLOSED
LOCK = 0x616C_7401  # "al": only one takes at a time
OURS_FOR = timedelta(minutes=2)  # what was taken by a process that died is sent again after this
PAUSES = [timedelta(seconds=s) for s in (10, 20, 30, 60, 120, 300)]  # the last for all that follow
REFUSED_PAUSE = timedelta(minutes=15)  # one that is not taken is not taken a minute later either
GIVE_UP_AFTER = timedelta(days=3)
NO_WEBHOOK = "No webhook is set any more."
NOT_ARRIVED = (  # by SMTP, which says so
    ConnectionRefusedError,
    socket.gaierror,
    smtplib.SMTPConnectError,
    smtplib.SMTPHeloError,
    smtplib.SMTPAuthenticationError,
    smtplib.SMTPRecipientsRefused,
    smtplib.SMTPSenderRefused,
    smtplib.SMTPDataError,
    smtplib.SMTPNotSupportedError,
    webhook.NotSent,
    webhook.Refused,
)
OF_THIS_MESSAGE = (smtplib.SMTPRecipientsRefused, smtplib.SMTPSenderRefused, smtplib.SMTPDataError, webhook.Refused)


@dataclass(frozen=True, slots=True)
class Place:
    """Somebody who is told."""

    channel: str
    recipient: str


def places() -> list[Place]:
    """Everybody who is told: one query at most."""
    mails = settings.BERTH_ALERT_MAIL or list(
        User.objects.filter(is_superuser=True, is_active=True)
        .exclude(email="")
        .order_by("pk")
        .values_list("email", flat=True)
    )
    found = [Place(MAIL, address) for address in dict.fromkeys(mails)]
    if settings.BERTH_ALERT_WEBHOOK:
        found.append(Place(WEBHOOK, webhook.host_of(settings.BERTH_ALERT_WEBHOOK)))
    return found


def post(came: incidents.Round, now: datetime) -> None:
    """Queue what a look came to, within its transaction.

    That something is over is told to exactly those who are told that it began.
    """
    everybody = places() if came.opened else []
    rows = [
        Delivery(
            incident=row, about=OPENED, channel=place.channel, recipient=place.recipient, created_at=now, try_at=now
        )
        for row in came.opened
        for place in everybody
        if place.channel != MAIL or RULES[row.kind].mail
    ]
    told = Delivery.objects.filter(incident__in=came.closed, about=OPENED).order_by("pk") if came.closed else []
    rows += [
        Delivery(
            incident_id=row.incident_id,
            about=CLOSED,
            channel=row.channel,
            recipient=row.recipient,
            created_at=now,
            try_at=now,
        )
        for row in told
    ]
    Delivery.objects.bulk_create(rows, ignore_conflicts=True)


# ---- sending ------------------------------------------------------------------------------------------------------


def deliver_due(clock: Callable[[], datetime]) -> int:
    """Send what is due; how many messages went out. While a channel gives no answer, one attempt is enough."""
    sent, broken = 0, set[str]()
    while rows := _take(clock(), broken):
        first = rows[0]
        try:
            _send(rows, clock())
        except Exception as problem:  # noqa: BLE001 - whatever it is, the others are told
            _note(rows, problem, clock())
            if not isinstance(problem, OF_THIS_MESSAGE):
                broken.add(first.channel)
            continue
        failpoints.hit("alert sent")
        _mine(rows).update(sent_at=clock(), try_at=None, problem="")
        sent += 1
    return sent


def _take(now: datetime, broken: Iterable[str]) -> list[Delivery]:
    """All of the next message that is due, ours for OURS_FOR; at most one is under way to an address."""
    with transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        waiting = Delivery.objects.filter(try_at__isnull=False)
        under_way = waiting.filter(
            channel=OuterRef("channel"), recipient=OuterRef("recipient"), attempts__gt=0, try_at__gt=now
        )
        due = waiting.filter(try_at__lte=now).exclude(channel__in=list(broken)).exclude(Exists(under_way))
        first = due.order_by("pk").first()
        if first is None:
            return []
        # One that may have arrived goes as it was; else all that waits for this address goes together.
        rows = due.filter(channel=first.channel, recipient=first.recipient, message=first.message)
        taken = list(rows.select_related("incident").order_by("pk"))
        message, attempts = first.message or uuid.uuid4().hex, max(row.attempts for row in taken) + 1
        ours = {"message": message, "attempts": attempts, "try_at": now + OURS_FOR, "problem": ""}
        Delivery.objects.filter(pk__in=[row.pk for row in taken]).update(**ours)
        for row in taken:
            row.message, row.attempts, row.try_at = message, attempts, now + OURS_FOR
    return taken


def _mine(rows: list[Delivery]) -> QuerySet[Delivery]:
    """The rows as long as nobody took them since."""
    first = rows[0]
    return Delivery.objects.filter(
        pk__in=[row.pk for row in rows], message=first.message, attempts=first.attempts, try_at=first.try_at
    )


def _send(rows: list[Delivery], now: datetime) -> None:
    first = rows[0]
    send(Place(first.channel, first.recipient), told_of(rows), first.message, now)


def send(place: Place, told: list[wording.Told], message: str, now: datetime) -> None:
    """One message to one place, once. Raises what smtplib raises, OSError, or those of `webhook`."""
    if place.channel == MAIL:
        host = urlsplit(settings.BERTH_BASE_URL).hostname
        headers = {"Message-ID": f"<alert.{message}@{host}>", "Auto-Submitted": "auto-generated"}
        text = wording.body(told, page())
        EmailMessage(wording.subject(told), text, to=[place.recipient], headers=headers).send()
        return
    address = settings.BERTH_ALERT_WEBHOOK
    if webhook.host_of(address) != place.recipient:
        raise _Gone(NO_WEBHOOK)
    content = wording.as_json(told, message, now)
    webhook.post(address, content, message=message, secret=settings.BERTH_ALERT_WEBHOOK_SECRET)


def _for_good(problem: Exception) -> bool:
    """Whether the same in a minute will be refused just as well."""
    if isinstance(problem, smtplib.SMTPRecipientsRefused):
        return all(code >= 500 for code, _ in problem.recipients.values())
    if isinstance(problem, smtplib.SMTPSenderRefused | smtplib.SMTPDataError):
        return problem.smtp_code >= 500
    return isinstance(problem, webhook.Refused) and 300 <= problem.status < 500 and problem.status not in {408, 429}


class _Gone(Exception):
    """There is nobody any more to send it to."""


def _note(rows: list[Delivery], problem: Exception, now: datetime) -> None:
    """Why it failed and when it is tried again; what is too old is given up."""
    first = rows[0]
    if not isinstance(problem, (OSError, _Gone, webhook.Refused, webhook.NotSent, webhook.Unsure)):
        logger.error("alerts for %s cannot be made or sent", first.recipient, exc_info=problem)
    text = " ".join(f"{type(problem).__name__.lstrip('_')}: {problem}".split())[:300]
    logger.warning("%d alerts for %s were not sent (%s)", len(rows), first.recipient, text)
    pause = REFUSED_PAUSE if _for_good(problem) else PAUSES[min(first.attempts, len(PAUSES)) - 1]
    arrived_not = isinstance(problem, NOT_ARRIVED)
    old = [row.pk for row in rows if isinstance(problem, _Gone) or row.created_at <= now - GIVE_UP_AFTER]
    mine = _mine(rows)
    if given_up := mine.filter(pk__in=old).update(try_at=None, problem=text):
        logger.error("%d alerts for %s are given up: %s", given_up, first.recipient, text)
    mine.update(try_at=now + pause, problem=text, message="" if arrived_not else first.message)


# ---- what a message says ------------------------------------------------------------------------------------------


def page() -> str:
    return f"{settings.BERTH_BASE_URL}{reverse('monitor:incidents')}"


def told_of(rows: Iterable[Delivery]) -> list[wording.Told]:
    """What these rows tell: of an incident whose begin and end go together, that it was, from when to when."""
    about: dict[int, set[str]] = {}
    by_number: dict[int, Incident] = {}
    for row in rows:
        about.setdefault(row.incident_id, set()).add(row.about)
        by_number[row.incident_id] = row.incident
    return [_told(by_number[number], words) for number, words in about.items()]


def _told(row: Incident, about: set[str]) -> wording.Told:
    return wording.Told(
        number=row.pk,
        kind=row.kind,
        severity=row.severity,
        subject=row.subject,
        name=row.name,
        title=incidents.title(row),
        over=incidents.over_title(row),
        sentence=row.sentence,
        mend=row.mend,
        url=f"{settings.BERTH_BASE_URL}{row.path}" if row.path else page(),
        since=row.first_seen_at,
        until=row.closed_at if CLOSED in about else None,
        late=about == {OPENED, CLOSED},
    )


# ---- by hand --------------------------------------------------------------------------------------------------------


def send_again(*, delivery: Delivery, by: object, now: datetime) -> None:
    """Send what could not be sent with the next round, and all that waits for the same address. Nothing if it was."""
    with transaction.atomic(durable=True):
        rows = Delivery.objects.filter(channel=delivery.channel, recipient=delivery.recipient, sent_at=None)
        # What is under way at this moment has no problem, and is left to who sends it.
        rows.filter(try_at=None).update(try_at=now, attempts=0, message="", created_at=now)
        rows.exclude(try_at=None).exclude(problem="").update(try_at=now, attempts=0)
        audit.record(by=by, action="alert.send_again", target=f"delivery:{delivery.pk}", to=delivery.recipient)


def test(*, now: datetime) -> list[tuple[Place, str]]:
    """Send a test message to everybody who is told; why it failed with each, or ""."""
    message, answers = uuid.uuid4().hex, []
    told = wording.Told(
        number=0,
        kind="test",
        severity="info",
        subject="portal",
        name="test",
        title="A test of the alerts",
        over="",
        sentence="Somebody ran manage.py alerts --test. Nothing is wrong.",
        mend="",
        url=page(),
        since=now,
        until=None,
        late=False,
    )
    for place in places():
        try:
            send(place, [told], message, now)
        except Exception as problem:  # noqa: BLE001 - it is the answer
            answers.append((place, f"{type(problem).__name__}: {problem}"))
        else:
            answers.append((place, ""))
    return answers
