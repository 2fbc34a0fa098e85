"""Which period somebody wants a report of."""

import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from compute.rollups import floor_to_hour
from monitoring.reports import LONGEST

_AGO = re.compile(r"([1-9][0-9]{0,3})([hdw])")
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
FIRST_YEAR = 2000


class NoSuchPeriod(ValueError):
    """The message says what is wrong with it, for people."""


def moment(text: str, now: datetime, zone: tzinfo) -> datetime:
    """7d, 24h or 2w ago, or 2026-11-01, or 2026-11-01T14:00 in the zone; the start of its UTC hour. NoSuchPeriod."""
    ago = _AGO.fullmatch(text)
    found = now - int(ago[1]) * _UNITS[ago[2]] if ago else _of_calendar(text, zone)
    return floor_to_hour(found)


def period(since: str, until: str, now: datetime, zone: tzinfo) -> tuple[datetime, datetime]:
    """In UTC, between whose hours the readings are; `until` empty is now, a day means up to its end. NoSuchPeriod."""
    now = now.astimezone(UTC)  # a day on which the clocks change is as long as it is
    first, last = moment(since, now, zone), now
    if until:
        last = moment(until, now, zone)
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", until):
            last = floor_to_hour(_of_calendar(str(date.fromisoformat(until) + timedelta(days=1)), zone))
    last = min(last, now)
    if first >= now:
        raise NoSuchPeriod(f"{since} is in the future.")
    if first >= last:
        raise NoSuchPeriod(f"{until} is not after {since}.")
    if last - first > LONGEST:
        raise NoSuchPeriod(f"A report is of {LONGEST.days} days at most.")
    return first, last


def last_week(now: datetime) -> tuple[datetime, datetime]:
    """From Monday to Monday, in UTC, before the week of now."""
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    monday = today - timedelta(days=today.weekday())
    return monday - timedelta(weeks=1), monday


def _of_calendar(text: str, zone: tzinfo) -> datetime:
    try:
        if "T" in text or " " in text:
            found = datetime.fromisoformat(text)
        else:
            found = datetime.combine(date.fromisoformat(text), time())
    except (ValueError, OverflowError):
        found = None
    if found is None or not FIRST_YEAR <= found.year <= 2999 or not re.match(r"\d{4}-\d{2}-\d{2}", text):
        raise NoSuchPeriod(f"{text!r} is no period such as 7d, 24h, 2026-11-01 or 2026-11-01T14:00.")
    return found if found.tzinfo else found.replace(tzinfo=zone)
