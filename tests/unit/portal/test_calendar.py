"""The calendar on a page, and its feed at a secret address."""

import base64
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from icalendar import Calendar

from accounts.models import AuditEntry, User, Workspace
from portal.logs import HIDDEN, hide
from reservations import calendar_feed
from reservations.models import Reservation
from reservations.views.calendar import AGENDA_LINES
from tests.factories import make_reservation

pytestmark = pytest.mark.django_db
FEED = "/reservations/calendar/feed/"


def address_of(user: User) -> str:
    calendar_feed.open_(user=user)
    user.refresh_from_db()
    assert user.calendar_key
    return f"/reservations/calendar/{calendar_feed.secret_of(user.calendar_key)}.ics"


def events_at(address: str) -> list[Any]:
    """As a calendar program reads them: it is logged in nowhere."""
    answer = Client().get(address)
    assert answer.status_code == 200
    assert answer["Content-Type"] == "text/calendar; charset=utf-8"
    return list(Calendar.from_ical(answer.content).walk("VEVENT"))


@pytest.fixture
def booked(owner: User) -> Reservation:
    return make_reservation(owner, now=timezone.now(), name="blue, yellow; and 🟢")


def test_a_calendar_program_reads_what_its_owner_sees(owner: User, other: User, booked: Reservation) -> None:
    make_reservation(other, now=timezone.now(), name="not theirs")

    (event,) = events_at(address_of(owner))

    assert event["summary"] == "blue, yellow; and 🟢 (nginx)"
    assert event["dtstart"].dt == booked.start.replace(microsecond=0)
    assert event["dtend"].dt == booked.end.replace(microsecond=0)
    assert str(event["uid"]).startswith(str(booked.key))
    assert str(event["url"]).endswith(f"/reservations/{booked.pk}/")


def test_no_credential_is_in_it(owner: User, booked: Reservation) -> None:
    text = Client().get(address_of(owner)).content.decode().replace("\r\n ", "")

    assert booked.credentials["password"] not in text


def test_an_event_stays_the_same_one_and_is_called_off_when_it_never_ran(owner: User, booked: Reservation) -> None:
    address = address_of(owner)
    (before,) = events_at(address)
    Reservation.objects.filter(pk=booked.pk).update(state="ended", ended_at=timezone.now())
    (after,) = events_at(address)

    assert before["uid"] == after["uid"]
    assert (before["status"], after["status"]) == ("CONFIRMED", "CANCELLED")


@pytest.mark.parametrize("change", [{"is_active": False}, {"closed_at": timezone.now()}], ids=["off", "deleted"])
def test_the_address_of_a_deleted_user_is_nobodys(change: dict[str, Any], owner: User, booked: Reservation) -> None:
    address = address_of(owner)
    User.objects.filter(pk=owner.pk).update(**change)

    assert Client().get(address).status_code == 404


def test_a_renewed_or_closed_address_is_nobodys(owner: User, browser: Any) -> None:
    first = address_of(owner)
    browser(owner).post(FEED, {"deed": "renew"})
    second = address_of(owner)
    assert (Client().get(first).status_code, Client().get(second).status_code) == (404, 200)

    browser(owner).post(FEED, {"deed": "close"})

    assert Client().get(second).status_code == 404
    done = AuditEntry.objects.filter(action__startswith="calendar.").order_by("pk").values_list("action", flat=True)
    assert list(done) == ["calendar.open", "calendar.renew", "calendar.close"]


@pytest.mark.parametrize("secret", ["x", "%00", "😀" * 100, "A" * 48, "A" * 4000, "..", "a/b"])
def test_what_is_no_address_is_nobodys(secret: str) -> None:
    assert Client().get(f"/reservations/calendar/{secret}.ics").status_code == 404


def test_the_key_alone_opens_nothing(owner: User) -> None:
    """Who has a copy of the database has the key, and not the proof of it."""
    address_of(owner)
    assert owner.calendar_key
    forged = base64.urlsafe_b64encode(owner.calendar_key.bytes + b"\0" * calendar_feed.PROOF_BYTES).decode()

    assert calendar_feed.owner_of(forged) is None


def test_who_guesses_is_heard_no_more_for_a_while() -> None:
    client = Client()
    answers = [client.get(f"/reservations/calendar/{number:048}.ics").status_code for number in range(40)]

    assert answers[0] == 404
    assert answers[-1] == 429


def test_the_secret_is_in_no_log(owner: User) -> None:
    address = address_of(owner)
    told = hide(None, "info", {"event": f"GET {address} 200"})

    assert calendar_feed.secret_of(owner.calendar_key) not in str(told)  # type: ignore[arg-type]  # it is open
    assert HIDDEN in str(told)


@pytest.mark.parametrize("deed", ["", "nothing", "\0", "😀" * 500])
def test_an_unknown_deed_is_told(deed: str, owner: User, browser: Any) -> None:
    answer = browser(owner).post(FEED, {"deed": deed}, follow=True)

    assert "Choose what to do with the address." in answer.content.decode()
    owner.refresh_from_db()
    assert owner.calendar_key is None


# ---- the page ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", ["week", "month"])
def test_a_reservation_is_in_its_week_and_month_and_in_no_other(
    view: str, owner: User, booked: Reservation, browser: Any
) -> None:
    day, client = booked.start.date(), browser(owner)
    there = client.get("/reservations/calendar/", {"view": view, "day": day.isoformat()}).content.decode()
    elsewhere = client.get(
        "/reservations/calendar/", {"view": view, "day": (day + timedelta(days=70)).isoformat()}
    ).content.decode()

    assert f"/reservations/{booked.pk}/" in there
    assert f"/reservations/{booked.pk}/" not in elsewhere


@pytest.mark.parametrize("day", ["", "nonsense", "0001-01-01", "9999-12-31", "2026-02-30", "\0", "😀" * 500])
@pytest.mark.parametrize("view", ["week", "month", "\0"])
def test_whatever_is_asked_for_shows_some_calendar(view: str, day: str, owner: User, browser: Any) -> None:
    assert browser(owner).get("/reservations/calendar/", {"view": view, "day": day}).status_code == 200


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
def test_a_week_in_which_the_clocks_change_has_seven_days(day: str, owner: User, browser: Any) -> None:
    User.objects.filter(pk=owner.pk).update(time_zone="Europe/Berlin")
    answer = browser(owner).get("/reservations/calendar/", {"day": day})

    assert answer.status_code == 200
    assert (answer.context["last_day"] - answer.context["first"]).days == 6


@pytest.mark.parametrize("zone", ["Etc/GMT+5", "Etc/GMT-14", "Factory", "UTC", "Asia/Kathmandu"])
def test_every_zone_that_can_be_chosen_has_a_calendar(zone: str, owner: User, browser: Any) -> None:
    User.objects.filter(pk=owner.pk).update(time_zone=zone)

    assert browser(owner).get("/reservations/calendar/").status_code == 200


def test_a_day_with_many_lists_its_first_and_says_how_many_more_there_are(owner: User, browser: Any) -> None:
    now = timezone.now()
    Workspace.objects.update(max_reservations=100, max_cores=100, max_ram_mib=100_000, max_storage_gb=1000)
    for number in range(AGENDA_LINES + 3):
        make_reservation(owner, now=now, name=f"course {number:02}")
    answer = browser(owner).get("/reservations/calendar/")
    page = answer.content.decode()

    days = answer.context["agenda"]
    assert [len(day.entries) for day in days] == [AGENDA_LINES] * len(days)
    assert {day.more for day in days} == {3}
    assert "and 3 more;" in page
