"""Calendar months and days in a time zone, as half-open stretches of real time. Pure."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

Stretch = tuple[datetime, datetime]


def month_of(instant: datetime, zone: ZoneInfo) -> date:
    """The first day of the month that `instant` lies in."""
    return instant.astimezone(zone).date().replace(day=1)


def following(month: date) -> date:
    """The month after. Raises OverflowError after the last one that a date can have."""
    year, index = divmod(month.year * 12 + month.month, 12)
    if year > date.max.year:
        raise OverflowError("there is no month after the year 9999")
    return date(year, index + 1, 1)


def previous(month: date) -> date:
    return (month - timedelta(days=1)).replace(day=1)


def begin(day: date, zone: ZoneInfo) -> datetime:
    """When the day begins there, in UTC. Where midnight does not exist, the first instant after it."""
    at = datetime(day.year, day.month, day.day, tzinfo=zone)
    # Through UTC: an hour that the clocks skip becomes the instant at which they skip it.
    return at.astimezone(ZoneInfo("UTC"))


def stretch(month: date, zone: ZoneInfo) -> Stretch:
    """The month as [begin, begin of the next one)."""
    return begin(month, zone), begin(following(month), zone)


def months(start: datetime, end: datetime, zone: ZoneInfo) -> Iterator[date]:
    """The months that [start, end) touches, oldest first; none when it is empty."""
    month = month_of(start, zone)
    while begin(month, zone) < end and start < end:
        yield month
        month = following(month)


def through(first: date, last: date) -> list[date]:
    """The months from `first` to `last`, both included, oldest first; none when the last is before the first."""
    found = []
    while first <= last:
        found.append(first)
        first = following(first)
    return found


def days(start: datetime, end: datetime, zone: ZoneInfo) -> Iterator[date]:
    """The days that [start, end) touches, oldest first; none when it is empty."""
    day = start.astimezone(zone).date()
    while begin(day, zone) < end and start < end:
        yield day
        day += timedelta(days=1)
