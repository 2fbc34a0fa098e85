"""Mails invoices: the documents' rows are the queue, and what fails is tried again for about a week.

A row is taken by moving its next attempt away before anything is sent. So two workers send it once; one that dies
between sending and writing that down sends it again, under the same Message-ID, by which mail programs tell.
"""

import logging
import smtplib
from collections.abc import Callable
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.template.loader import render_to_string

from accounts import audit
from billing import documents, spending
from billing.accounts import account_of
from billing.models import Invoice, InvoiceDocument
from billing.standing import standing
from compute import failpoints

logger = logging.getLogger(__name__)
PAUSES = [timedelta(minutes=m) for m in (5, 10, 30, 60, 180, 360, 720, 1440, 1440, 1440, 1440, 1440)]
NOBODY = "Nobody to send it to: the account has no e-mail address, and its workspace no owner with one."
OF_THIS_MAIL = (  # answers about one mail; any other trouble of the server's is the next mail's, too
    smtplib.SMTPRecipientsRefused,
    smtplib.SMTPSenderRefused,
    smtplib.SMTPDataError,
)


def mail_due(clock: Callable[[], datetime]) -> int:
    """Make and send what is due; returns how many went out. While the mail server is away, one attempt is enough."""
    sent = 0
    while row := _take(clock()):
        try:
            sent += _send(row, clock)
        except OSError as problem:
            _note(row, problem)
            if not isinstance(problem, OF_THIS_MAIL):
                break
        except Exception as problem:  # logged whole; the others go out
            logger.exception("invoice %s could not be mailed", row.invoice)
            _note(row, problem)
    return sent


def mail_again(*, invoice: Invoice, by: object, now: datetime) -> None:
    """Send it with the next round, whatever became of it before."""
    with transaction.atomic(durable=True):
        InvoiceDocument.objects.filter(invoice=invoice).update(try_at=now, attempts=0, problem="")
        audit.record(by=by, action="invoice.mail", target=f"invoice:{invoice}")


def _take(now: datetime) -> InvoiceDocument | None:
    """The next that is due, ours until the pause after this attempt is over."""
    with transaction.atomic(durable=True):
        rows = InvoiceDocument.objects.select_for_update(skip_locked=True, of=("self",)).defer("pdf")
        row = rows.select_related("invoice__workspace").filter(try_at__lte=now).order_by("try_at", "pk").first()
        if row is not None:
            row.try_at = now + PAUSES[min(row.attempts, len(PAUSES) - 1)]
            row.attempts += 1
            row.save(update_fields=["try_at", "attempts"])
    return row


def _send(row: InvoiceDocument, clock: Callable[[], datetime]) -> bool:
    invoice = row.invoice
    pdf = documents.pdf_of(invoice)
    to = spending.recipients(account_of(invoice.workspace_id))
    rows = InvoiceDocument.objects.filter(pk=row.pk)
    if not rows.filter(attempts=row.attempts, try_at=row.try_at).exists():
        return False  # a long one: it was taken by another meanwhile
    if not to:
        logger.warning("invoice %s: %s", invoice, NOBODY)
        rows.update(try_at=None, problem=NOBODY)
        return False
    message = _message(row, to, clock())
    message.attach(documents.file_name(invoice), pdf, "application/pdf")
    message.send()
    failpoints.hit("invoice mailed")
    rows.update(mailed_at=clock(), mailed_to=", ".join(to)[:400], try_at=None, problem="")
    return True


def _message(row: InvoiceDocument, to: list[str], now: datetime) -> EmailMessage:
    invoice = Invoice.objects.with_open_amount().select_related("workspace").get(pk=row.invoice_id)
    title = documents.title_of(invoice)
    context = {
        "invoice": invoice,
        "title": title,
        "standing": standing(invoice, now.date()),
        "url": f"{settings.BERTH_BASE_URL}/billing/invoices/{invoice.number}/",
    }
    subject = f"[Berth] {title} {invoice.number} for {invoice.month:%B %Y}"
    again = f".{row.mailed_at:%Y%m%d%H%M%S}" if row.mailed_at else ""  # asked for once more: a mail of its own
    host = urlsplit(settings.BERTH_BASE_URL).hostname
    headers = {"Message-ID": f"<{documents.file_name(invoice).removesuffix('.pdf')}{again}@{host}>"}
    return EmailMessage(subject, render_to_string("billing/email/invoice.txt", context), to=to, headers=headers)


def _note(row: InvoiceDocument, problem: Exception) -> None:
    """Why it failed; after the last attempt it is given up, and an operator has to ask for it again."""
    text = f"{type(problem).__name__}: {problem}"[:300]
    last = row.attempts >= len(PAUSES)
    logger.log(
        logging.ERROR if last else logging.WARNING,
        "invoice %s could not be mailed (%s)%s",
        row.invoice,
        text,
        ", and is given up: manage.py mail_invoices --again" if last else "",
    )
    change = {"problem": text, "try_at": None} if last else {"problem": text}
    InvoiceDocument.objects.filter(pk=row.pk).update(**change)
