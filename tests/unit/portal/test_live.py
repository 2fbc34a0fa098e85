"""Open pages hear of what is theirs, at once and of nothing else."""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.conf import LazySettings
from django.core import signing
from django.db import connection
from django.test import Client
from django.utils import timezone

from accounts.models import Membership, Notice, Notification, User, Workspace
from portal.env import BadSetting, matching
from portal.live import __main__ as program
from portal.live import database, listeners, tickets
from portal.live.listeners import Listener, Listeners, TooMany
from reservations import actions
from reservations.models import Reservation
from tests.factories import NOW, make_node, make_reservation, make_user, workspace_of

RESERVATION = json.dumps({"reservation": 7, "workspace": 1, "state": "running"})


def heard(listener: Listener) -> list[tuple[str, Any]]:
    return [(event, json.loads(data)) for event, data in listener.pending.values()]


# ---- who hears what ---------------------------------------------------------------------------------------


def test_a_change_is_told_to_those_of_its_workspace_with_how_many_they_are() -> None:
    everybody = Listeners()
    first, second, stranger = everybody.add(1, {1, 2}), everybody.add(2, {1}), everybody.add(3, {3})

    everybody.hear(RESERVATION)

    told = [("reservation", {"id": 7, "state": "running", "listeners": 2})]
    assert heard(first) == heard(second) == told
    assert heard(stranger) == []


def test_news_are_told_to_the_pages_of_one_person() -> None:
    everybody = Listeners()
    one_tab, other_tab, somebody = everybody.add(1, {1}), everybody.add(1, {1}), everybody.add(2, {1})

    everybody.hear('{"user": 1}')

    assert heard(one_tab) == heard(other_tab) == [("news", {})]
    assert heard(somebody) == []


def test_a_slow_page_holds_one_message_of_each_thing() -> None:
    everybody = Listeners()
    slow = everybody.add(1, {1})
    for state in ("starting", "running", "stopped") * 100:
        everybody.hear(json.dumps({"reservation": 7, "workspace": 1, "state": state}))

    assert heard(slow) == [("reservation", {"id": 7, "state": "stopped", "listeners": 1})]


@pytest.mark.parametrize("payload", ["", "no json", "[]", "7", "{}", '{"reservation": "7"}', '{"user": null}'])
def test_words_of_others_on_the_channel_are_left_out(payload: str) -> None:
    everybody = Listeners()
    listener = everybody.add(1, {1})

    everybody.hear(payload)

    assert heard(listener) == []


def test_who_went_hears_nothing_and_is_forgotten() -> None:
    everybody = Listeners()
    gone = everybody.add(1, {1})
    everybody.remove(gone)
    everybody.hear(RESERVATION)

    assert heard(gone) == []
    assert (len(everybody), everybody.users) == (0, [])


def test_streams_end_of_who_left_a_workspace_or_was_switched_off() -> None:
    everybody = Listeners()
    stays, left, switched_off = everybody.add(1, {1}), everybody.add(2, {1, 2}), everybody.add(3, {3})

    everybody.end_those_that_changed({1: {1}, 2: {1}})

    assert (stays.over, left.over, switched_off.over) == (False, True, True)


def test_one_person_cannot_take_all_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    everybody = Listeners()
    monkeypatch.setattr(listeners, "MOST_OF_ONE", 2)
    monkeypatch.setattr(listeners, "MOST", 3)
    for _ in range(2):
        everybody.add(1, {1})
    with pytest.raises(TooMany):
        everybody.add(1, {1})
    everybody.add(2, {1})
    with pytest.raises(TooMany):
        everybody.add(3, {1})


def test_a_stream_gives_what_it_has_and_ends_when_it_is_told_to() -> None:
    async def read() -> list[tuple[str, str]]:
        everybody = Listeners()
        listener = everybody.add(1, {1})
        everybody.hear(RESERVATION)
        everybody.resync()
        got = []
        async for event in listener.news():
            got.append(event)
            if len(got) == 2:
                listener.end()
        return got

    events = asyncio.run(asyncio.wait_for(read(), 5))

    assert [name for name, _ in events] == ["reservation", "resync"]


# ---- tickets ----------------------------------------------------------------------------------------------


def test_a_ticket_names_its_user_and_others_open_nothing(settings: LazySettings) -> None:
    good = tickets.ticket(7)
    assert tickets.reader(good) == 7
    for bad in ("", "7", f"{good}x", f"\0{good}", signing.dumps(7, salt="another"), "😀" * 500):
        assert tickets.reader(bad) is None
    settings.SECRET_KEY = "another-secret-of-the-tests"
    assert tickets.reader(good) is None


def test_a_ticket_is_good_for_hours_only(monkeypatch: pytest.MonkeyPatch) -> None:
    old = tickets.ticket(7)
    later = time.time() + tickets.LASTS.total_seconds() + 2
    monkeypatch.setattr("django.core.signing.time.time", lambda: later)

    assert tickets.reader(old) is None


# ---- what the database tells ------------------------------------------------------------------------------


@pytest.fixture
def ear(transactional_db: None) -> Iterator[psycopg.Connection[Any]]:
    """A connection that listens as the process does."""
    with psycopg.connect(**program.database_parameters(), autocommit=True) as listening:
        listening.execute(f"LISTEN {database.CHANNEL}")
        yield listening


def told(ear: psycopg.Connection[Any]) -> list[dict[str, Any]]:
    return [json.loads(notice.payload) for notice in ear.notifies(timeout=0.2)]


def test_every_change_that_a_page_shows_is_told_when_it_is_committed(ear: psycopg.Connection[Any]) -> None:
    make_node()
    row = make_reservation()
    about = {"reservation": row.pk, "workspace": row.workspace_id}
    assert told(ear) == [about | {"state": "booked"}]

    rows = Reservation.objects.filter(pk=row.pk)
    for change in ({"wish": "stop"}, {"reason": "It waits."}, {"progress": 7}, {"name": "blue"}, {"generation": 2}):
        rows.update(**change)
        assert told(ear) == [about | {"state": "booked"}], change
    actions.end(reservation=row, text="Deleted.", by=row.created_by, now=NOW)
    assert about | {"state": "ending"} in told(ear)


def test_what_no_page_shows_is_not_told(ear: psycopg.Connection[Any]) -> None:
    make_node()
    row = make_reservation()
    told(ear)

    Reservation.objects.filter(pk=row.pk).update(attempts=3, claim_owner="worker", look_at=NOW)
    Reservation.objects.filter(pk=row.pk).update(reason=row.reason)

    assert told(ear) == []


def test_news_are_told_to_their_reader_if_they_are_for_the_page(ear: psycopg.Connection[Any]) -> None:
    user = make_user()
    for key, in_app in (("a", True), ("b", False)):
        Notification.objects.create(
            user=user, kind=Notice.STARTED, key=key, title="It started", created_at=timezone.now(), in_app=in_app
        )

    assert told(ear) == [{"user": user.pk}]


@pytest.mark.django_db(transaction=True)
def test_who_may_hear_what_is_asked_of_the_database() -> None:
    ada, bob, gone = make_user(), make_user(), make_user(is_active=False)
    team = Workspace.objects.create(name="team")
    Membership.objects.create(workspace=team, user=ada)

    async def ask() -> dict[int, frozenset[int]]:
        asking = database.Database(program.database_parameters(), Listeners())
        try:
            return await asking.members([ada.pk, bob.pk, gone.pk, 0])
        finally:
            await asking.close()

    found = asyncio.run(asyncio.wait_for(ask(), 10))

    assert found == {ada.pk: {workspace_of(ada).pk, team.pk}, bob.pk: {workspace_of(bob).pk}}
    assert connection.is_usable()


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_the_database_ended_is_made_again() -> None:
    ada = make_user()

    def end(pid: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        connection.close()  # it is of this thread alone

    async def ask_twice() -> dict[int, frozenset[int]]:
        asking = database.Database(program.database_parameters(), Listeners())
        try:
            await asking.members([ada.pk])
            assert asking._asking is not None
            await asyncio.to_thread(end, asking._asking.info.backend_pid)
            return await asking.members([ada.pk])
        finally:
            await asking.close()

    assert set(asyncio.run(asyncio.wait_for(ask_twice(), 20))) == {ada.pk}


# ---- pages ------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_page_knows_where_to_listen_and_only_its_reader_gets_a_ticket(client: Client, settings: LazySettings) -> None:
    settings.BERTH_LIVE_URL = "/live/"
    assert "berth-live" not in client.get("/").content.decode()

    user: User = make_user()
    client.force_login(user)
    page = client.get("/reservations/").content.decode()
    _, _, ticket = page.partition('content="/live/events?ticket=')
    assert tickets.reader(ticket.partition('"')[0]) == user.pk

    settings.BERTH_LIVE_URL = ""
    assert "berth-live" not in client.get("/reservations/").content.decode()


@pytest.mark.parametrize("value", ["", "/", "/live/", "http://127.0.0.1:9000/live/", "https://live.example.org/"])
def test_an_address_to_listen_at_is_taken(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTH_LIVE_URL", value)
    assert matching("BERTH_LIVE_URL", "", PATTERN, "an address") == value


@pytest.mark.parametrize("value", ["live", "ftp://host/live/", "https://host", "/live/; script-src *", "/live/?a=b"])
def test_what_is_no_address_to_listen_at_stops_the_start(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTH_LIVE_URL", value)
    with pytest.raises(BadSetting, match="BERTH_LIVE_URL"):
        matching("BERTH_LIVE_URL", "", PATTERN, "an address")


PATTERN = r"((https?://[^\s/?#;,']+)?/[^\s?#;,']*)?"
