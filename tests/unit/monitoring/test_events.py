"""/monitor/events/: what happened and who did what on one time line, with search, pages by key, and CSV."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import AuditEntry, User
from compute.models import Node
from reservations.models import Event, Reservation
from tests.factories import NOW, at, make_node, make_reservation, make_user
from tests.unit.monitoring.pages import browser_of, staff, words

pytestmark = pytest.mark.django_db
PAGE, CSV = "/monitor/events/", "/monitor/events.csv"


@pytest.fixture(autouse=True)
def _plain_http(settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = False


@pytest.fixture
def reservation() -> Reservation:
    make_node("one")
    return make_reservation(make_user("ada"))


def auditor() -> User:
    return staff("view_auditentry")


def event(reservation: Reservation, when: datetime, text: str, **values: Any) -> Event:
    return Event.objects.create(reservation=reservation, at=when, text=text, by="workers", **values)


def deed(when: datetime, action: str, target: str, by: str = "olga", **data: Any) -> AuditEntry:
    return AuditEntry.objects.create(at=when, actor_name=by, action=action, target=target, data=data)


def look(query: str = "") -> str:
    answer = browser_of(auditor()).get(f"{PAGE}?{query}")
    assert answer.status_code == 200
    return words(answer)


def in_order(page: str, *texts: str) -> bool:
    places = [page.find(text) for text in texts]
    return -1 not in places and places == sorted(places)


def test_strangers_are_told_nothing() -> None:
    for address in (PAGE, CSV):
        assert browser_of(None).get(address).status_code == 302
        assert browser_of(make_user()).get(address).status_code == 404


@pytest.mark.parametrize("asked", ["", "target=invoice:1", "q=payer", "action=payment", "who=olga", "node=one"])
def test_who_may_not_view_the_audit_log_is_shown_no_deeds(asked: str, reservation: Reservation) -> None:
    event(reservation, timezone.now(), "It answers to payer.")
    for target in ("invoice:1", f"node:{Node.objects.get().pk}"):
        deed(timezone.now(), "payment.record", target, email="payer@example.org")
    browser = browser_of(staff("view_reservation"))

    page = words(browser.get(f"{PAGE}?{asked}"))
    file = b"".join(browser.get(f"{CSV}?{asked}").streaming_content).decode()  # type: ignore[attr-defined]

    for text in (page, file):
        assert "payer@example.org" not in text
        assert "payment.record" not in text
        assert asked or "It answers to payer." in text
    assert "You may not." in page
    assert browser.get(f"{PAGE}?kind=deed").status_code == browser.get(f"{CSV}?kind=deed").status_code == 400


def test_both_are_on_one_line_newest_first_with_links(reservation: Reservation) -> None:
    event(reservation, at(1), "It answers.", old_state="starting", new_state="running")
    deed(at(2), "node.drain", f"node:{Node.objects.get().pk}", name="one")
    event(reservation, at(3), "A note.")

    page = look()

    assert in_order(page, "A note.", "node.drain", "It answers.", "starting → running")
    assert f'/admin/reservations/reservation/{reservation.pk}/change/">reservation:{reservation.pk}</a>' in page
    assert f"/admin/compute/node/{Node.objects.get().pk}/change/" in page
    assert "name: one" in page


@pytest.mark.parametrize(
    ("asked", "seen"),
    [
        ("kind=transition", {"runs"}),
        ("kind=note", {"noted"}),
        ("kind=deed", {"deed-a", "deed-b"}),
        ("who=OLGA", {"deed-a"}),
        ("action=deed-b", {"deed-b"}),
        ("target=gateway:7", {"deed-b"}),
        ("since=2026-05-04&until=2026-05-04&q=noted", {"noted"}),
        ("since=2026-05-04&q=special", {"deed-b"}),
        ("since=2026-05-04&node=one", {"runs", "noted", "deed-a"}),
    ],
)
def test_search(asked: str, seen: set[str], reservation: Reservation) -> None:
    now = timezone.now() if "since" not in asked else NOW
    event(reservation, now + timedelta(minutes=1), "runs", old_state="starting", new_state="running")
    event(reservation, now + timedelta(minutes=2), "noted")
    deed(now + timedelta(minutes=3), "deed-a", f"node:{Node.objects.get().pk}")
    deed(now + timedelta(minutes=4), "deed-b", "gateway:7", by="pia", why="special")

    page = look(asked)

    assert {text for text in ("runs", "noted", "deed-a", "deed-b") if f'wrap-any">{text}<' in page} == seen


def test_a_reservation_has_its_events_and_what_was_done_to_it(reservation: Reservation) -> None:
    other = make_reservation()
    event(reservation, at(1), "mine")
    event(other, at(1), "not mine")
    deed(at(2), "reservation.end", f"reservation:{reservation.pk}")

    page = look(f"reservation={reservation.pk}")

    assert in_order(page, "reservation.end", 'wrap-any">mine<')
    assert "not mine" not in page


def test_days_are_those_of_the_readers_zone(reservation: Reservation, settings: Any) -> None:
    settings.TIME_ZONE = "Asia/Tokyo"
    event(reservation, datetime(2026, 5, 6, 14, 59, tzinfo=UTC), "before midnight")
    event(reservation, datetime(2026, 5, 6, 15, 0, tzinfo=UTC), "after midnight")
    browser = browser_of(auditor())
    browser.cookies["zone"] = browser.cookies["timezone"] = "Asia/Tokyo"

    page = words(browser.get(f"{PAGE}?since=2026-05-07&until=2026-05-07"))

    assert "after midnight" in page
    assert "before midnight" not in page


@pytest.mark.parametrize(
    "asked", ["since=yesterday", "until=2026-13-01", "since=2026-05-05&until=2026-05-04", "reservation=x",
              "reservation=99999999999999999999", "kind=all", "since=0001-01-01", "until=9999-12-31", "q=%00"]
)  # fmt: skip
def test_bad_searches_are_told_at_their_field(asked: str) -> None:
    for address in (PAGE, CSV):
        answer = browser_of(auditor()).get(f"{address}?{asked}")

        assert answer.status_code == 400
        assert "invalid-feedback" in words(answer) or "is-invalid" in words(answer)


@pytest.mark.parametrize("before", ["x", "1-2", "1-7-1", "999999999999999999-0-1", "--", "1-0-99999999999999999999"])
def test_a_bad_key_begins_at_the_newest(before: str, reservation: Reservation) -> None:
    event(reservation, at(1), "mine")

    assert "mine" in look(f"before={before}")


def test_text_is_looked_for_in_the_last_month_when_no_day_is_given(reservation: Reservation) -> None:
    event(reservation, timezone.now() - timedelta(days=40), "special old")
    event(reservation, timezone.now() - timedelta(days=3), "special new")

    page = look("q=special")

    assert "special new" in page
    assert "special old" not in page
    assert "Looked for since" in page


def test_pages_by_key_show_everything_once_also_at_one_instant(reservation: Reservation) -> None:
    for number in range(80):
        event(reservation, at(1), f"event {number:03}.")
        deed(at(1), f"deed {number:03}.", "portal")
    browser, seen, query = browser_of(auditor()), [], "since=2026-05-04"
    while query:
        answer = browser.get(f"{PAGE}?{query}")
        seen += [(row.what, row.source) for row in answer.context["rows"]]
        query = answer.context["older"]

    ours = [row for row in seen if row[0].startswith(("event 0", "deed 0"))]
    assert len(ours) == len(set(ours)) == 160


def test_csv_has_all_of_it_and_no_formula(reservation: Reservation) -> None:
    event(reservation, at(1), "=HYPERLINK(1)")
    deed(at(2), "node.drain", "node:1")

    answer = browser_of(auditor()).get(f"{CSV}?since=2026-05-04")
    text = b"".join(answer.streaming_content).decode("utf-8-sig")  # type: ignore[attr-defined]

    assert "2026-05-04 12:00:00,deed,olga,node.drain,,node:1" in text
    assert "'=HYPERLINK(1)" in text


def test_queries_do_not_grow(reservation: Reservation) -> None:
    browser = browser_of(auditor())
    event(reservation, at(1), "one")
    with CaptureQueriesContext(connection) as few:
        browser.get(PAGE)
    for number in range(50):
        event(reservation, at(number), "more")
        deed(at(number), "deed", "node:1")

    with CaptureQueriesContext(connection) as many:
        browser.get(PAGE)

    assert len(many) == len(few) <= 10
