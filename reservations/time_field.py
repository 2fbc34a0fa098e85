"""A date and time as somebody types it, in their own zone."""

from datetime import UTC, datetime
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.dateparse import parse_datetime

FIRST_YEAR, LAST_YEAR = 1971, 2200  # what nobody means is refused before anything is added to it


class LocalTimeField(forms.DateTimeField):
    """Its value is in UTC: Python subtracts two times of one zone by the wall's clock, whatever happens between them.

    Of a time that comes twice (clocks are put back) the first is meant; one that is skipped is refused.
    """

    default_error_messages = {
        "far": "Type a year between %(first)s and %(last)s.",
        "skipped": "Clocks are put forward then: there is no %(typed)s in %(zone)s. Type %(instead)s, or another time.",
    }

    def __init__(self, *, example: str, **options: Any) -> None:
        label = options.get("label", "time").lower()
        super().__init__(
            required=False,
            input_formats=["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S"],
            widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
            error_messages={"invalid": f"Type the {label} as date and time, such as {example}."},
            **options,
        )

    def to_python(self, value: Any) -> datetime | None:
        if value in self.empty_values:
            return None
        typed = self._parse(str(value).strip())
        if not FIRST_YEAR <= typed.year <= LAST_YEAR:
            words: dict[str, object] = {"first": FIRST_YEAR, "last": LAST_YEAR}
            raise ValidationError(self.error_messages["far"], code="far", params=words)
        if typed.tzinfo is not None:
            return typed.astimezone(UTC)
        zone = timezone.get_current_timezone()
        meant = typed.replace(tzinfo=zone).astimezone(UTC)
        shown = meant.astimezone(zone).replace(tzinfo=None)
        if shown != typed:
            words = {"typed": _clock(typed), "zone": timezone.get_current_timezone_name(), "instead": _clock(shown)}
            raise ValidationError(self.error_messages["skipped"], code="skipped", params=words)
        return meant

    def _parse(self, text: str) -> datetime:
        try:
            found = parse_datetime(text)
        except ValueError:  # well formed, but there is no such day or hour
            found = None
        if found is None:
            for form in self.input_formats:
                try:
                    return datetime.strptime(text, str(form))  # noqa: DTZ007 - the zone comes next
                except ValueError:
                    continue
            raise ValidationError(self.error_messages["invalid"], code="invalid")
        return found


def _clock(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}"
