"""Leads the customer to the payment provider's page."""

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from accounts.models import Membership, Role, User
from billing import payments, providers
from billing.models import Invoice
from billing.providers import ProviderSilent

MAY_PAY = (Role.OWNER, Role.MANAGER)


def may_pay(user: User, invoice: Invoice) -> bool:
    return Membership.objects.filter(user=user, workspace=invoice.workspace_id, role__in=MAY_PAY).exists()


@login_required
@require_POST
def pay(request: HttpRequest, pk: int) -> HttpResponse:
    """Have a page made for what is open, and lead there.

    By a page of ours that goes on by itself, not by a redirect: our policy lets a form be answered from here only.
    """
    assert isinstance(request.user, User)  # noqa: S101 - login_required has seen to it
    invoice = get_object_or_404(Invoice.objects.visible_to(request.user), pk=pk)
    if not may_pay(request.user, invoice):
        raise PermissionDenied
    provider = providers.active()
    if provider is None:
        raise Http404
    page = reverse("billing:invoice", args=[invoice.number])
    amount = payments.open_amount(invoice)
    if not amount:
        messages.info(request, f"Nothing is open of {invoice}.")
        return redirect(page)
    url = settings.BERTH_BASE_URL + page
    try:
        address = provider.checkout(
            invoice=invoice,
            amount=amount,
            email=request.user.email,
            paid_url=f"{url}?paid=1",
            back_url=url,
            now=timezone.now(),
        )
    except ProviderSilent as problem:
        messages.error(request, str(problem))
        return redirect(page)
    return render(request, "billing/to_provider.html", {"invoice": invoice, "address": address, "amount": amount})
