"""Durations that are offered, and the form to extend by one of them."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

from django import forms
from django.conf import settings
from django.utils import timezone

from reservations import extending
from reservations.amounts import money
from reservations.models import Reservation

COMMON_MINUTES = [15, 30, 60, 120, 240, 480, 720, 1440, 2880, 4320, 10_080, 20_160, 43_200]


def duration_choices(longest_hours: int) -> list[tuple[int, str]]:
    """The common durations that are multiples of the step and within the quota, in minutes."""
    step = settings.BERTH_STEP_MINUTES
    minutes = [m for m in COMMON_MINUTES if m % step == 0 and m <= longest_hours * 60] or [step]
    return [(m, _duration_text(m)) for m in minutes]


def _duration_text(minutes: int) -> str:
    for size, word in ((1440, "day"), (60, "hour")):
        if minutes % size == 0:
            number = minutes // size
            return f"{number} {word}{'s' if number > 1 else ''}"
    return f"{minutes} minutes"


class ExtensionForm(forms.Form):
    """How much later a reservation shall end, each choice with what it adds to the price."""

    minutes = forms.TypedChoiceField(
        label="Extend by",
        coerce=int,
        error_messages={"required": "Choose how long.", "invalid_choice": "This length is not offered."},
    )

    def __init__(self, *args: Any, reservation: Reservation, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        booked = reservation.end - max(timezone.now(), reservation.start)
        left_hours = max(reservation.workspace.max_hours - int(booked / timedelta(hours=1)), 0)
        choices = [
            (minutes, f"{text} (+{money(self._more(reservation, minutes))})")
            for minutes, text in duration_choices(left_hours)
        ]
        self.fields["minutes"].choices = choices  # type: ignore[attr-defined]
        self.fields["minutes"].initial = 60 if 60 in dict(choices) else choices[0][0]

    @staticmethod
    def _more(reservation: Reservation, minutes: int) -> Decimal:
        end = reservation.end + timedelta(minutes=minutes)
        return extending.quoted(reservation, end).price - reservation.price
