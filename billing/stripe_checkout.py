"""Stripe: the customer pays on Stripe's own page (Checkout), and a signed event says that the money came.

No card number comes near Berth. The one event that counts is `payment_intent.succeeded`: it comes once the money is
certain, for a card at once and for a debit days later, and carries what `checkout` wrote into its metadata.
"""

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import stripe
from django.conf import settings

from billing.models import Invoice, Payment
from billing.providers import Forged, Paid, ProviderSilent, Strange

logger = logging.getLogger(__name__)
OLDEST_S = 300  # of a signature, against replays
TIMEOUT_S = 10
PAGE_IS_GOOD_FOR = timedelta(hours=1)
PAID = "payment_intent.succeeded"
# https://docs.stripe.com/currencies#zero-decimal and #three-decimal; everything else counts in hundredths.
WHOLE = frozenset(
    ["BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"]
)
THOUSANDTHS = frozenset(["BHD", "JOD", "KWD", "OMR", "TND"])


class Stripe:
    method = Payment.Method.STRIPE.value

    def __init__(self, secret_key: str, webhook_secret: str, api: str) -> None:
        self._webhook_secret = webhook_secret
        self._client = stripe.StripeClient(
            secret_key,
            base_addresses={"api": api},
            max_network_retries=1,  # with the same idempotency key, so a page is made once
            http_client=stripe.RequestsClient(timeout=TIMEOUT_S),
        )

    def checkout(
        self, *, invoice: Invoice, amount: Decimal, email: str, paid_url: str, back_url: str, now: datetime
    ) -> str:
        ours = {"berth": settings.BERTH_BASE_URL, "invoice": invoice.number}
        item = {
            "quantity": 1,
            "price_data": {
                "currency": invoice.currency.lower(),
                "unit_amount": to_units(amount, invoice.currency),
                "product_data": {"name": f"Invoice {invoice.number}"},
            },
        }
        wanted: Any = {
            "mode": "payment",
            "line_items": [item],
            "client_reference_id": invoice.number,
            "payment_intent_data": {"metadata": ours, "description": f"Invoice {invoice.number}"},
            "success_url": paid_url,
            "cancel_url": back_url,
            "expires_at": int((now + PAGE_IS_GOOD_FOR).timestamp()),
        }
        if email:
            wanted["customer_email"] = email
        try:
            address = self._client.v1.checkout.sessions.create(wanted).url
        except stripe.StripeError as problem:
            logger.warning("Stripe made no page for %s: %s", invoice.number, problem)
            raise ProviderSilent("Stripe cannot take the payment now. Nothing was paid; try again later.") from problem
        if not address:
            raise ProviderSilent("Stripe named no page for the payment. Nothing was paid; try again later.")
        return address

    def read(self, body: bytes, headers: Mapping[str, str]) -> Paid | None:
        try:
            text, signature = body.decode(), headers.get("Stripe-Signature", "")
            stripe.WebhookSignature.verify_header(text, signature, self._webhook_secret, OLDEST_S)
        except (stripe.SignatureVerificationError, UnicodeDecodeError) as problem:
            raise Forged(str(problem)) from problem
        event = json.loads(text)
        intent = event["data"]["object"]
        ours = intent.get("metadata") or {}
        if event["type"] != PAID or "berth" not in ours:
            return None  # other events, and what the same Stripe account sells elsewhere
        if ours["berth"] != settings.BERTH_BASE_URL:
            _refuse_if_here(ours, intent["id"])
            return None
        currency = intent["currency"].upper()
        return Paid(
            invoice_number=str(ours.get("invoice", "")),
            amount=from_units(intent["amount_received"], currency),
            currency=currency,
            reference=intent["id"],
            at=datetime.fromtimestamp(event["created"], UTC),
        )


def _refuse_if_here(ours: Mapping[str, Any], reference: str) -> None:
    """Raises Strange for an invoice that is here, as after a change of BERTH_BASE_URL; else it is another Berth's."""
    number = str(ours.get("invoice", ""))
    if Invoice.objects.filter(number=number).exists():
        raise Strange(
            f"{reference} is for invoice {number}, which is here, but was paid through {ours['berth']}"
            f" and BERTH_BASE_URL is {settings.BERTH_BASE_URL}"
        )


def to_units(amount: Decimal, currency: str) -> int:
    """The amount in the smallest unit of the currency, as Stripe counts. Raises ProviderSilent for a part of one."""
    units = amount.scaleb(_decimals(currency))
    if units != int(units):
        raise ProviderSilent(f"{amount} {currency} cannot be paid by card: {currency} has no smaller coins.")
    return int(units)


def from_units(units: int, currency: str) -> Decimal:
    return Decimal(units).scaleb(-_decimals(currency))


def _decimals(currency: str) -> int:
    if currency in THOUSANDTHS:
        return 3
    return 0 if currency in WHOLE else 2
