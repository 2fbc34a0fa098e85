"""What can be done to money in the admin: each a form and one call of an action."""

from datetime import datetime
from typing import Any

from django import forms
from django.contrib.admin import site
from django.contrib.admin.widgets import AutocompleteSelect
from django.http import HttpRequest
from django.utils import timezone

from accounts.models import Workspace
from billing import actions, payments
from billing.admin_pages import AmountForm, Deed, DeedForm, ReasonForm
from billing.models import BillingAccount, Discount, Invoice, LedgerEntry, Payment, Rate
from billing.pricing import Rounding

PAY, ENTER = "billing.add_payment", "billing.add_ledgerentry"
CHANGE_ACCOUNT = "billing.change_billingaccount"
IN_YOUR_ZONE = "In your time zone. Empty: now."
UNTIL_FURTHER_NOTICE = "Empty: until further notice."
REPLACE = "Let the one that holds at that time end when this one begins."


def a_time(**options: Any) -> forms.DateTimeField:
    widget = forms.DateTimeInput(attrs={"type": "datetime-local"})
    return forms.DateTimeField(required=False, widget=widget, **options)


def a_workspace(model: type[Rate] | type[Discount], **options: Any) -> "forms.ModelChoiceField[Workspace]":
    """Found by typing: a list of all of them would be the page's whole length."""
    widget = AutocompleteSelect(model._meta.get_field("workspace"), site)
    return forms.ModelChoiceField(Workspace.objects.all(), widget=widget, **options)


class RateForm(forms.Form):
    workspace = a_workspace(Rate, required=False, help_text="Empty: the list price, for everybody.")
    per_core_hour = forms.DecimalField()
    per_gib_hour = forms.DecimalField(label="Per GiB of RAM and hour", initial=0)
    per_gb_month = forms.DecimalField(label="Per GB of stored volume and month", initial=0)
    rounding = forms.ChoiceField(choices=[(mode.value, f"per {mode}") for mode in Rounding])
    start = a_time(help_text=IN_YOUR_ZONE)
    end = a_time(help_text=UNTIL_FURTHER_NOTICE)
    replace = forms.BooleanField(required=False, help_text=REPLACE)


class DiscountForm(forms.Form):
    workspace = a_workspace(Discount)
    percent = forms.DecimalField()
    reason = forms.CharField(max_length=200)
    start = a_time(help_text=IN_YOUR_ZONE)
    end = a_time(help_text=UNTIL_FURTHER_NOTICE)
    replace = forms.BooleanField(required=False, help_text=REPLACE)


class EndForm(forms.Form):
    end = a_time(help_text=IN_YOUR_ZONE)


class NoForm(forms.Form):
    """A button is all of it."""


class LimitForm(forms.Form):
    credit_limit = forms.DecimalField(
        required=False, help_text="Tax and running bookings included. 0: prepaid. Empty: no limit."
    )


class PaymentForm(DeedForm):
    amount = forms.DecimalField()
    method = forms.ChoiceField(choices=[choice for choice in Payment.Method.choices if choice[0] != "stripe"])
    reference = forms.CharField(max_length=100, help_text="What the bank's statement says; each comes once.")
    received_on = forms.DateField(widget=forms.DateInput(attrs={"type": "date"}))


class CorrectionForm(AmountForm):
    amount = forms.DecimalField(
        help_text="What is taken off, without tax. Below zero: put back of what was taken off before."
    )


def begin_rate(request: HttpRequest, values: dict[str, Any]) -> str:
    rate = actions.set_rate(by=request.user, now=timezone.now(), **values)
    return f"{rate}, from {rate.during.lower:%Y-%m-%d %H:%M %Z}."


def begin_discount(request: HttpRequest, values: dict[str, Any]) -> str:
    return f"{actions.set_discount(by=request.user, now=timezone.now(), **values)}."


def _end(row: Any, request: HttpRequest, values: dict[str, Any]) -> str:
    now = timezone.now()
    at: datetime = values["end"] or now
    actions.end_price(price=row, at=at, by=request.user, now=now)
    return f"It ends at {at:%Y-%m-%d %H:%M %Z}."


def _delete(row: Rate | Discount, request: HttpRequest, values: dict[str, Any]) -> str:
    # The row's page is still what the admin goes back to, and it tells that the row is gone.
    actions.delete_price(price=row, by=request.user, now=timezone.now())
    return "It is taken back."


def _limit(row: BillingAccount, request: HttpRequest, values: dict[str, Any]) -> str:
    actions.set_credit_limit(workspace=row.workspace, by=request.user, **values)
    return "The limit holds from the next booking on."


def _grant(row: BillingAccount, request: HttpRequest, values: dict[str, Any]) -> str:
    entry = payments.grant_credit(workspace=row.workspace, by=request.user, now=timezone.now(), **values)
    left = payments.available_credit(row.workspace_id)
    return f"Granted {-entry.amount} {entry.currency}; {left} of the credit are not used yet."


def _take_back(row: LedgerEntry, request: HttpRequest, values: dict[str, Any]) -> str:
    entry = payments.take_back_credit(entry=row, by=request.user, now=timezone.now(), **values)
    return f"Taken back {entry.amount} {entry.currency}."


def _correct(row: LedgerEntry, request: HttpRequest, values: dict[str, Any]) -> str:
    entry = payments.correct(entry=row, by=request.user, now=timezone.now(), **values)
    return f"Entered a correction of {entry.amount} {entry.currency}; it goes to the next invoice."


def _pay(row: Invoice, request: HttpRequest, values: dict[str, Any]) -> str:
    values.pop("once")  # the reference does that
    payments.record_payment(invoice=row, by=request.user, now=timezone.now(), **values)
    return f"Recorded. {payments.open_amount(row)} {row.currency} are open."


def _reverse(row: Payment, request: HttpRequest, values: dict[str, Any]) -> str:
    payments.reverse_payment(payment=row, reason=values["reason"], by=request.user, now=timezone.now())
    return f"Reversed. {payments.open_amount(row.invoice)} {row.invoice.currency} of {row.invoice} are open."


def _not_begun(row: Rate | Discount) -> bool:
    return bool(row.during.lower > timezone.now())


OF_A_RATE = [
    Deed("end", "End it", EndForm, "billing.change_rate", _end),
    Deed("take-back", "Take it back", NoForm, "billing.delete_rate", _delete, offered=_not_begun),
]
OF_A_DISCOUNT = [
    Deed("end", "End it", EndForm, "billing.change_discount", _end),
    Deed("take-back", "Take it back", NoForm, "billing.delete_discount", _delete, offered=_not_begun),
]
OF_AN_ACCOUNT = [
    Deed("credit", "Grant credit", AmountForm, ENTER, _grant),
    Deed(
        "limit",
        "Set the credit limit",
        LimitForm,
        CHANGE_ACCOUNT,
        _limit,
        initial=lambda row: {"credit_limit": row.credit_limit},
    ),
]
OF_AN_ENTRY = [
    Deed(
        "correct",
        "Correct this charge",
        CorrectionForm,
        ENTER,
        _correct,
        offered=lambda row: row.kind == LedgerEntry.Kind.CHARGE,
    ),
    Deed(
        "take-back",
        "Take this credit back",
        ReasonForm,
        ENTER,
        _take_back,
        offered=lambda row: row.kind == LedgerEntry.Kind.CREDIT,
    ),
]
OF_AN_INVOICE = [
    Deed(
        "payment",
        "Record a payment",
        PaymentForm,
        PAY,
        _pay,
        offered=lambda row: payments.open_amount(row) > 0,
        initial=lambda row: {"amount": payments.open_amount(row), "received_on": timezone.localdate()},
    )
]
OF_A_PAYMENT = [
    Deed(
        "reverse",
        "Reverse it",
        ReasonForm,
        PAY,
        _reverse,
        offered=lambda row: not LedgerEntry.objects.filter(corrects=row.entry_id).exists(),
    )
]
