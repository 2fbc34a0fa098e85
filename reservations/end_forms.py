"""How much later or earlier a reservation shall end: one of the lengths that fit, or an exact end."""

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.utils import timezone

from reservations.extending import END_CHANGED
from reservations.time_field import LocalTimeField

EXACT = "exact"
LONGEST_MINUTES = 10_000_000
MINUTE = timedelta(minutes=1)


class EndForm(forms.Form):
    """`length` is in the cleaned data of a valid one: how much the end moves, more than nothing.

    Whether that much fits is for the action to say. A subclass names the direction.
    """

    sign = 1
    too_far = ""

    minutes = forms.CharField(required=False, max_length=20)
    end = LocalTimeField(label="New end", example="2026-05-04 10:00")

    # The end that was on the page: a second click, or a page that is old, moves no end that nobody has seen.
    seen = forms.CharField(required=False, max_length=40, widget=forms.HiddenInput)

    def __init__(self, *args: Any, old_end: datetime, chosen: str = "60", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.old_end = old_end
        self.initial_choice = chosen
        zone = timezone.get_current_timezone_name()
        step = settings.BERTH_STEP_MINUTES
        self.fields["end"].help_text = f"A multiple of {step} minutes from today's end. Times are {zone}."

    @property
    def chosen(self) -> str:
        """The choice that is marked on the page."""
        return str(self.data.get("minutes", "")) if self.is_bound else self.initial_choice

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        minutes, end = data.get("minutes", ""), data.get("end")
        if data.get("seen", "") not in {"", self.old_end.isoformat()}:
            self.add_error(None, END_CHANGED)
        if self.errors:
            return data
        if minutes == EXACT:
            if end is None:
                self.add_error("end", "Type the new end, or choose one of the lengths.")
            else:
                self._take(data, end)
        elif end is not None:
            self.add_error("end", "Choose “at an exact time” to use this end, or empty the field.")
        elif not minutes:
            self.add_error("minutes", "Choose how long.")
        elif not _offered(minutes):
            self.add_error("minutes", "This length is not offered.")
        else:
            data["length"] = int(minutes) * MINUTE
        return data

    def _take(self, data: dict[str, Any], end: datetime) -> None:
        """What was typed has no seconds, and an end may have: it is meant when its minute is typed."""
        step = timedelta(minutes=settings.BERTH_STEP_MINUTES)
        length = self.sign * (end.replace(second=0, microsecond=0) - self.old_end.replace(second=0, microsecond=0))
        if length <= timedelta(0):
            self.add_error("end", self.too_far)
        elif length % step:
            near = [self.old_end + self.sign * steps * step for steps in (length // step, length // step + 1)]
            words = " or ".join(_clock(found) for found in sorted(near) if found != self.old_end)
            self.add_error("end", f"Ends are {settings.BERTH_STEP_MINUTES} minutes apart: {words} would do.")
        else:
            data["length"] = length


class LaterForm(EndForm):
    """For extending."""

    too_far = "It ends then already, or later; type an end after that."


class EarlierForm(EndForm):
    """For shortening."""

    sign = -1
    too_far = "It ends then or earlier as it is; type an end before that."


def _offered(minutes: str) -> bool:
    """Whether it is a whole number of steps that anybody could mean."""
    if not (minutes.isascii() and minutes.isdecimal() and int(minutes) <= LONGEST_MINUTES):
        return False
    return int(minutes) > 0 and int(minutes) % settings.BERTH_STEP_MINUTES == 0


def _clock(at: datetime) -> str:
    return f"{timezone.localtime(at):%Y-%m-%d %H:%M}"
