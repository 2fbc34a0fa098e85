"""The list's filters, and one deed on many reservations."""

import html
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import Membership, Role, User, Workspace
from reservations import actions
from reservations.models import Reservation
from reservations.states import FINAL, State
from reservations.transitions import Stale
from reservations.views import listing
from tests.factories import make_reservation, make_service, make_team, workspace_of

pytestmark = pytest.mark.django_db
LIST, BULK = "/reservations/", "/reservations/bulk/"


@pytest.fixture
def three(owner: User) -> list[Reservation]:
    return [make_reservation(owner, now=timezone.now(), name=name) for name in ("blue", "green", "red")]


def state_of(row: Reservation) -> str:
    row.refresh_from_db()
    return row.state


def test_what_would_happen_to_each_is_told_and_nothing_happens(
    three: list[Reservation], owner: User, browser: Any
) -> None:
    Reservation.objects.filter(pk=three[2].pk).update(state="ended")
    answer = browser(owner).get(BULK, {"deed": "delete", "pick": [row.pk for row in three]})
    text = answer.content.decode()

    assert "It is cancelled, and its place becomes free." in text
    assert "It is over already." in text
    assert [state_of(row) for row in three] == ["booked", "booked", "ended"]


def test_one_that_cannot_be_done_harms_no_other(three: list[Reservation], owner: User, browser: Any) -> None:
    Reservation.objects.filter(pk=three[0].pk).update(state="running")
    answer = browser(owner).post(BULK, {"deed": "stop", "pick": [row.pk for row in three]}, follow=True)
    text = answer.content.decode()

    three[0].refresh_from_db()
    assert three[0].wish == "stop"
    assert "blue is being stopped." in text
    assert f"green (no. {three[1].pk}) was left as it is. It does not run" in text
    assert Reservation.objects.filter(wish="stop").count() == 1


def test_many_are_deleted_at_once(three: list[Reservation], owner: User, browser: Any) -> None:
    browser(owner).post(BULK, {"deed": "delete", "pick": [row.pk for row in three]})

    assert [state_of(row) for row in three] == ["ending"] * 3


def test_the_same_page_sent_twice_extends_once(three: list[Reservation], owner: User, browser: Any) -> None:
    page = browser(owner).get(BULK, {"deed": "extend", "minutes": "30", "pick": [row.pk for row in three]})
    seen = dict(re.findall(r'name="(end-\d+)"\s+value="([\d.]+)"', page.content.decode()))
    assert len(seen) == 3
    form = {"deed": "extend", "minutes": "30", "pick": [row.pk for row in three], **seen}
    ends = [row.end for row in three]

    browser(owner).post(BULK, form)
    answer = browser(owner).post(BULK, form, follow=True)

    for row, end in zip(three, ends, strict=True):
        row.refresh_from_db()
        assert row.end - end == timedelta(minutes=30)
    assert answer.content.decode().count("was left as it is") == 3


@pytest.mark.parametrize("end", ["", "x", "nan", "inf", "1e99", "-1e99", "\0"])
def test_an_end_of_somebodys_own_making_is_none(end: str, three: list[Reservation], owner: User, browser: Any) -> None:
    pk = three[0].pk
    answer = browser(owner).post(BULK, {"deed": "extend", "minutes": "30", "pick": [pk], f"end-{pk}": end})
    assert answer.status_code == 302


def test_what_keeps_moving_while_it_is_deleted_is_left_with_a_sentence(
    three: list[Reservation], owner: User, browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def moves(*_: Any, **__: Any) -> None:
        raise Stale("it moved")

    monkeypatch.setattr(actions, "start_ending", moves)
    answer = browser(owner).post(f"/reservations/{three[0].pk}/delete/", follow=True)

    assert answer.status_code == 200
    assert "is moving just now and was not deleted" in answer.content.decode()
    assert state_of(three[0]) == "booked"


def test_many_are_extended_and_each_by_what_fits(three: list[Reservation], owner: User, browser: Any) -> None:
    ends = [row.end for row in three]
    browser(owner).post(BULK, {"deed": "extend", "minutes": "30", "pick": [row.pk for row in three]})
    for row in three:
        row.refresh_from_db()

    assert [int((row.end - end).total_seconds()) for row, end in zip(three, ends, strict=True)] == [1800] * 3


def test_nobody_touches_anothers(three: list[Reservation], other: User, browser: Any) -> None:
    answer = browser(other).post(BULK, {"deed": "delete", "pick": [row.pk for row in three]}, follow=True)

    assert "Tick the reservations first" in answer.content.decode()
    assert [state_of(row) for row in three] == ["booked"] * 3


def test_a_member_sees_what_a_colleague_booked_and_cannot_act_on_it(
    three: list[Reservation], owner: User, other: User, browser: Any
) -> None:
    Membership.objects.create(workspace=workspace_of(owner), user=other, role=Role.MEMBER)
    client = browser(other)
    assert "blue" in client.get(LIST).content.decode()

    client.post(BULK, {"deed": "delete", "pick": [row.pk for row in three]})

    assert [state_of(row) for row in three] == ["booked"] * 3


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"deed": "delete"}, "Tick the reservations first"),
        ({"deed": "delete", "pick": ["0", "-1", "x", "\0", "9" * 50, "😀" * 500]}, "Tick the reservations first"),
        ({"pick": "FIRST"}, "Choose what to do"),
        ({"deed": "burn", "pick": "FIRST"}, "Choose what to do"),
        ({"deed": "\0", "pick": "FIRST"}, "Choose what to do"),
    ],
)
@pytest.mark.parametrize("method", ["get", "post"])
def test_what_cannot_be_asked_for_is_told(
    asked: dict[str, Any], sentence: str, method: str, three: list[Reservation], owner: User, browser: Any
) -> None:
    if asked.get("pick") == "FIRST":
        asked = asked | {"pick": [three[0].pk]}
    answer = getattr(browser(owner), method)(BULK, asked, follow=True)

    assert sentence in answer.content.decode()
    assert [state_of(row) for row in three] == ["booked"] * 3


@pytest.mark.parametrize("minutes", ["", "0", "-15", "7", "9" * 30, "\0", "😀"])
def test_a_length_that_makes_no_sense_is_an_hour(
    minutes: str, three: list[Reservation], owner: User, browser: Any
) -> None:
    end = three[0].end
    browser(owner).post(BULK, {"deed": "extend", "minutes": minutes, "pick": [three[0].pk]})
    three[0].refresh_from_db()

    assert (three[0].end - end).total_seconds() == 3600


# ---- what was ticked and chosen is not forgotten -------------------------------------------------------------


def ticked(answer: Any) -> set[int]:
    boxes = re.findall(r"<input[^>]*name=\"pick\"[^>]*>", answer.content.decode())
    return {int(re.findall(r'value="(\d+)"', box)[0]) for box in boxes if " checked" in re.sub(r"\s+", " ", box)}


def hidden(answer: Any, name: str) -> set[str]:
    return {html.unescape(value) for value in re.findall(rf'name="{name}" value="([^"]*)"', answer.content.decode())}


FILTERED = "show=upcoming&q=e&service=nginx&from=2026-01-01&sort=name&page=1"


@pytest.fixture
def planned(three: list[Reservation]) -> list[Reservation]:
    Reservation.objects.update(start=timezone.now() + timedelta(hours=1), end=timezone.now() + timedelta(hours=2))
    return three


def test_the_filters_and_the_ticks_survive_a_deed_that_is_refused(
    planned: list[Reservation], owner: User, browser: Any
) -> None:
    client, two = browser(owner), [row.pk for row in planned[:2]]
    shown = client.get(f"{LIST}?{FILTERED}")
    assert (hidden(shown, "back"), ticked(shown)) == ({FILTERED}, set())

    answer = client.get(BULK, {"deed": "shorten", "pick": two, "back": FILTERED}, follow=True)

    assert "Only one reservation can be shortened at a time" in answer.content.decode()
    assert answer.redirect_chain[-1][0].startswith(f"{LIST}?{FILTERED}&pick=")
    assert ticked(answer) == set(two)
    assert hidden(answer, "back") == {FILTERED}


def test_what_could_not_be_done_stays_ticked_with_the_length_that_was_chosen(
    planned: list[Reservation], owner: User, browser: Any
) -> None:
    client, picks = browser(owner), [row.pk for row in planned]
    page = client.get(BULK, {"deed": "extend", "minutes": "90", "pick": picks, "back": FILTERED})
    assert hidden(page, "back") == {FILTERED}
    assert f'href="{LIST}?{FILTERED}&pick='.replace("&", "&amp;") in page.content.decode()

    stale = {f"end-{picks[1]}": "1000000000.0"}
    form = {"deed": "extend", "minutes": "90", "pick": picks, "back": FILTERED} | stale
    answer = client.post(BULK, form, follow=True)

    assert ticked(answer) == {picks[1]}
    assert (hidden(answer, "back"), hidden(answer, "minutes")) == ({FILTERED}, {"90"})
    done = client.post(BULK, {"deed": "delete", "pick": picks, "back": FILTERED})
    assert done["Location"] == f"{LIST}?{FILTERED}"


@pytest.mark.parametrize(
    "back", ["", "\0", "https://evil.example/", "next=/x&show=past", "q=" + "😀" * 3000, "&" * 3000]
)
def test_whatever_the_way_back_says_it_leads_to_the_list(
    back: str, three: list[Reservation], owner: User, browser: Any
) -> None:
    client = browser(owner)
    answer = client.post(BULK, {"deed": "delete", "pick": [three[0].pk], "back": back})

    assert answer["Location"].partition("?")[0] == LIST
    assert {part.partition("=")[0] for part in answer["Location"].partition("?")[2].split("&")} <= {"", "show", "q"}
    assert client.get(answer["Location"]).status_code == 200


# ---- filters ----------------------------------------------------------------------------------------------


def titles(answer: Any) -> set[str]:
    return {row.reservation.name for row in answer.context["rows"]}


def test_the_list_is_narrowed(three: list[Reservation], owner: User, browser: Any) -> None:
    make_service("redis")
    make_reservation(owner, now=timezone.now(), name="store", service=make_service("redis"))
    Reservation.objects.filter(name="red").update(state="running")
    client = browser(owner)

    assert titles(client.get(LIST, {"q": "GREEN"})) == {"green"}
    assert titles(client.get(LIST, {"q": str(three[0].pk)})) >= {"blue"}
    assert titles(client.get(LIST, {"service": "redis"})) == {"store"}
    assert titles(client.get(LIST, {"state": "running"})) == {"red"}
    assert titles(client.get(LIST, {"q": "nothing like it"})) == set()
    assert "blue" not in titles(client.get(LIST, {"show": "past"}))


@pytest.mark.parametrize("value", ["", "nonsense", "\0", "9" * 40, "😀" * 500, "-1", "%"])
@pytest.mark.parametrize(
    "field", ["show", "state", "service", "workspace", "whose", "q", "from", "until", "sort", "page"]
)
def test_whatever_is_typed_shows_a_list(field: str, value: str, owner: User, browser: Any) -> None:
    assert browser(owner).get(LIST, {field: value}).status_code == 200


@pytest.fixture
def nights(owner: User) -> dict[str, Reservation]:
    """Two around the midnight with which 5 May begins in Berlin, one over early, one cancelled before its time."""
    owner.time_zone = "Europe/Berlin"
    owner.save()
    hours = {"eve": (21, 22), "dawn": (22, 23), "long": (0, 96), "early": (0, 96), "cancelled": (48, 72)}
    day, found = datetime(2026, 5, 4, tzinfo=UTC), {}
    for name, (start, end) in hours.items():
        found[name] = make_reservation(owner, now=timezone.now(), name=name)
        times = {"start": day + timedelta(hours=start), "end": day + timedelta(hours=end)}
        over = {"early": day + timedelta(hours=1), "cancelled": day - timedelta(days=9)}
        Reservation.objects.filter(pk=found[name].pk).update(**times, state="ended", ended_at=over.get(name))
    return found


@pytest.mark.parametrize(
    ("since", "until", "names"),
    [
        ("2026-05-05", "", {"dawn", "long", "cancelled"}),
        ("", "2026-05-04", {"eve", "long", "early"}),
        ("2026-05-04", "2026-05-04", {"eve", "long", "early"}),
        ("2026-05-05", "2026-05-05", {"dawn", "long"}),
        ("2026-05-08", "", {"long"}),  # until 2 o'clock
        ("2026-05-09", "", set()),
        ("", "2026-05-03", set()),
    ],
)
def test_the_list_is_narrowed_to_days_of_the_readers_zone(
    since: str, until: str, names: set[str], nights: dict[str, Reservation], owner: User, browser: Any
) -> None:
    answer = browser(owner).get(LIST, {"show": "past", "from": since, "until": until})

    assert titles(answer) == names
    assert "A filter is set" in answer.content.decode()
    assert {count for tab, _, count in answer.context["tabs"] if tab == "past"} == {len(names)}


@pytest.mark.parametrize(
    ("days", "sentence"),
    [
        ({"from": "4.5.2026"}, "Type a day such as 2026-05-04"),
        ({"until": "2026-02-30"}, "Type a day such as 2026-05-04"),
        ({"from": "0001-01-01"}, "Type a year between 1971 and 2200"),
        ({"until": "9999-12-31"}, "Type a year between 1971 and 2200"),
        ({"from": "2026-05-05", "until": "2026-05-04"}, "The last day is before the first"),
    ],
)
def test_a_day_that_is_none_is_told_at_its_field_and_left_out(
    days: dict[str, str], sentence: str, nights: dict[str, Reservation], owner: User, browser: Any
) -> None:
    answer = browser(owner).get(LIST, {"show": "past", **days})
    text = answer.content.decode()

    assert sentence in text
    assert all(f'value="{day}"' in text for day in days.values())
    assert len(titles(answer)) == (3 if len(days) == 2 else 5)
    assert re.search(r'id="list-more"\s+open', text)


def test_days_are_kept_by_tabs_and_pages_and_by_what_refreshes_itself(
    nights: dict[str, Reservation], owner: User, browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "PER_PAGE", 2)
    text = browser(owner).get(LIST, {"show": "past", "until": "2026-05-04"}).content.decode()

    for part in (r'hx-get="([^"]+)"', r'href="(\?[^"]+)"[^>]*>Upcoming', r'rel="next"\s+href="([^"]+)"'):
        assert "until=2026-05-04" in re.findall(part, text)[0]


@pytest.mark.parametrize("path", [LIST, "/reservations/calendar/"])
def test_fifty_rows_ask_the_database_as_often_as_one(path: str, owner: User, browser: Any) -> None:
    Workspace.objects.update(max_reservations=99, max_cores=99, max_ram_mib=99_999)
    client, counts = browser(owner), []
    for more in (1, 49):
        for _ in range(more):
            make_reservation(owner, now=timezone.now())
        client.get(path)
        with CaptureQueriesContext(connection) as asked:
            assert client.get(path).status_code == 200
        counts.append(len(asked))

    assert counts[0] == counts[1]


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("reason", ["", "its node is silent"])
def test_no_line_asks_the_database_whatever_its_state_shows(
    state: State, reason: str, owner: User, other: User, browser: Any
) -> None:
    now = timezone.now()
    team = make_team(owner=owner, member=other, name="Crew")
    Workspace.objects.update(max_reservations=99, max_cores=99, max_ram_mib=99_999)
    client, counts = browser(owner), []
    for more in (1, 4):
        for _ in range(more):
            row = make_reservation(other, now=now, workspace=team)
            values = {"state": state, "reason": reason, "deadline": now, "progress": 50}
            Reservation.objects.filter(pk=row.pk).update(**values, ended_at=now if state in FINAL else None)
        with CaptureQueriesContext(connection) as asked:
            text = client.get(LIST, {"show": "past" if state in FINAL else "now"}).content.decode()
        assert text.count("Crew ·") == Reservation.objects.count(), "each line is shown"
        counts.append(len(asked))

    assert counts[0] == counts[1]
