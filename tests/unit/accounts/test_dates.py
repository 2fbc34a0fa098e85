"""In which zone and language dates are read, on pages and in mails."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.template import Context, Template
from django.test import Client
from django.utils import timezone

from accounts import dates
from accounts.forms import DatesForm
from accounts.models import AuditEntry, User
from portal.templatetags.berth import when
from tests.factories import make_user
from tests.unit.accounts.conftest import log_in

AT = datetime(2026, 11, 20, 13, 5, 9, tzinfo=UTC)
PAGE = "/accounts/"


@pytest.fixture(autouse=True)
def _nobodys_choice() -> Iterator[None]:
    yield
    dates.read_in("")
    timezone.deactivate()


@pytest.fixture
def ada() -> User:
    return make_user("ada")


@pytest.fixture
def browser(ada: User) -> Client:
    client = Client()
    log_in(client, ada)
    return client


@pytest.mark.parametrize(
    ("style", "text"),
    [
        ("full", "20 Nov 2026, 13:05"),
        ("short", "20 Nov, 13:05"),
        ("exact", "20 Nov 2026, 13:05:09"),
        ("day", "20 Nov 2026"),
        ("month", "November 2026"),
    ],
)
def test_who_chose_nothing_reads_english_and_loads_no_table(
    style: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dates, "Locale", None)

    assert dates.written(AT, style) == text


@pytest.mark.parametrize(
    ("language", "full", "short", "month"),
    [
        ("de", "20.11.2026, 13:05", "20. Nov., 13:05", "November 2026"),
        ("fr", "20 nov. 2026, 13:05", "20 nov., 13:05", "novembre 2026"),
        ("ja", "2026/11/20 13:05", "11月20日 13:05", "2026年11月"),
        ("en_GB", "20 Nov 2026, 13:05", "20 Nov, 13:05", "November 2026"),
        ("en", "Nov 20, 2026, 1:05\u202fPM", "Nov 20, 1:05\u202fPM", "November 2026"),
    ],
)
def test_who_chose_a_language_reads_it(language: str, full: str, short: str, month: str) -> None:
    assert dates.written(AT, "full", language) == full
    assert dates.written(AT, "short", language) == short
    assert dates.written(AT.date(), "month", language) == month


def test_every_language_of_the_list_writes_every_style() -> None:
    """Some have no pattern for a day without its year; none may be left without any."""
    for code in ["ab", "ti", "yue", *(code for code, _ in dates.languages()[::25])]:
        assert all(dates.written(AT, style, code) for style in dates.ENGLISH)


def test_a_language_that_babel_has_forgotten_is_english() -> None:
    dates.read_in("klingon")

    assert dates.written(AT) == "20 Nov 2026, 13:05"


def test_a_page_says_the_zone_and_the_language_of_a_date() -> None:
    timezone.activate(ZoneInfo("Europe/Berlin"))
    dates.read_in("de_AT")

    shown = when(AT)

    assert 'lang="de-AT"' in shown
    assert 'title="2026-11-20 13:05:09 UTC"' in shown
    assert ">20.11.2026, 14:05 CET<" in shown


def test_days_and_months_of_a_page_follow_and_other_formats_do_not() -> None:
    template = Template('{{ day|date:"j F Y" }}; {{ day|date:"F Y" }}; {{ day|date:"Y-m" }}; {{ nothing|date:"F" }}')
    context = Context({"day": date(2026, 3, 5)})

    assert template.render(context) == "5 March 2026; March 2026; 2026-03; "
    dates.read_in("de")
    assert template.render(context) == "5. März 2026; März 2026; 2026-03; "


def test_an_invoice_reads_the_same_to_everybody() -> None:
    dates.read_in("de")

    assert Template("{% load invoices %}{{ day|month }}").render(Context({"day": date(2026, 3, 1)})) == "March 2026"


@pytest.mark.parametrize(
    ("zone", "language", "text"),
    [
        ("", "", "20 Nov 2026, 13:05 UTC"),
        ("Europe/Berlin", "", "20 Nov 2026, 14:05 CET"),
        ("Asia/Kathmandu", "de", "20.11.2026, 18:50 UTC+0545"),
        ("Mars/Olympus", "klingon", "20 Nov 2026, 13:05 UTC"),
    ],
)
def test_a_mail_knows_its_readers_zone_and_language(zone: str, language: str, text: str) -> None:
    assert dates.format_for(User(time_zone=zone, date_language=language), AT) == text


# ---- the page ---------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_what_is_chosen_holds_from_then_on_and_is_noted(browser: Client, ada: User) -> None:
    answer = browser.post(PAGE, {"time_zone": "Europe/Berlin", "date_language": "de"}, follow=True)

    ada.refresh_from_db()
    assert (ada.time_zone, ada.date_language) == ("Europe/Berlin", "de")
    assert 'lang="de"' in answer.content.decode()
    row = AuditEntry.objects.get(action="user.dates")
    assert (row.actor, row.data) == (ada, {"time_zone": "Europe/Berlin", "date_language": "de"})


@pytest.mark.django_db
def test_the_language_of_one_reader_is_not_that_of_the_next(browser: Client, ada: User) -> None:
    browser.post(PAGE, {"time_zone": "", "date_language": "de"}, follow=True)
    eve = Client()
    log_in(eve, make_user("eve"))

    assert 'lang="de"' not in eve.get(PAGE).content.decode()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("time_zone", "Mars/Olympus", "not a known time zone"),
        ("time_zone", "../../etc/passwd", "not a known time zone"),
        ("time_zone", "Europe/Ber\0lin", "Null characters"),
        ("time_zone", "🛰" * 500, "at most 64 characters"),
        ("date_language", "klingon", "Choose one of the languages"),
        ("date_language", "de\0", "Choose one of the languages"),
        ("date_language", "root", "Choose one of the languages"),
    ],
)
def test_a_choice_that_is_none_is_told_and_nothing_is_saved(
    field: str, value: str, sentence: str, browser: Client, ada: User
) -> None:
    answer = browser.post(PAGE, {"time_zone": "Europe/Paris", "date_language": "fr"} | {field: value})

    assert sentence in str(answer.context["form"].errors[field])
    other = {"time_zone": "date_language", "date_language": "time_zone"}[field]
    assert answer.context["form"][other].value() in {"Europe/Paris", "fr"}
    ada.refresh_from_db()
    assert (ada.time_zone, ada.date_language) == ("", "")


@pytest.mark.django_db
def test_the_example_is_of_what_is_chosen_and_saves_nothing(browser: Client, ada: User) -> None:
    page = browser.get("/accounts/dates/", {"time_zone": "Asia/Tokyo", "date_language": "ja"}).content.decode()

    assert "JST" in page
    assert "年" in page or "/" in page
    ada.refresh_from_db()
    assert ada.time_zone == ""


@pytest.mark.django_db
def test_the_example_says_what_is_wrong(browser: Client) -> None:
    answer = browser.get("/accounts/dates/", {"time_zone": "Mars/Olympus"})

    assert answer.status_code == 200
    assert "not a known time zone" in answer.content.decode()


@pytest.mark.django_db
def test_the_browsers_zone_is_offered(browser: Client) -> None:
    assert "says no zone, so without a choice times are UTC" in browser.get(PAGE).content.decode()

    browser.cookies["berth_zone"] = "Pacific%2FNiue"

    assert "Your browser says Pacific/Niue." in browser.get(PAGE).content.decode()


@pytest.mark.django_db
def test_a_language_that_an_admin_wrote_can_stay(browser: Client, ada: User) -> None:
    User.objects.filter(pk=ada.pk).update(date_language="de_LU")

    answer = browser.post(PAGE, {"time_zone": "", "date_language": "de_LU"})

    assert answer.status_code == 302


def test_the_form_asks_for_nothing(rf: Any) -> None:
    assert DatesForm({}).is_valid()
