"""Mails the health report: the last week's on Monday after 06:00 UTC, or one that an operator asks for.

The audit log says for which week and address it went out, so that it goes once. A process that dies between sending
and writing that down sends it again, under the same Message-ID, by which mail programs tell.
"""

import logging
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import connection, transaction

from accounts import audit
from accounts.models import AuditEntry
from monitoring import report_files, report_periods, reports
from monitoring.reports import Report

logger = logging.getLogger(__name__)
SENT_AFTER = timedelta(hours=6)  # since Monday 00:00 UTC
ACTION = "report.mail"
LOCK = 0x7265_706D  # "repm": of the session, since mails are sent under it


def mail_weekly(now: datetime) -> int:
    """Send last week's report to everybody of BERTH_REPORT_MAIL who does not have it; to how many it went.

    Whom the mail server does not take it for now gets it with a later round of the same week.
    """
    since, monday = report_periods.last_week(now.astimezone(UTC))
    if not settings.BERTH_REPORT_MAIL or now < monday + SENT_AFTER:
        return 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
        if not cursor.fetchone()[0]:
            return 0  # another process does it
    try:
        return _mail(since, monday, now)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [LOCK])


def _mail(since: datetime, until: datetime, now: datetime) -> int:
    target = f"week:{since:%Y-%m-%d}"
    entries = AuditEntry.objects.filter(target=target, action=ACTION)
    have = set(entries.values_list("data__to", flat=True))
    missing = [address for address in dict.fromkeys(settings.BERTH_REPORT_MAIL) if address not in have]
    if not missing:
        return 0
    found, sent = reports.report(since, until, now), 0
    for address in missing:
        try:
            send(found, address, mark=f"{since:%Y-%m-%d}")
        except OSError as problem:
            logger.warning("the health report could not be mailed to %s: %s", address, problem)
            continue
        with transaction.atomic():
            audit.record(by="timetable", action=ACTION, target=target, to=address)
        sent += 1
    return sent


def send(found: Report, address: str, *, mark: str) -> None:
    """One mail with the report as HTML and CSV. Raises OSError when the mail server does not take it."""
    host = urlsplit(settings.BERTH_BASE_URL).hostname
    headers = {"Message-ID": f"<report.{mark}.{_local(address)}@{host}>", "Auto-Submitted": "auto-generated"}
    period = f"{found.since.astimezone(UTC):%d %b} to {found.until.astimezone(UTC):%d %b %Y}"
    subject = f"[Berth] Health report, {period}"
    message = EmailMessage(subject, report_files.as_text(found), to=[address], headers=headers)
    for kind in ("html", "csv"):
        file = report_files.make(found, kind)
        message.attach(file.name, file.text.encode(), file.kind)
    message.send()


def _local(address: str) -> str:
    """What of an address may stand in a Message-ID."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "." for letter in address).strip(".")
