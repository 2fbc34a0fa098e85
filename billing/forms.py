"""What a reader filters the ledger by, and an owner says of the account."""

from collections.abc import Iterable
from datetime import date, datetime
from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db.models import Q

from accounts import dates
from accounts.validators import no_control_characters, time_zones
from billing.models import BillingAccount, LedgerEntry
from billing.models.ledger import LedgerEntryQuerySet

FIRST_YEAR, LAST_YEAR = 2000, 2999


def parse_month(text: str) -> date:
    """The first day of a month that is written as 2026-05. Raises ValueError."""
    month = datetime.strptime(text, "%Y-%m").date()  # noqa: DTZ007 - a month of the calendar, in no zone
    if len(text) != len("2026-05") or not FIRST_YEAR <= month.year <= LAST_YEAR:
        raise ValueError(f"{text!r} is not a month")
    return month


class LedgerFilter(forms.Form):
    """Which entries; empty is all of them. The page, its CSV and the API read the same words."""

    kind = forms.ChoiceField(
        required=False,
        choices=[("", "All kinds"), *LedgerEntry.Kind.choices],
        widget=forms.Select(attrs={"class": "form-select"}),
        error_messages={"invalid_choice": "There is no such kind."},
    )
    month = forms.CharField(required=False)
    reservation = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=2**63 - 1,
        widget=forms.NumberInput(attrs={"class": "form-control", "min": 1}),
    )
    q = forms.CharField(
        required=False,
        max_length=100,
        label="Text",
        widget=forms.TextInput(attrs={"class": "form-control", "type": "search"}),
    )
    entry = forms.IntegerField(required=False, min_value=1, max_value=2**63 - 1, widget=forms.HiddenInput)

    def offer(self, found: Iterable[date]) -> None:
        """Let the month be chosen from these."""
        choices = [("", "All months"), *((f"{month:%Y-%m}", dates.written(month, "month")) for month in found)]
        self.fields["month"].widget = forms.Select(attrs={"class": "form-select"}, choices=choices)

    def clean_month(self) -> date | None:
        text = str(self.cleaned_data["month"])
        if not text:
            return None
        try:
            return parse_month(text)
        except ValueError:
            raise ValidationError("Write the month as 2026-05.") from None

    def apply(self, rows: LedgerEntryQuerySet) -> LedgerEntryQuerySet:
        """Those that were asked for; none when what was asked for cannot be."""
        if not self.is_valid():
            return rows.none()
        chosen = self.cleaned_data
        for name in ("kind", "month", "reservation"):
            if chosen[name]:
                rows = rows.filter(**{name: chosen[name]})
        if chosen["q"]:
            rows = rows.filter(text__icontains=chosen["q"])
        if chosen["entry"]:  # with what corrects it
            rows = rows.filter(Q(pk=chosen["entry"]) | Q(corrects=chosen["entry"]))
        return rows

    @property
    def is_used(self) -> bool:
        return any(self.data.get(name) for name in self.fields)


class RecipientForm(forms.ModelForm[BillingAccount]):
    """To whom bills go."""

    class Meta:
        model = BillingAccount
        fields = ("recipient", "address", "tax_number", "email", "time_zone")
        widgets = {"address": forms.Textarea(attrs={"rows": 4})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        usual = f"As the installation has it ({settings.BERTH_BILLING_TIME_ZONE})"
        choices = [("", usual), *((name, name) for name in sorted(time_zones()))]
        self.fields["time_zone"] = forms.ChoiceField(
            required=False,
            choices=choices,
            help_text="Where your months begin and end.",
            error_messages={"invalid_choice": "There is no such time zone."},
        )

    def clean_address(self) -> str:
        lines = [line.rstrip() for line in str(self.cleaned_data["address"]).splitlines()]
        for line in lines:
            no_control_characters(line)
        return "\n".join(lines).strip()


class SpendingForm(forms.ModelForm[BillingAccount]):
    """How much may be spent."""

    class Meta:
        model = BillingAccount
        fields = ("monthly_budget", "hard_stop")
        labels = {"hard_stop": "Refuse bookings that would go over the budget"}
        help_texts = {"hard_stop": "What is booked already is never ended by it."}

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("hard_stop") and data.get("monthly_budget") is None and "monthly_budget" not in self.errors:
            self.add_error("hard_stop", "Set a budget first: without one there is nothing to stop at.")
        return data
