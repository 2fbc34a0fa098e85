"""What cannot be entered as a payment, credit or correction, and the sentence that tells why."""

import unicodedata
from datetime import date, datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.core.exceptions import ValidationError

from accounts.validators import no_control_characters
from billing.models import BillingAccount, Invoice, Payment
from billing.models.account import MOST
from billing.pricing import CENT

LONGEST_REFERENCE = 100  # it is part of the ledger entry's key
LONGEST_REASON = 200
A_YEAR = timedelta(days=366)


class Refused(Exception):
    """What cannot be entered; `problems` has a sentence for each field ("" is none in particular)."""

    code = "refused"

    def __init__(self, field: str, sentence: str) -> None:
        self.problems = {field: sentence}
        super().__init__(sentence)


def check_amount(amount: Decimal) -> None:
    if not amount.is_finite() or amount <= 0:
        raise Refused("amount", "An amount must be more than zero.")
    if amount > MOST:
        raise Refused("amount", f"An amount is at most {MOST:,}.")
    if amount % CENT:
        raise Refused("amount", "An amount has at most two decimal places.")


def checked_reference(method: str, reference: str) -> str:
    """As it is kept: blanks between words count once."""
    if method not in Payment.Method.values:
        raise Refused("method", f"{method!r} is not one of {', '.join(Payment.Method.values)}.")
    reference = _line("reference", reference)
    if not reference:
        raise Refused("reference", "Say the reference of the payment, so that it is not recorded twice.")
    if len(reference) > LONGEST_REFERENCE:
        raise Refused("reference", f"A reference has at most {LONGEST_REFERENCE} characters.")
    return reference


def checked_reason(reason: str) -> str:
    reason = _line("reason", reason)
    if not reason:
        raise Refused("reason", "Say why: the customer reads it in the ledger.")
    if len(reason) > LONGEST_REASON:
        raise Refused("reason", f"A reason has at most {LONGEST_REASON} characters.")
    return reason


def _line(field: str, text: str) -> str:
    text = unicodedata.normalize("NFC", " ".join(text.split()))
    try:
        no_control_characters(text)
    except ValidationError as problem:
        raise Refused(field, " ".join(problem.messages)) from problem
    return text


def check_currency(account: BillingAccount, invoice: Invoice, currency: str) -> None:
    if currency and currency.upper() != invoice.currency:
        raise Refused("amount", f"{invoice} is in {invoice.currency}, not in {currency.upper()}.")
    if invoice.currency != account.currency:
        raise Refused("invoice", f"{invoice} is in {invoice.currency}, and the account in {account.currency}.")


def check_kept(account: BillingAccount, currency: str) -> None:
    """Nothing is entered in today's currency for what was entered in another one."""
    if account.currency != currency:
        raise Refused("", f"That was entered in {currency}, and the account is kept in {account.currency} now.")
    if currency != settings.BERTH_CURRENCY:
        raise Refused("", f"That was entered in {currency}, and BERTH_CURRENCY is {settings.BERTH_CURRENCY} now.")


def check_day(account: BillingAccount, invoice: Invoice, received_on: date, now: datetime) -> None:
    if received_on > now.astimezone(account.zone).date():
        raise Refused("received_on", "The day it was received is in the future.")
    if received_on < invoice.month - A_YEAR:
        raise Refused("received_on", "That is more than a year before what the invoice is for; is the year right?")
