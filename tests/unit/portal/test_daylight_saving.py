"""Pages and API in the nights in which clocks are set: what a reader in Berlin types and sees."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone

from accounts.models import User, Workspace
from reservations.models import Reservation

pytestmark = pytest.mark.django_db
BERLIN = ZoneInfo("Europe/Berlin")
FORM = {"service": "nginx", "size": "small", "duration": "240", "storage": "C1", "name": ""}


def _night(month: int) -> datetime:
    """The next last Sunday of the month, at midnight: when clocks are set in the European Union."""
    year = timezone.now().year
    days = [datetime(y, month, day, tzinfo=UTC) for y in (year, year + 1) for day in range(25, 32)]
    return next(day for day in days if day.weekday() == 6 and day > timezone.now() + timedelta(days=2))


@pytest.fixture
def in_berlin(browser: Any, owner: User) -> Any:
    Workspace.objects.update(max_days_ahead=500)
    client = browser(owner)
    client.cookies["berth_zone"] = "Europe/Berlin"
    return client


@pytest.mark.parametrize(
    ("month", "begins", "ends"),
    [
        pytest.param(3, "01:00 CET", "06:00 CEST", id="spring"),
        pytest.param(10, "01:00 CEST", "04:00 CET", id="autumn"),
    ],
)
def test_four_hours_are_four_hours(month: int, begins: str, ends: str, in_berlin: Any, api: Any) -> None:
    night = _night(month)
    answer = in_berlin.post("/reservations/new/", FORM | {"start": f"{night:%Y-%m-%d}T01:00"})
    assert answer.status_code == 302, answer.context["form"].errors

    row = Reservation.objects.get()
    page = in_berlin.get(answer["Location"]).content.decode()
    said = api("GET", f"/reservations/{row.pk}").json()

    assert row.end - row.start == timedelta(hours=4)
    assert f"{night.day} {night:%b %Y}, {begins}" in page
    assert f"{night.day} {night:%b %Y}, {ends}" in page
    start, end = (datetime.fromisoformat(said[edge]) for edge in ("start", "end"))
    assert end.astimezone(UTC) - start.astimezone(UTC) == timedelta(hours=4)
    assert start.astimezone(BERLIN).strftime("%H:%M %Z") == begins
    assert end.astimezone(BERLIN).strftime("%H:%M %Z") == ends


def test_a_time_that_is_skipped_is_refused_with_the_one_it_would_be(in_berlin: Any) -> None:
    answer = in_berlin.post("/reservations/new/", FORM | {"start": f"{_night(3):%Y-%m-%d}T02:30"})

    assert answer.status_code == 422
    assert f"Type {_night(3):%Y-%m-%d} 03:30, or another time." in str(answer.context["form"].errors["start"])
    assert not Reservation.objects.exists()


def test_of_a_time_that_comes_twice_the_first_is_meant(in_berlin: Any) -> None:
    answer = in_berlin.post("/reservations/new/", FORM | {"start": f"{_night(10):%Y-%m-%d}T02:30"})

    assert answer.status_code == 302
    assert Reservation.objects.get().start.astimezone(BERLIN).strftime("%H:%M %Z") == "02:30 CEST"


@pytest.mark.parametrize("month", [3, 10])
def test_the_api_takes_any_offset(month: int, in_berlin: Any, api: Any) -> None:
    start = (_night(month) + timedelta(minutes=30)).replace(tzinfo=UTC)
    body = {"service": "nginx", "size": "small", "storage": "C1", "hours": 3}

    for offset in (0, 1, 2):
        local = start.astimezone(timezone.get_fixed_timezone(timedelta(hours=offset)))
        said = api("POST", "/reservations", body | {"start": local.isoformat()}).json()
        assert datetime.fromisoformat(said["start"]) == start
        assert datetime.fromisoformat(said["end"]) == start + timedelta(hours=3)
