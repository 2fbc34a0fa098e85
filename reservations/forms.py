"""Durations that are offered, in words."""

from django.conf import settings

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
