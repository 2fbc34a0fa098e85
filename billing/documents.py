"""An invoice as PDF: made once from the template of its page, and kept, so that everybody gets the same bytes."""

import hashlib
from typing import Any

from django.template.loader import render_to_string

from billing import typesetting
from billing.models import Invoice, InvoiceDocument


def pdf_of(invoice: Invoice) -> bytes:
    """The PDF, made and kept if nobody asked for it before."""
    if kept := _kept(invoice):
        return kept
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
