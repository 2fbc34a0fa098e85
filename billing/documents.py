"""An invoice as PDF: made once from the template of its page, and kept, so that everybody gets the same bytes."""

import hashlib
import threading
from functools import cache
from typing import Any

from django.conf import settings
from django.template.loader import render_to_string

from billing.models import Invoice, InvoiceDocument

CSS = "static/berth/invoice-print.css"
_rendering = threading.Lock()  # Pango is one thread's at a time


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
    """The PDF as it would be made now. It takes nothing from the network and no file."""
    author = (invoice.seller.splitlines() or [""])[0]
    context = {**body_context(invoice), "author": author, "issued_at": invoice.issued_at.isoformat(timespec="seconds")}
    return html_to_pdf(render_to_string("billing/invoice_pdf.html", context))


def html_to_pdf(html: str) -> bytes:
    # Imported late: these are 40 MiB that a web server has no need of until somebody wants a PDF.
    import weasyprint

    with _rendering:
        document = weasyprint.HTML(string=html, url_fetcher=_nothing())
        pdf: bytes = document.write_pdf(stylesheets=[_css()], pdf_tags=True)
    return pdf


def _kept(invoice: Invoice) -> bytes:
    pdf = InvoiceDocument.objects.values_list("pdf", flat=True).get(invoice=invoice)
    return bytes(pdf or b"")


@cache
def _css() -> Any:
    import weasyprint

    text = (settings.BASE_DIR / CSS).read_text(encoding="utf-8")
    return weasyprint.CSS(string=text, url_fetcher=_nothing())


@cache
def _nothing() -> Any:
    """What fetches whatever a page refers to: an invoice refers to nothing, so all of it is refused."""
    from weasyprint.urls import URLFetcher

    class NothingFetched(URLFetcher):  # type: ignore[misc]  # WeasyPrint has no types
        def fetch(self, url: str, headers: Any = None) -> Any:
            raise ValueError(f"an invoice takes nothing from elsewhere, not {url[:200]}")

    return NothingFetched()
