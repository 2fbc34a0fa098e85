"""The seam to whoever takes card payments: which one is switched on, and what each must do."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from django.conf import settings

from billing.models import Invoice


class Forged(Exception):
    """A message that the provider did not send, or sent too long ago."""


class Strange(Exception):
    """A true message about money for an invoice of ours that cannot be entered as it is; it is to come again."""


class ProviderSilent(Exception):
    """The provider gave no usable answer; nothing was paid. The sentence is for the customer."""


@dataclass(frozen=True, slots=True)
class Paid:
    """Money that the provider has taken. `reference` names it for good: the same event again has the same one."""

    invoice_number: str
    amount: Decimal
    currency: str
    reference: str
    at: datetime


class Provider(Protocol):
    """`method` is what its payments are recorded under (billing.models.Payment.Method)."""

    method: str

    def checkout(
        self, *, invoice: Invoice, amount: Decimal, email: str, paid_url: str, back_url: str, now: datetime
    ) -> str:
        """The address at which the customer pays. Raises ProviderSilent. Nothing is paid until `read` says so."""
        ...

    def read(self, body: bytes, headers: Mapping[str, str]) -> Paid | None:
        """What a message of the provider says was paid; None: none of ours. Raises Forged, Strange."""
        ...


def active() -> Provider | None:
    """The provider that the settings switch on; None: payments come by bank only."""
    if not settings.BERTH_STRIPE_SECRET_KEY:
        return None
    from billing.stripe_checkout import Stripe  # the library is loaded only where it is used

    return Stripe(settings.BERTH_STRIPE_SECRET_KEY, settings.BERTH_STRIPE_WEBHOOK_SECRET, settings.BERTH_STRIPE_API)
