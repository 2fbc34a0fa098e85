"""/monitor/containers/: found by customer, state and node; asked, restarted and ended with a reason."""

import threading
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import AuditEntry
from compute import drivers
from compute.engine import NoAnswer
from compute.models import Node, ObservedContainer
from compute.spec import Observed, Presence
from monitoring.views import container as page_of_one
from reservations.models import Reservation
from tests.factories import make_service, make_user
from tests.unit.monitoring.pages import (
    big_node,
    book_and_run,
    browser_of,
    generous,
    read_container,
    staff,
    words,
)

pytestmark = pytest.mark.django_db
LIST = "/monitor/containers/"


@pytest.fixture(autouse=True)
def _plain_http(settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = False


@pytest.fixture
def node() -> Node:
    return big_node("one")


@pytest.fixture
def mine(node: Node) -> ObservedContainer:
    """Ada's container, which runs."""
    return book_and_run(make_user("ada"))


def of(container: ObservedContainer, what: str = "") -> str:
    return f"{LIST}{container.pk}/{what}"


def found(query: str) -> list[str]:
    answer = browser_of(staff()).get(LIST + query)
    assert answer.status_code == 200
    return [row.container.name for row in answer.context["rows"]]


# ---- the list ---------------------------------------------------------------------------------------------


def test_it_shows_what_runs_whose_it_is_and_what_it_uses(mine: ObservedContainer) -> None:
    read_container(mine)

    text = words(browser_of(staff()).get(LIST))

    assert mine.name in text
    assert "ada" in text
    assert "128 MiB of 512 MiB" in text
    assert "Memory: 25 %" in text
    assert "0.25" in text


def test_without_any_it_says_so() -> None:
    assert "Nothing that Berth started is on any node" in words(browser_of(staff()).get(LIST))


@pytest.fixture
def four(mine: ObservedContainer) -> dict[str, ObservedContainer]:
    bob = make_user("bob")
    return {
        "mine": mine,
        "sick": book_and_run(bob, health="unhealthy"),
        "ended": book_and_run(bob, state="exited", exit_code=1),
        "gone": book_and_run(bob, state="gone"),
        "other": book_and_run(bob, node=big_node("two"), state="paused"),
    }


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", {"mine", "sick", "ended", "other"}),
        ("?state=exited", {"ended"}),
        ("?state=gone", {"gone"}),
        ("?state=trouble", {"sick", "ended"}),
        ("?health=unhealthy", {"sick"}),
        ("?health=none", {"mine", "ended", "other"}),
        ("?node=two", {"other"}),
        ("?node=nowhere", set()),
        ("?service=nginx&q=ada", {"mine"}),
        ("?service=redis", set()),
        ("?q=BOB", {"sick", "ended", "other"}),
        ("?q=ada@example.org", {"mine"}),
        ("?q=nobody", set()),
        ("?q=berth-", {"mine", "sick", "ended", "other"}),
        ("?state=x&health=x&page=x", {"mine", "sick", "ended", "other"}),
        ("?q=%00", {"mine", "sick", "ended", "other"}),
        ("?q=99999999999999999999999", set()),
        ("?q=%C2%B2", set()),
    ],
)
def test_it_is_filtered(query: str, names: set[str], four: dict[str, ObservedContainer]) -> None:
    assert set(found(query)) == {four[name].name for name in names}


def test_a_reservation_is_found_by_its_number(four: dict[str, ObservedContainer]) -> None:
    assert found(f"?q=%23{four['sick'].reservation_id}") == [four["sick"].name]


def test_one_of_which_no_reservation_is_known_is_shown_as_nobodys(mine: ObservedContainer) -> None:
    ObservedContainer.objects.update(reservation_id=999_999)
    client = browser_of(staff("change_reservation"))

    assert "nobody's" in words(client.get(LIST)).replace("&#x27;", "'")
    text = words(client.get(of(mine)))
    assert "No reservation in the database has this container." in text
    assert "Restart</button>" not in text


# ---- one --------------------------------------------------------------------------------------------------


def test_one_shows_what_was_seen_and_nothing_of_the_customers_secrets(mine: ObservedContainer) -> None:
    reservation = Reservation.objects.get()
    read_container(mine)

    text = words(browser_of(staff(everything=True)).get(of(mine)))

    assert "1.5 kB/s in, 10 B/s out" in text
    assert f"/admin/reservations/reservation/{reservation.pk}/change/" in text
    assert reservation.credentials["password"]
    assert reservation.credentials["password"] not in text
    assert "PASSWORD" not in text


def test_it_says_when_memory_was_short(mine: ObservedContainer) -> None:
    ObservedContainer.objects.update(oom_kills=2)

    assert "2 processes in it were killed for lack of memory" in words(browser_of(staff()).get(of(mine)))


@pytest.mark.parametrize("path", ["999999", "99999999999999999999999", "0"])
def test_an_unknown_one_is_not_found(path: str, mine: ObservedContainer) -> None:
    client = browser_of(staff("change_reservation"))

    for what in ("", "now/", "series"):
        assert client.get(f"{LIST}{path}/{what}").status_code == 404
    for deed in ("restart/", "end/"):
        assert client.post(f"{LIST}{path}/{deed}", {"reason": "x"}).status_code == 404


def test_its_charts_have_their_figures(mine: ObservedContainer) -> None:
    read_container(mine)

    answer = browser_of(staff()).get(of(mine, "series?span=1h")).json()

    assert [value for value in answer["values"]["memory_mib"] if value is not None] == [128]
    bad = browser_of(staff()).get(of(mine, "series?span=1y"))
    assert bad.status_code == 400
    assert "'1y'" in bad.json()["detail"]
    assert browser_of(staff()).get(of(mine, "?span=1y")).status_code == 404


# ---- ask the engine now -----------------------------------------------------------------------------------


class Engine:
    """Answers `observe` only."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def observe(self, name: str) -> Observed:
        answer = self.answer() if callable(self.answer) else self.answer
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Observed)
        return answer


def ask(monkeypatch: Any, container: ObservedContainer, answer: Any) -> str:
    monkeypatch.setattr(drivers, "engine", lambda node: Engine(answer))
    headers = {"HX-Request": "true", "HX-Target": "live"}
    return words(browser_of(staff()).get(of(container, "now/"), headers=headers))


def test_the_engine_says_how_it_is(monkeypatch: Any, mine: ObservedContainer) -> None:
    labels = {"berth.generation": "1", "secret": "canary"}

    said = ask(monkeypatch, mine, Observed(Presence.RUNNING, "abc123", labels=labels))

    assert "It runs." in said
    assert "abc123</span>, generation 1" in said
    assert "canary" not in said
    assert said.startswith("<div class=")


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (Observed(Presence.ABSENT), "does not have this container any more"),
        (Observed(Presence.EXITED, exit_code=3), "It ended with exit code 3."),
        (Observed(Presence.EXITED, exit_code=137, out_of_memory=True), "used more memory than its size allows"),
        (Observed(Presence.UNKNOWN), "does not know how it is"),
        (NoAnswer("connection refused"), "one gives no answer: connection refused."),
    ],
)
def test_what_it_says_is_a_sentence(answer: Any, sentence: str, monkeypatch: Any, mine: ObservedContainer) -> None:
    assert sentence in ask(monkeypatch, mine, answer)


def test_an_engine_that_hangs_is_not_waited_for(monkeypatch: Any, mine: ObservedContainer) -> None:
    released = threading.Event()
    monkeypatch.setattr(page_of_one, "TIME_LIMIT_S", 0.05)

    def hang() -> Observed:
        released.wait(20)
        return Observed(Presence.RUNNING)

    try:
        assert "one gave no answer within 0.05 s" in ask(monkeypatch, mine, hang)
    finally:
        released.set()


def test_it_works_without_scripts_too(monkeypatch: Any, mine: ObservedContainer) -> None:
    monkeypatch.setattr(drivers, "engine", lambda node: Engine(Observed(Presence.RUNNING)))

    text = words(browser_of(staff()).get(of(mine, "now/")))

    assert "It runs." in text
    assert "<html" in text


# ---- deeds ------------------------------------------------------------------------------------------------


def do(container: ObservedContainer, deed: str, reason: str = "the disk is full", **options: Any) -> Any:
    person = staff("change_reservation")
    return browser_of(person).post(of(container, deed), {"reason": reason}, **options)


def test_a_restart_is_asked_for_with_its_reason(mine: ObservedContainer) -> None:
    answer = do(mine, "restart/", follow=True)

    assert "is being restarted" in words(answer)
    assert "A restart was asked for by the operators: the disk is full" in words(answer)
    assert Reservation.objects.get().restart_asked_at is not None
    assert AuditEntry.objects.filter(action="reservation.restart").count() == 1


def test_it_is_ended_with_its_reason(mine: ObservedContainer) -> None:
    do(mine, "end/")

    row = Reservation.objects.get()
    assert (row.state, row.reason) == ("ending", "Ended by the operators: the disk is full")
    assert "over already" in words(do(mine, "end/", follow=True))


@pytest.mark.parametrize("deed", ["restart/", "end/"])
@pytest.mark.parametrize("reason", ["", "   ", "x" * 201, "a\x07b"])
def test_without_a_good_reason_nothing_is_done(deed: str, reason: str, mine: ObservedContainer) -> None:
    answer = do(mine, deed, reason)

    assert answer.status_code == 422
    assert 'class="field-errors"' in words(answer)
    row = Reservation.objects.get()
    assert (row.state, row.restart_asked_at) == ("running", None)


@pytest.mark.parametrize("deed", ["restart/", "end/"])
def test_who_may_not_change_reservations_is_refused(deed: str, mine: ObservedContainer) -> None:
    sent = {"reason": "x"}

    assert browser_of(staff("change_node")).post(of(mine, deed), sent).status_code == 403
    assert browser_of(make_user()).post(of(mine, deed), sent).status_code == 404
    assert browser_of(None).post(of(mine, deed), sent).status_code == 302
    assert browser_of(staff("change_reservation")).get(of(mine, deed)).status_code == 405
    row = Reservation.objects.get()
    assert (row.state, row.restart_asked_at) == ("running", None)
    assert "Restart</button>" not in words(browser_of(staff()).get(of(mine)))


@pytest.mark.parametrize("what", ["", "now/", "series"])
def test_it_is_for_staff(what: str, mine: ObservedContainer) -> None:
    for path in (LIST, of(mine, what)):
        assert browser_of(None).get(path).status_code == 302
        assert browser_of(make_user()).get(path).status_code == 404


@pytest.mark.parametrize("deed", ["restart/", "end/"])
def test_nothing_is_done_to_a_reservation_that_has_another_container_by_now(deed: str, mine: ObservedContainer) -> None:
    Reservation.objects.update(generation=2)

    assert "has another container by now" in words(do(mine, deed, follow=True))
    row = Reservation.objects.get()
    assert (row.state, row.restart_asked_at) == ("running", None)


def test_what_is_stopped_is_not_restarted(mine: ObservedContainer) -> None:
    Reservation.objects.update(state="stopped")

    assert "does not run" in words(do(mine, "restart/", follow=True))


# ---- how many queries -------------------------------------------------------------------------------------


def test_it_asks_as_often_for_many_as_for_one(node: Node) -> None:
    make_service("redis")
    client, counts, ada = browser_of(staff()), [], generous(make_user("ada"))
    for more in (1, 49):
        for _ in range(more):
            read_container(book_and_run(ada))
        client.get(LIST)
        with CaptureQueriesContext(connection) as asked:
            assert client.get(f"{LIST}?q=ada&service=nginx").status_code == 200
        counts.append(len(asked))

    assert counts[0] == counts[1] <= 14
    assert len(found("")) == 50


def test_one_asks_a_few_times(mine: ObservedContainer) -> None:
    client = browser_of(staff())
    client.get(of(mine))
    with CaptureQueriesContext(connection) as asked:
        assert client.get(of(mine)).status_code == 200
    assert len(asked) <= 18
