"""The list's filters, and one deed on many reservations."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import Membership, Role, User, Workspace
from reservations.models import Reservation
from tests.factories import make_reservation, make_service, workspace_of

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
@pytest.mark.parametrize("field", ["show", "state", "service", "workspace", "whose", "q", "sort", "page"])
def test_whatever_is_typed_shows_a_list(field: str, value: str, owner: User, browser: Any) -> None:
    assert browser(owner).get(LIST, {field: value}).status_code == 200


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
