"""Times and numbers as somebody types them: nights in which clocks are set, and what no calendar or database holds."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client
from django.utils import timezone

from accounts.models import User
from reservations import offers
from reservations.booking_form import BookingForm
from reservations.models import WaitingEntry
from reservations.time_field import LocalTimeField
from tests.factories import (
    make_booking,
    make_node,
    make_profiles,
    make_reservation,
    make_service,
    make_user,
    workspace_of,
)

pytestmark = pytest.mark.django_db
FORM = {"service": "nginx", "size": "small", "duration": "60", "storage": "C1"}
BEFORE_SPRING = datetime(2027, 3, 27, 12, tzinfo=UTC)  # at 2:00 of the next day the clock is put to 3:00
EIGHT_HOURS = {"start": "2027-03-27T22:00", "end": "2027-03-28T07:00"}  # and nine on the wall
ZONES = pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "America/New_York"])


@pytest.fixture
def owner() -> User:
    make_node(ram_mib=8192, cores=8)
    make_profiles()
    make_service()
    return make_user("ada")


def browser_of(user: User, zone: str) -> Client:
    User.objects.filter(pk=user.pk).update(time_zone=zone)
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


# ---- clocks that are set --------------------------------------------------------------------------------------------
def test_the_price_that_is_shown_is_the_one_that_is_booked_when_clocks_are_put_forward(
    owner: User, settings: Any
) -> None:
    settings.BERTH_PRICE_PER_CORE_HOUR = Decimal("0.50")
    with timezone.override("Europe/Berlin"):
        form = BookingForm(FORM | EIGHT_HOURS, workspace=workspace_of(owner))
        shown = offers.quote(form, BEFORE_SPRING)
        booking = form.booking()
    row = make_reservation(owner, now=BEFORE_SPRING, start=booking.start, end=booking.end, size=booking.size)

    assert shown.length == row.length == timedelta(hours=8)
    assert shown.price == row.price == row.cores * 8 * Decimal("0.50")


def test_the_longest_time_is_counted_in_hours_that_pass(owner: User) -> None:
    workspace = workspace_of(owner)
    workspace.max_hours = 8
    with timezone.override("Europe/Berlin"):
        form = BookingForm(FORM | EIGHT_HOURS, workspace=workspace)

        assert not offers.quote(form, BEFORE_SPRING).problems


def test_of_a_time_that_comes_twice_the_first_is_meant() -> None:
    with timezone.override("Europe/Berlin"):
        found = LocalTimeField(example="").clean("2026-10-25T02:30")

    assert found == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


def test_a_time_that_is_skipped_is_refused_with_the_one_that_it_would_be() -> None:
    with timezone.override("Europe/Berlin"), pytest.raises(ValidationError) as refused:
        LocalTimeField(example="").clean("2027-03-28 02:30")

    [sentence] = refused.value.messages
    assert "there is no 2027-03-28 02:30 in Europe/Berlin. Type 2027-03-28 03:30" in sentence


@pytest.mark.parametrize("text", ["2026-13-40T10:00", "25:00", "2026-05", "\0", "😀" * 500])
def test_what_is_no_time_gets_an_example(text: str) -> None:
    with pytest.raises(ValidationError, match="such as 2026-05-04 10:00"):
        LocalTimeField(label="Start", example="2026-05-04 10:00").clean(text)


# ---- what no calendar and no database holds -------------------------------------------------------------------------
FAR = [
    {"start": "9999-12-31T23:59", "duration": "1440"},
    {"end": "9999-12-31T23:45"},
    {"start": "0001-01-01T00:00"},
    {"copies": "9" * 30},
    {"copies": "9" * 5000},
]


@ZONES
@pytest.mark.parametrize("typed", FAR, ids=["far start", "far end", "early start", "copies", "copies of 5000 digits"])
@pytest.mark.parametrize("page", ["new", "quote", "week", "waiting/join"])
def test_it_is_refused_with_a_sentence(page: str, typed: dict[str, str], zone: str, owner: User) -> None:
    answer = browser_of(owner, zone).post(f"/reservations/{page}/", FORM | typed)

    assert answer.status_code == (422 if page in {"new", "waiting/join"} else 200)


@ZONES
@pytest.mark.parametrize("deed", ["extend", "shorten"])
@pytest.mark.parametrize("end", ["9999-12-31T23:59", "9999-12-31T23:45", "0001-01-01T00:07"])
def test_an_end_that_nobody_means_is_refused_at_its_field(end: str, deed: str, zone: str, owner: User) -> None:
    row = make_reservation(owner, now=timezone.now())

    answer = browser_of(owner, zone).post(f"/reservations/{row.pk}/{deed}/", {"minutes": "exact", "end": end})

    assert answer.status_code == 422
    assert "Type a year between" in str(answer.context["form"].errors["end"])


def test_a_far_start_has_no_quote_but_a_sentence(owner: User) -> None:
    booking = make_booking(start=datetime(9999, 12, 31, 23, tzinfo=UTC), length=timedelta(hours=10))

    assert "days ahead" in offers.quote_booking(booking, workspace_of(owner), timezone.now()).problems["start"]


# ---- the waiting list -----------------------------------------------------------------------------------------------
def test_several_copies_do_not_become_one_in_the_waiting_list(owner: User) -> None:
    answer = browser_of(owner, "UTC").post("/reservations/waiting/join/", FORM | {"copies": "3"})

    assert answer.status_code == 422
    assert "one copy" in str(answer.context["form"].errors["copies"])
    assert not WaitingEntry.objects.exists()
