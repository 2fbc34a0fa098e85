"""The customer's pages about money."""

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from accounts.models import User
from billing import actions, ledger, ledger_page, months, overview, receipts, usage
from billing.forms import LedgerFilter, RecipientForm, SpendingForm
from billing.ledger_page import with_names
from billing.models import LedgerEntry
from billing.pages import Desk, asked_month, desk
from reservations.models import Reservation

PER_PAGE = 10
ENTRIES_PER_PAGE = 50


@login_required
@require_GET
def index(request: HttpRequest) -> HttpResponse:
    chosen, now = desk(request), timezone.now()
    month = asked_month(request.GET.get("month", ""), chosen.account, now)
    found = overview.overview(chosen.account, month, now)
    page = Paginator(found.rows, PER_PAGE).get_page(request.GET.get("page"))
    context = {"desk": chosen, "overview": found, "page_obj": page, "now": now}
    return render(request, "billing/index.html", context)


@login_required
@require_GET
def ledger_entries(request: HttpRequest) -> HttpResponse:
    chosen, form = desk(request), LedgerFilter(request.GET)
    form.offer(overview.months_since_the_first(chosen.account, months.month_of(timezone.now(), chosen.account.zone)))
    rows = with_names(form.apply(ledger.of_account(chosen.account)))
    page = Paginator(rows, ENTRIES_PER_PAGE).get_page(request.GET.get("page"))
    context = {
        "desk": chosen,
        "form": form,
        "page_obj": page,
        "lines": ledger_page.lines(chosen.account, list(page)),
        "balance": ledger.balance(chosen.account.workspace_id),
        "kinds": LedgerEntry.Kind,
    }
    return render(request, "billing/ledger.html", context)


@login_required
@require_GET
def receipt(request: HttpRequest, pk: int) -> HttpResponse:
    assert isinstance(request.user, User)  # noqa: S101 - login_required has seen to it
    visible = usage.with_usage(Reservation.objects.visible_to(request.user)).select_related("workspace")
    row = get_object_or_404(visible, pk=pk)
    now = timezone.now()
    return render(request, "billing/receipt.html", {"receipt": receipts.receipt(row, now), "now": now})


@login_required
@require_http_methods(["GET", "POST"])
def account(request: HttpRequest) -> HttpResponse:
    """Recipient and budget: two forms, each with its own button. Owners write, the others read."""
    chosen = desk(request)
    sent = request.POST.get("part", "") if request.method == "POST" else ""
    if request.method == "POST" and not chosen.is_owner:
        raise PermissionDenied
    recipient = RecipientForm(request.POST if sent == "recipient" else None, instance=chosen.account)
    spending = SpendingForm(request.POST if sent == "spending" else None, instance=chosen.account)
    if sent == "recipient" and _saved(recipient, actions.set_recipient, chosen):
        messages.success(request, "Bills go there from now on. Invoices that were issued stay as they are.")
        return redirect(_address(chosen))
    if sent == "spending" and _saved(spending, actions.set_spending, chosen):
        messages.success(request, "The budget holds from now on.")
        return redirect(_address(chosen))
    context = {"desk": chosen, "recipient": recipient, "spending": spending, "account": chosen.account}
    return render(request, "billing/account.html", context, status=422 if request.method == "POST" else 200)


def _saved(form: RecipientForm | SpendingForm, action: Any, chosen: Desk) -> bool:
    """Whether the action took what the form says; if not, the form says why at its fields."""
    if not form.is_valid():
        return False
    try:
        action(workspace=chosen.workspace, by=chosen.user, **form.cleaned_data)
    except ValidationError as problem:
        form.add_error(None, problem)
        return False
    return True


def _address(chosen: Desk) -> str:
    return reverse("billing:account") + (f"?{chosen.query}" if chosen.query else "")
