"""The booking form: parses what was typed into a Booking, with a sentence at each field."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

from django import forms
from django.conf import settings
from django.utils import timezone

from accounts.models import Workspace
from accounts.validators import no_control_characters
from reservations import extending
from reservations.actions import Booking
from reservations.amounts import money
from reservations.models import Reservation, Service, Size, StorageProfile, WorkspaceVolume

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


class BookingForm(forms.Form):
    """Fields in the order in which a person decides. Empty `start` means now."""

    service = forms.ModelChoiceField(
        Service.objects.none(),
        to_field_name="slug",
        widget=forms.RadioSelect,
        empty_label=None,
        error_messages={"required": "Choose a service.", "invalid_choice": "There is no such service."},
    )
    size = forms.ModelChoiceField(
        Size.objects.none(),
        to_field_name="slug",
        widget=forms.RadioSelect,
        empty_label=None,
        error_messages={"required": "Choose a size.", "invalid_choice": "There is no such size."},
    )
    name = forms.CharField(
        max_length=60, required=False, validators=[no_control_characters], help_text="Yours to recognise it by."
    )
    start = forms.DateTimeField(
        required=False,
        input_formats=["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S"],
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        error_messages={"invalid": "Type the start as date and time, such as 2026-05-04 10:00."},
    )
    duration = forms.TypedChoiceField(
        coerce=int,
        error_messages={"required": "Choose a duration.", "invalid_choice": "This duration is not offered."},
    )
    storage = forms.ModelChoiceField(
        StorageProfile.objects.filter(active=True),
        widget=forms.RadioSelect,
        empty_label=None,
        error_messages={"required": "Choose where the data lives.", "invalid_choice": "There is no such profile."},
    )
    storage_gb = forms.IntegerField(label="Storage (GB)", required=False, min_value=1, max_value=10_000)
    volume = forms.ModelChoiceField(
        WorkspaceVolume.objects.none(),
        required=False,
        label="Kept volume",
        empty_label="a new one",
        error_messages={"invalid_choice": "There is no such volume in this workspace."},
    )

    def __init__(self, *args: Any, workspace: Workspace, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.workspace = workspace
        fields = self.fields
        fields["service"].queryset = Service.objects.filter(active=True)  # type: ignore[attr-defined]
        fields["size"].queryset = Size.objects.filter(active=True)  # type: ignore[attr-defined]
        fields["volume"].queryset = (  # type: ignore[attr-defined]
            WorkspaceVolume.objects.present().filter(workspace=workspace).select_related("volume")
        )
        fields["duration"].choices = duration_choices(workspace.max_hours)  # type: ignore[attr-defined]
        fields["duration"].initial = 60
        fields["storage"].initial = StorageProfile.Code.C1
        zone = timezone.get_current_timezone_name()
        fields["start"].help_text = f"Empty: as soon as it is booked. Times are {zone}."

    def booking(self) -> Booking:
        """What was asked for; only after is_valid()."""
        data = self.cleaned_data
        return Booking(
            service=data["service"],
            size=data["size"],
            name=data["name"],
            start=data["start"],
            length=timedelta(minutes=data["duration"]),
            storage=data["storage"],
            storage_gb=data["storage_gb"],
            volume=data["volume"],
        )


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
