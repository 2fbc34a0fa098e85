"""An invoice as PDF: made once from the template of its page, and kept, so that everybody gets the same bytes."""

import hashlib
from datetime import datetime
from typing import Any

from django.template.loader import render_to_string

from billing import typesetting
from billing.models import Invoice, InvoiceDocument
from billing.typesetting import Later

PATIENCE_S = 5.0  # of a web request, until it is its turn
MOST_LINES_AT_ONCE = 300  # about five seconds; what is longer would keep a thread of the web server busy for minutes


def pdf_at_once(invoice: Invoice, now: datetime) -> bytes:
    """For who waits for the answer. Raises CannotTypeset; Later for a long one, which the mailing round makes."""
    if kept := _kept(invoice):
        return kept
    count = invoice.lines.count()
    if count <= MOST_LINES_AT_ONCE:
        return pdf_of(invoice, PATIENCE_S)
    given_up = InvoiceDocument.objects.filter(invoice=invoice, pdf=None, try_at=None)  # or never due
    given_up.update(try_at=now, attempts=0, problem="")
    raise Later(
        f"This invoice has {count:,} lines. Its PDF is being made and comes by mail; or try again in some minutes."
    )


def pdf_of(invoice: Invoice, wait_s: float | None = None) -> bytes:
    """The PDF, made and kept if nobody asked for it before. Raises CannotTypeset."""
    if kept := _kept(invoice):
        return kept
    with typesetting.turn(wait_s):
        return _kept(invoice) or _make(invoice)  # somebody else may have made it meanwhile


def _make(invoice: Invoice) -> bytes:
    made = render(invoice)
    unmade = InvoiceDocument.objects.filter(invoice=invoice, pdf=None)
    if unmade.update(pdf=made, sha256=hashlib.sha256(made).hexdigest()):
        return made
    return _kept(invoice)  # somebody else was first


def file_name(invoice: Invoice) -> str:
    """INV-2026-000123.pdf; a slash of the number cannot be in a file's name."""
    return f"{invoice.number.replace('/', '-')}.pdf"


def title_of(invoice: Invoice) -> str:
    return "Credit note" if invoice.total < 0 else "Invoice"


def body_context(invoice: Invoice) -> dict[str, Any]:
    """What the body of page and PDF is made from."""
    return {
        "invoice": invoice,
        "lines": list(invoice.lines.all()),
        "is_credit_note": invoice.total < 0,
        "title": title_of(invoice),
    }


def render(invoice: Invoice) -> bytes:
    """The PDF as it would be made now. Raises typesetting.CannotTypeset."""
    author = (invoice.seller.splitlines() or [""])[0]
    context = {**body_context(invoice), "author": author, "issued_at": invoice.issued_at.isoformat(timespec="seconds")}
    return typesetting.pdf(render_to_string("billing/invoice_pdf.html", context))


def _kept(invoice: Invoice) -> bytes:
    row, _ = InvoiceDocument.objects.get_or_create(invoice=invoice)
    return bytes(row.pdf or b"")
