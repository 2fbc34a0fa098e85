"""A reservation's page: steps, ports, credentials, tests of reachability, log, charts."""

import socket
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import AuditEntry, User
from compute.models import Forward, Node
from reservations import actions, logs, reach
from reservations.models import Container, Event, Reservation
from reservations.transitions import note
from tests.factories import make_reservation, make_service
from tests.fakes import FakeEngine
from tests.unit.conftest import Machines
from tests.unit.portal.doors import text_of

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}
Browser = Callable[..., Client]


@pytest.fixture
def running(owner: User, machines: Machines) -> Reservation:
    row = make_reservation(owner, now=timezone.now())
    machines.clock.now = timezone.now()
    row = machines.settle(row)
    assert row.state == "running"
    return row


@pytest.fixture
def engine(running: Reservation, machines: Machines) -> FakeEngine:
    return machines.engine(Container.objects.select_related("node").get().node)


def body_of(answer: Any) -> str:
    return str(answer.content.decode())


def at(reservation: Reservation, part: str = "") -> str:
    return f"/reservations/{reservation.pk}/{part}"


# ---- steps ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of_row", "of_container", "of_forward", "now"),
    [
        ({}, {}, {}, "Image"),
        ({"progress": 0}, {}, {}, "Image"),
        ({"progress": 42}, {}, {}, "Image"),
        ({"progress": 100}, {}, {}, "Volume and network"),
        ({}, {"expires_at": timezone.now()}, {}, "Container"),
        ({}, {"presence": "running"}, {}, "Gateway"),
        ({}, {"presence": "running"}, {"wanted": True}, "Gateway"),
        ({}, {"presence": "running"}, {"wanted": True, "applied": True}, "Answers"),
    ],
)
def test_the_steps_of_a_start_tell_where_it_is(
    of_row: dict[str, Any],
    of_container: dict[str, Any],
    of_forward: dict[str, Any],
    now: str,
    browser: Browser,
    owner: User,
    reservation: Reservation,
) -> None:
    Reservation.objects.update(state="starting", **of_row)
    Container.objects.update(**(of_container or {"presence": "absent"}))
    Forward.objects.update(**(of_forward or {"wanted": False}))

    page = body_of(browser(owner).get(at(reservation)))

    here = page.partition('aria-current="step"')[2].partition("</li>")[0]
    assert f">{now}<" in here
    assert page.count('aria-current="step"') == 1
    assert ('value="42"' in here) is (of_row.get("progress") == 42)
    assert 'id="delete-link"' in page  # it can be let go at any time


# ---- credentials ------------------------------------------------------------------------------------------


def test_credentials_are_not_in_the_page_until_somebody_asks(
    browser: Browser, owner: User, running: Reservation
) -> None:
    make_service().__class__.objects.update(connect=["login -p {password} -h {host}", "ping {host}"])
    password = running.credentials["password"]

    for part in ("", "state/", "access/", "logs/"):
        assert password not in body_of(browser(owner).get(at(running, part), headers=HTMX))
    page = body_of(browser(owner).get(at(running)))

    assert "login -p ••••" in page
    assert page.count('data-copy="ping') == 1
    assert 'data-copy="login' not in page
    assert not AuditEntry.objects.filter(action="reservation.reveal")


@pytest.mark.parametrize("headers", [HTMX, {}], ids=["htmx", "no scripts"])
def test_credentials_are_shown_on_demand_and_who_asked_is_written_down(
    headers: dict[str, str], browser: Browser, owner: User, running: Reservation
) -> None:
    make_service().__class__.objects.update(connect=["login -p {password} -h {host}"])
    password = running.credentials["password"]

    answer = browser(owner).post(at(running, "credentials/"), headers=headers)

    assert f"<code>{password}</code>" in body_of(answer)
    assert f'data-copy="login -p {password}' in body_of(answer)
    assert ("<html" in body_of(answer)) is not bool(headers)
    assert "no-store" in answer["Cache-Control"]
    [entry] = AuditEntry.objects.filter(action="reservation.reveal")
    assert (entry.actor, entry.target) == (owner, f"reservation:{running.pk}")
    assert password not in str(entry.data)


def test_they_are_hidden_again_and_nothing_typed_is_lost(browser: Browser, owner: User, running: Reservation) -> None:
    form = {"hide": "1", "sources-web": "10.0."}

    answer = browser(owner).post(at(running, "credentials/"), form, headers=HTMX)

    assert running.credentials["password"] not in body_of(answer)
    assert ">10.0.</textarea>" in body_of(answer)
    assert not AuditEntry.objects.filter(action="reservation.reveal")


def test_credentials_are_asked_for_by_post_only(browser: Browser, owner: User, running: Reservation) -> None:
    assert browser(owner).get(at(running, "credentials/")).status_code == 405


# ---- who may connect --------------------------------------------------------------------------------------


def test_a_list_is_saved_and_shown(browser: Browser, owner: User, running: Reservation) -> None:
    answer = browser(owner).post(
        at(running, "ports/web/allow/"), {"sources-web": "203.0.113.7\r\n10.0.0.0/8\r\n203.0.113.7"}, headers=HTMX
    )

    assert Forward.objects.get().allowed_sources == ["203.0.113.7/32", "10.0.0.0/8"]
    assert ">203.0.113.7\n10.0.0.0/8</textarea>" in body_of(answer)
    assert "Saved: the gateway has it" in body_of(answer)
    assert "You come from 127.0.0.1, which is not on the list" in body_of(answer)
    assert Event.objects.filter(text="Only 203.0.113.7, 10.0.0.0/8 may connect to port web.").exists()


@pytest.mark.parametrize("headers", [HTMX, {}], ids=["htmx", "no scripts"])
@pytest.mark.parametrize("bad", ["example.org", "2001:db8::1", "1.2.3.4/40", "🦆" * 500, "a\0b", "9" * 9000])
def test_an_allow_list_entry_that_is_no_address_or_network(
    bad: str, headers: dict[str, str], browser: Browser, owner: User, running: Reservation
) -> None:
    form = {"sources-web": f"10.0.0.1\n{bad}"}

    answer = browser(owner).post(at(running, "ports/web/allow/"), form, headers=headers)

    assert answer.status_code == 422
    assert 'role="alert"' in body_of(answer)
    assert ">10.0.0.1\n" in body_of(answer)  # nothing typed is lost
    assert Forward.objects.get().allowed_sources == []


def test_only_ones_own_address_is_one_click(browser: Browser, owner: User, running: Reservation) -> None:
    answer = browser(owner).post(at(running, "ports/web/allow/"), {"sources-web": "", "only_mine": "1"})

    assert answer.status_code == 302
    assert Forward.objects.get().allowed_sources == ["127.0.0.1/32"]


@pytest.mark.parametrize("headers", [HTMX, {}], ids=["htmx", "no scripts"])
@pytest.mark.parametrize("part", ["ports/web/allow/", "credentials/", "ports/web/test/"])
def test_what_was_typed_and_not_saved_stays_whatever_else_is_pressed(
    part: str,
    headers: dict[str, str],
    browser: Browser,
    owner: User,
    running: Reservation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reach, "ask", lambda *_: reach.Found("green", "It answers."))
    form = {"sources-web": "10.0.0.1\nhalf a netw", "only_mine": "1"}

    answer = browser(owner).post(at(running, part), form, headers=headers)

    assert Forward.objects.get().allowed_sources == (["127.0.0.1/32"] if "allow" in part else [])
    if "test" not in part or not headers:  # with scripts, a test changes nothing but its own answer
        assert ">10.0.0.1\nhalf a netw</textarea>" in body_of(answer)
        assert "What stands here is not saved." in body_of(answer)
        assert answer.status_code == 200


def test_what_is_saved_is_shown_as_it_is_now(browser: Browser, owner: User, running: Reservation) -> None:
    form = {"sources-web": "10.0.0.1"}
    client = browser(owner)
    client.post(at(running, "ports/web/allow/"), form, headers=HTMX)

    answer = client.post(at(running, "ports/web/allow/"), form | {"only_mine": "1"}, headers=HTMX)

    assert ">127.0.0.1</textarea>" in body_of(answer)
    assert "What stands here is not saved." not in body_of(answer)


@pytest.mark.parametrize("part", ["ports/nothing/allow/", "ports/nothing/test/", "ports/%00/test/", "ports/🦆/allow/"])
def test_a_port_that_it_does_not_have(part: str, browser: Browser, owner: User, running: Reservation) -> None:
    assert browser(owner).post(at(running, part)).status_code == 404


# ---- does it answer ---------------------------------------------------------------------------------------


@pytest.fixture
def caller_hears(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Whoever connects is told this, and hung up on; a pair of sockets stands for the network."""
    ours: list[socket.socket] = []

    def answer(say: bytes, *, hang_up: bool) -> None:
        theirs, mine = socket.socketpair()
        mine.sendall(say)
        if hang_up:
            mine.shutdown(socket.SHUT_WR)
        ours.append(mine)
        monkeypatch.setattr(socket, "create_connection", lambda place, timeout: theirs)

    yield answer
    for one in ours:
        one.close()


@pytest.mark.parametrize(
    ("kind", "say", "hang_up", "tone", "sentence"),
    [
        ("http", b"HTTP/1.1 200 OK\r\n\r\n", False, "green", "It answers: HTTP 200 OK"),
        ("http", b"HTTP/1.0 404 nope\r\n", True, "green", "It answers: HTTP 404 Not Found"),
        ("http", b"HTTP/1.1 503 x\r\n", True, "amber", "It answers: HTTP 503 Service Unavailable"),
        ("http", b"SSH-2.0-x\r\n", False, "amber", "Something answers, and it is not HTTP: SSH-2.0-x"),
        ("http", b"HTTP/1.1\r\n", True, "amber", "Something answers, and it is not HTTP"),
        ("http", b"", False, "amber", "It accepts connections and says nothing"),
        ("http", b"", True, "amber", "It accepts connections and hangs up"),
        ("http", b"\x1b[31m<b>\0\n", True, "amber", "it is not HTTP: <b>"),
        ("ssh", b"SSH-2.0-OpenSSH_9.2\r\n", False, "green", "It answers: SSH-2.0-OpenSSH_9.2"),
        ("ssh", b"x" * 5000, True, "amber", "it is not SSH: xxx"),
        ("tcp", b"", False, "green", "It accepts connections"),
        ("tcp", b"hello\n", True, "green", "It accepts connections"),
        ("tcp", b"", True, "amber", "hangs up at once"),
    ],
)
def test_what_answers_is_told_in_words(
    kind: str,
    say: bytes,
    hang_up: bool,
    tone: str,
    sentence: str,
    caller_hears: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reach, "SETTLE_S", 0.05)
    caller_hears(say, hang_up=hang_up)

    found = reach.probe("198.18.0.1", 20_000, kind, time_limit_s=0.2)

    assert (found.tone, sentence in found.sentence) == (tone, True), found
    assert len(found.sentence) < 200


@pytest.mark.parametrize(
    ("problem", "sentence"),
    [
        (ConnectionRefusedError(), "The connection was refused."),
        (TimeoutError(), "No answer within 3 s."),
        (OSError(113, "No route to host"), "It cannot be reached: No route to host."),
        (socket.gaierror(-2, "Name or service not known"), "It cannot be reached: Name or service not known."),
    ],
)
def test_where_nobody_answers_that_is_told(problem: OSError, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(place: object, timeout: float) -> None:
        raise problem

    monkeypatch.setattr(socket, "create_connection", fail)

    assert reach.probe("198.18.0.1", 20_000, "tcp").sentence == sentence


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    asked: list[tuple[Any, ...]] = []

    def probe(*place: Any) -> reach.Found:
        asked.append(place)
        return reach.Found("red", "No answer within 3 s.")

    monkeypatch.setattr(reach, "probe", probe)
    monkeypatch.setattr(reach, "_own_address", lambda host: "198.18.0.9")
    return asked


def test_the_public_address_is_what_is_tried(
    browser: Browser, owner: User, running: Reservation, probed: list[tuple[Any, ...]]
) -> None:
    answer = browser(owner).post(at(running, "ports/web/test/"), headers=HTMX)

    forward = Forward.objects.get()
    assert probed == [("198.18.0.1", forward.public_port, "http")]
    assert "No answer within 3 s." in body_of(answer)
    assert "<html" not in body_of(answer)
    assert "No answer within 3 s." in body_of(browser(owner).post(at(running, "ports/web/test/")))


def test_where_the_list_leaves_the_portal_out_that_is_said(
    browser: Browser, owner: User, running: Reservation, probed: list[tuple[Any, ...]]
) -> None:
    Forward.objects.update(allowed_sources=["203.0.113.0/24"])
    left_out = body_of(browser(owner).post(at(running, "ports/web/test/"), headers=HTMX))
    Forward.objects.update(allowed_sources=["198.18.0.0/24"])
    let_in = body_of(browser(owner).post(at(running, "ports/web/test/"), headers=HTMX))

    assert "The portal itself (198.18.0.9) is not on the list" in left_out
    assert "No answer within 3 s." in let_in


def test_nobody_tests_without_end(
    browser: Browser, owner: User, running: Reservation, probed: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_000_000.0)
    client = browser(owner)

    pages = [body_of(client.post(at(running, "ports/web/test/"), headers=HTMX)) for _ in range(15)]

    assert len(probed) == reach.MOST_A_MINUTE
    assert "At most 12 tests a minute" in pages[-1]


def test_what_does_not_run_is_not_tried(
    browser: Browser, owner: User, reservation: Reservation, probed: list[tuple[Any, ...]]
) -> None:
    answer = body_of(browser(owner).post(at(reservation, "ports/web/test/"), headers=HTMX))

    assert "It does not run, so nothing answers there." in answer
    assert probed == []


# ---- the log ----------------------------------------------------------------------------------------------


def say(engine: FakeEngine, *lines: str, **how: Any) -> None:
    engine.write_log(Container.objects.get().machine_name, *lines, **how)


def test_the_last_lines_are_shown_harmless(
    browser: Browser, owner: User, running: Reservation, engine: FakeEngine
) -> None:
    say(engine, "old", *[f"line {n}" for n in range(199)], "\x1b[31m<script>alert(1)</script>\x1b[0m")

    page = body_of(browser(owner).get(at(running, "logs/")))

    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "\x1b" not in page
    assert ">old<" not in page
    assert "The last 200 lines; there are older ones" in page


def test_a_search_is_for_plain_text_in_any_case(
    browser: Browser, owner: User, running: Reservation, engine: FakeEngine
) -> None:
    say(engine, "An ERROR.*", "fine", "error again")

    page = body_of(browser(owner).get(at(running, "logs/"), {"search": "error"}))
    odd = body_of(browser(owner).get(at(running, "logs/"), {"search": "ERROR.*"}))

    assert "2 of the last 3 lines have “error”" in page
    assert ">fine<" not in page
    assert "1 of the last 3 lines has “ERROR.*”" in odd


@pytest.mark.parametrize(
    "asked",
    [
        {"tail": "-1"},
        {"tail": "9" * 99},
        {"tail": "🦆"},
        {"search": "\0"},
        {"search": "🦆" * 500},
        {"search": "<b>"},
        {"after": "yesterday"},
        {"after": "-5"},
        {"after": "9" * 400},
    ],
)
def test_whatever_is_asked_of_a_log_is_answered(
    asked: dict[str, str], browser: Browser, owner: User, running: Reservation, engine: FakeEngine
) -> None:
    say(engine, "a line")

    for part in ("logs/", "logs/more/", "logs/download/"):
        answer = browser(owner).get(at(running, part), asked)
        assert answer.status_code == 200
        assert "<b>" not in text_of(answer)


def test_following_tells_only_what_is_new(
    browser: Browser, owner: User, running: Reservation, engine: FakeEngine
) -> None:
    say(engine, "first")
    found = logs.read(running)
    path = at(running, f"logs/more/?after={found.cursor}")
    before = body_of(browser(owner).get(path))
    say(engine, "second", error=True)

    after = body_of(browser(owner).get(path))

    assert ("first" in before, "second" in before) == (False, False)
    assert ("first" in after, "second" in after, "is-error" in after) == (False, True, True)
    assert f"after={found.cursor}&" in before
    assert f"after={found.cursor}&" not in after


def test_a_download_is_a_file_of_plain_text(
    browser: Browser, owner: User, running: Reservation, engine: FakeEngine
) -> None:
    say(engine, "<b>bold</b>")
    say(engine, "lost", error=True)

    answer = browser(owner).get(at(running, "logs/download/"))

    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert f'attachment; filename="nginx-{running.pk}-' in answer["Content-Disposition"]
    assert "no-store" in answer["Cache-Control"]
    first, second = text_of(answer).splitlines()
    assert first.endswith("+00:00   <b>bold</b>")
    assert second.endswith("+00:00 E lost")


def test_a_log_that_cannot_be_had_says_why(
    browser: Browser, owner: User, running: Reservation, engine: FakeEngine
) -> None:
    client = browser(owner)
    engine.trouble.silent = True
    silent = body_of(client.get(at(running, "logs/")))
    engine.trouble.silent = False
    engine.containers.clear()
    gone = body_of(client.get(at(running, "logs/download/")))
    Node.objects.update(health=Node.Health.LOST)
    lost = body_of(client.get(at(running, "logs/more/")))
    actions.end(reservation=running, text="Deleted.", by=owner, now=timezone.now())
    Reservation.objects.update(state="ended")
    over = body_of(client.get(at(running, "logs/")))

    assert "Its node gives no answer at the moment." in silent
    assert "Its container was removed, and its log with it." in gone
    assert "Its node gives no answer at the moment." in lost
    assert "Its container was removed, and its log with it." in over


def test_what_was_not_started_has_no_log(browser: Browser, owner: User, reservation: Reservation) -> None:
    assert "It has not been started yet." in body_of(browser(owner).get(at(reservation, "logs/")))


def test_the_api_tells_the_log(api: Any, running: Reservation, engine: FakeEngine) -> None:
    say(engine, "one", "two")
    path = f"/reservations/{running.pk}/logs"

    first = api("GET", f"{path}?tail=1").json()
    say(engine, "three")
    later = api("GET", f"{path}?since={first['cursor']}").json()

    assert [line["text"] for line in first["lines"]] == ["two"]
    assert [line["text"] for line in later["lines"]] == ["three"]
    assert [line["text"] for line in api("GET", f"{path}?search=ONE").json()["lines"]] == ["one"]
    for bad in ("tail=0", "tail=99999", "since=yesterday", "since=2026-01-01T00:00:00", "search=%00"):
        assert api("GET", f"{path}?{bad}").status_code == 422, bad


# ---- charts -----------------------------------------------------------------------------------------------


def test_the_charts_have_figures_and_a_table(browser: Browser, owner: User, running: Reservation) -> None:
    client = browser(owner)

    found = client.get(at(running, "readings"), {"span": "24h"}).json()

    assert found["step_s"] == 60
    assert {"cores_used", "memory_mib", "received_per_s", "sent_per_s", "running"} <= found["values"].keys()
    assert client.get(at(running, "readings"), {"span": "1 year"}).status_code == 422
    assert "Nothing was read in this time." in body_of(client.get(at(running, "usage/"), {"span": "\0"}))
    assert "readings?span=24h" in body_of(client.get(at(running), {"span": "24h"}))


# ---- all of it --------------------------------------------------------------------------------------------


def test_the_page_takes_the_same_queries_with_many_events_and_ports(
    browser: Browser, owner: User, machines: Machines
) -> None:
    machines.clock.now = timezone.now() + timedelta(seconds=1)
    ports = [{"name": f"port-{n}", "kind": "tcp", "port": 1000 + n} for n in range(8)]
    few, many = (
        make_reservation(owner, now=timezone.now(), service=service)
        for service in (make_service(), make_service("many", image="library/nginx:1", ports=ports))
    )
    for n in range(50):
        note(many, f"event {n}", by="test", now=timezone.now() + timedelta(seconds=n))
    client = browser(owner)
    counts = []
    for row in (few, many):
        machines.settle(row)
        client.get(at(row))
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert client.get(at(row)).status_code == 200
        counts.append(len(queries))

    assert counts[0] == counts[1]
    assert counts[0] <= 16


def test_one_that_is_over_can_be_booked_again_and_shows_no_ports(
    browser: Browser, owner: User, running: Reservation
) -> None:
    Reservation.objects.update(state="ended", ended_at=timezone.now())

    page = body_of(browser(owner).get(at(running)))

    assert f"/reservations/new/?again={running.pk}" in page
    assert 'id="access"' not in page
    assert 'id="log"' not in page
    assert 'id="charts"' in page
