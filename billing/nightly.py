"""The nightly look at all books: what it finds is logged, kept for the monitor, and mailed to the staff once."""

import hashlib
import logging
import time
from datetime import datetime

from django.conf import settings
from django.core.mail import EmailMessage
from django.db.models import Q
from django.template.loader import render_to_string

from accounts.models import User
from billing import audit
from billing.models import LedgerAudit

logger = logging.getLogger(__name__)
KEPT = 50  # findings; manage.py audit_ledger names all


def audit_all(now: datetime) -> LedgerAudit:
    """Check everything, keep what was found, and tell it."""
    begun = time.monotonic()
    result = audit.examine(now)
    sentences = [str(finding) for finding in result.findings]
    for sentence in sentences[:KEPT]:
        logger.error("the books: %s", sentence)
    row, _ = LedgerAudit.objects.update_or_create(
        pk=1,
        defaults={
            "at": now,
            "seconds": round(time.monotonic() - begun, 2),
            "reservations": result.reservations,
            "entries": result.entries,
            "invoices": result.invoices,
            "found": len(sentences),
            "findings": sentences[:KEPT],
            "fingerprint": _fingerprint(sentences),
        },
    )
    tell()
    return row


def tell() -> bool:
    """Mail the staff what is found now if that is something else than they were told last, and when it is mended.

    Whether a mail went out. While the mail server is away nothing is taken to be told: a later round tries again.
    """
    row = LedgerAudit.objects.first()
    if row is None or row.told == row.fingerprint:
        return False
    word = f"{row.found} difference{'' if row.found == 1 else 's'}" if row.found else "all differences are mended"
    context = {"audit": row, "url": f"{settings.BERTH_BASE_URL}/monitor/"}
    to = staff()
    if to:
        body = render_to_string("billing/email/audit.txt", context)
        try:
            EmailMessage(f"[Berth] The books: {word}", body, to=to).send()
        except OSError as problem:
            logger.warning("the mail about the audit could not be sent: %s", problem)
            return False
    LedgerAudit.objects.filter(pk=row.pk, fingerprint=row.fingerprint).update(told=row.fingerprint)
    return bool(to)


def staff() -> list[str]:
    """The addresses of all who may look after the books."""
    rows = User.objects.filter(Q(is_staff=True) | Q(is_superuser=True), is_active=True).exclude(email="")
    return list(rows.order_by("pk").values_list("email", flat=True))


def _fingerprint(sentences: list[str]) -> str:
    return hashlib.sha256("\n".join(sorted(sentences)).encode()).hexdigest() if sentences else ""
