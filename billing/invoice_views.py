"""Invoices as pages, as PDF, and money as CSV: of the workspaces that the reader is a member of."""

from datetime import date

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET

from accounts.models import User, Workspace
from billing import documents, exports
from billing.forms import LedgerFilter, parse_month
from billing.models import Invoice, InvoiceLine, LedgerEntry
from billing.models.invoices import InvoiceQuerySet
from billing.pages import desk, desk_of
from billing.standing import standing
from billing.typesetting import CannotTypeset, Later
from reservations.models import Reservation

PER_PAGE = 25


@login_required
@require_GET
def invoice_list(request: HttpRequest) -> HttpResponse:
    chosen, today = desk(request), timezone.localdate()
    rows = Invoice.objects.visible_to(chosen.user).filter(workspace=chosen.workspace)
    show = "open" if request.GET.get("show") == "open" else "all"
    shown = rows.open() if show == "open" else rows.with_open_amount()
    page = Paginator(shown.order_by("-year", "-position"), PER_PAGE).get_page(request.GET.get("page"))
    listed = [(invoice, standing(invoice, today)) for invoice in page]
    context = {"desk": chosen, "show": show, "page_obj": page, "listed": listed, "open_count": rows.open().count()}
    return render(request, "billing/invoices.html", context)


@login_required
@require_GET
def invoice_page(request: HttpRequest, number: str) -> HttpResponse:
    invoice = _invoice(request, number)
    context = {
        **documents.body_context(invoice),
        "standing": standing(invoice, timezone.localdate()),
        "settlements": list(invoice.settlements.select_related("payment")),
    }
    return render(request, "billing/invoice.html", context)


@login_required
@require_GET
def invoice_pdf(request: HttpRequest, number: str) -> HttpResponse:
    """The same bytes that were mailed; made now if nobody needed them before."""
    invoice = _invoice(request, number)
    try:
        pdf = documents.pdf_at_once(invoice, timezone.now())
    except Later as problem:
        messages.info(request, str(problem))
        return redirect("billing:invoice", number=invoice.number)
    except CannotTypeset:
        messages.error(request, "The PDF cannot be made at the moment. Please try again in some minutes.")
        return redirect("billing:invoice", number=invoice.number)
    response = HttpResponse(pdf, content_type="application/pdf")
    response["Content-Disposition"] = f'inline; filename="{documents.file_name(invoice)}"'
    return response


@login_required
@require_GET
def invoice_csv(request: HttpRequest, number: str) -> HttpResponseBase:
    invoice = _invoice(request, number)
    name = documents.file_name(invoice).replace(".pdf", ".csv")
    return exports.download(name, exports.invoice_lines(InvoiceLine.objects.filter(invoice=invoice)))


@login_required
@require_GET
def invoices_csv(request: HttpRequest) -> HttpResponseBase:
    rows: InvoiceQuerySet = Invoice.objects.visible_to(_user(request))
    rows = rows.filter(**_of_workspace(request))
    return exports.download("invoices.csv", exports.invoices(rows, timezone.localdate()))


@login_required
@require_GET
def ledger_csv(request: HttpRequest) -> HttpResponseBase:
    """All entries, or those that the filters of the ledger's page leave."""
    rows = LedgerEntry.objects.visible_to(_user(request))
    rows = rows.filter(**_of_workspace(request))
    form = LedgerFilter(request.GET)
    if not form.is_valid():
        raise Http404
    return exports.download("ledger.csv", exports.ledger(form.apply(rows)))


@login_required
@require_GET
def usage_csv(request: HttpRequest) -> HttpResponseBase:
    rows = Reservation.objects.visible_to(_user(request))
    rows = rows.filter(**_of_workspace(request))
    return exports.download("usage.csv", exports.served(rows, timezone.now(), _month(request)))


def _of_workspace(request: HttpRequest) -> dict[str, Workspace]:
    """The filter that the address asks for; without one it is every workspace of the visitor's."""
    asked = request.GET.get("workspace", "")
    return {"workspace": desk_of(_user(request), asked).workspace} if asked else {}


def _month(request: HttpRequest) -> date | None:
    text = request.GET.get("month", "")
    try:
        return parse_month(text) if text else None
    except ValueError:
        raise Http404 from None


def _invoice(request: HttpRequest, number: str) -> Invoice:
    """One that the visitor may see; anybody else's does not exist."""
    if "\0" in number:
        raise Http404  # PostgreSQL takes no text with it
    rows = Invoice.objects.visible_to(_user(request)).with_open_amount().select_related("workspace")
    return get_object_or_404(rows, number=number)


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # noqa: S101 - login_required has seen to it
    return request.user
