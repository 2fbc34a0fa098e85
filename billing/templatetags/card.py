"""{% pay_by_card invoice %}: the button on an invoice's page, for whom it is meant."""

from typing import Any

from django import template
from django.template.context import RequestContext

from billing import card_views, payments, providers
from billing.models import Invoice

register = template.Library()


@register.inclusion_tag("billing/_pay.html", takes_context=True)
def pay_by_card(context: RequestContext, invoice: Invoice) -> dict[str, Any]:
    """Nothing while no provider is switched on, when nothing is open, and for plain members."""
    request = context["request"]
    amount = payments.open_amount(invoice) if providers.active() else 0
    return {
        "invoice": invoice,
        "amount": amount,
        "may_pay": bool(amount) and card_views.may_pay(request.user, invoice),
        "was_paid": bool(amount) and "paid" in request.GET,
        "csrf_token": context.get("csrf_token"),
    }
