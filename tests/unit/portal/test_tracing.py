"""One id through web, task and driver: taken from who asks if it is well formed, told in the answer."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, shared_task
from celery.contrib.testing.worker import start_worker
from celery.signals import before_task_publish
from django.test import Client
from structlog.contextvars import bind_contextvars, bound_contextvars, clear_contextvars, get_contextvars

from accounts.models import User
from compute.breaker import Breaker, GuardedEngine
from compute.models import Node
from portal import tracing
from portal.tracing import HEADER, WELL_FORMED, request_id
from reservations.models import Reservation
from tests.fakes import FakeEngine
from tests.unit.conftest import Machines


@pytest.fixture(autouse=True)
def _nothing_bound() -> Iterator[None]:
    clear_contextvars()
    yield
    clear_contextvars()


# ---- the request ------------------------------------------------------------------------------------------


def id_of(sent: str | None) -> str:
    headers = {} if sent is None else {"x-request-id": sent}
    return str(Client(headers=headers).get("/healthz")[HEADER])


@pytest.mark.parametrize("good", ["abcdefgh", "0b4f1ad2-3c5e-4f6a-8b9c-0d1e2f3a4b5c", "Proxy_1.2-x", "a" * 64])
def test_a_well_formed_id_is_taken_and_told(good: str) -> None:
    assert id_of(good) == good


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param("abcdefgh\n", id="line break at its end"),
        pytest.param("abcd\r\nSet-Cookie: a=b", id="a header in it"),
        pytest.param("a" * 10_240, id="10 kB"),
        pytest.param("a" * 65, id="one too long"),
        pytest.param("short", id="too short"),
        pytest.param("", id="empty"),
        pytest.param("        ", id="spaces"),
        pytest.param("pretty-😀-emoji", id="emoji"),
        pytest.param("þorn-and-more", id="latin-1"),
        pytest.param("<script>alert(1)</script>", id="script"),
        pytest.param("../../etc/passwd", id="path"),
        pytest.param("-begins-with-dash", id="dash first"),
        pytest.param("${jndi:ldap://x}", id="jndi"),
        pytest.param('"; DROP TABLE', id="quotes"),
        pytest.param("١٢٣٤٥٦٧٨", id="other digits"),
    ],
)
def test_any_other_id_is_not(bad: str) -> None:
    made = id_of(bad)

    assert made != bad
    assert WELL_FORMED.match(made)


def test_without_one_each_request_gets_its_own() -> None:
    made = {id_of(None) for _ in range(20)}

    assert len(made) == 20
    assert all(WELL_FORMED.match(one) for one in made)


def test_nothing_of_a_request_stays_in_its_thread() -> None:
    Client(headers={"x-request-id": "abcdefgh"}).get("/healthz")

    assert get_contextvars() == {}


@pytest.mark.django_db
def test_problems_and_error_pages_name_the_request(owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **more: Any) -> None:
        raise RuntimeError("the machine room")

    browser = Client(headers={"x-request-id": "customer-0001"}, raise_request_exception=False)
    browser.force_login(owner)
    answers = {
        401: browser.get("/api/v1/reservations"),
        404: browser.get("/api/v1/nothing"),
    }
    page = browser.get("/nothing/")
    monkeypatch.setattr("reservations.kept_volumes.visible_to", broken)
    broke = browser.get("/reservations/")

    assert {status: (a.status_code, a.json()["request_id"]) for status, a in answers.items()} == {
        401: (401, "customer-0001"),
        404: (404, "customer-0001"),
    }
    for status, answer in ((404, page), (500, broke)):
        assert answer.status_code == status
        assert "<code>customer-0001</code>" in answer.content.decode()
        assert answer[HEADER] == "customer-0001"


@pytest.mark.django_db
def test_what_django_says_of_a_request_has_its_id(owner: User, caplog: pytest.LogCaptureFixture) -> None:
    seen: dict[str, str] = {}

    class Noting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen[record.name] = request_id()

    handler = Noting()
    logging.getLogger().addHandler(handler)
    try:
        Client(headers={"x-request-id": "abcdefgh"}).get("/nothing/")
    finally:
        logging.getLogger().removeHandler(handler)

    assert seen["django.request"] == seen["portal.requests"] == "abcdefgh"


# ---- tasks ------------------------------------------------------------------------------------------------


def headers_of_a_message(app: Celery) -> dict[str, Any]:
    caught: list[dict[str, Any]] = []

    def catch(headers: dict[str, Any], **kwargs: Any) -> None:
        caught.append(headers)

    before_task_publish.connect(catch)
    try:
        app.send_task("reservations.tasks.reconcile", (7,), expires=60)
    finally:
        before_task_publish.disconnect(catch)
    return caught[0]


@shared_task(name="tests.look")
def look() -> None:
    logging.getLogger("tests.look").warning(json.dumps(get_contextvars()))
    if not get_contextvars().get("again"):
        bind_contextvars(again=True)
        look.app.send_task("tests.look.again")


@shared_task(name="tests.look.again")
def look_again() -> None:
    logging.getLogger("tests.look.again").warning(json.dumps(get_contextvars()))


@pytest.fixture
def worker() -> Iterator[Celery]:
    """A real worker of Celery's with threads, over a queue in memory."""
    app = Celery("tests", broker="memory://", set_as_current=False)
    app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)
    app.finalize()
    with start_worker(app, pool="threads", concurrency=2, perform_ping_check=False, loglevel="WARNING"):
        yield app


def told(caplog: pytest.LogCaptureFixture, name: str, count: int) -> list[dict[str, Any]]:
    from tests.live import wait_for

    def rows() -> list[dict[str, Any]]:
        return [json.loads(record.message) for record in list(caplog.records) if record.name == name]

    wait_for(lambda: len(rows()) >= count, seconds=20)
    return rows()


def test_a_message_carries_the_id_and_the_task_has_it(worker: Celery, caplog: pytest.LogCaptureFixture) -> None:
    with bound_contextvars(request_id="from-the-web"):
        worker.send_task("tests.look")

    (first,) = told(caplog, "tests.look", 1)
    (second,) = told(caplog, "tests.look.again", 1)

    assert first == {"request_id": "from-the-web", "task": "look"}
    assert second == {"request_id": "from-the-web", "task": "again"}  # what a task sends goes on, and nothing else


def test_what_the_timetable_sends_gets_an_id_of_its_own(worker: Celery, caplog: pytest.LogCaptureFixture) -> None:
    worker.send_task("tests.look")
    worker.send_task("tests.look")

    ids = {row["request_id"] for row in told(caplog, "tests.look", 2)}

    assert len(ids) == 2
    assert all(one.startswith("look-") and WELL_FORMED.match(one) for one in ids)


def test_a_message_with_another_id_than_ours_is_given_a_new_one(
    worker: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    worker.send_task("tests.look", headers={tracing.CARRIED: "evil\nline"})

    (row,) = told(caplog, "tests.look", 1)

    assert row["request_id"].startswith("look-")


# ---- reservations and drivers -----------------------------------------------------------------------------


class Context(logging.Handler):
    """What is bound whenever somebody logs, by the logger's name."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.seen: dict[str, list[dict[str, Any]]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.setdefault(record.name, []).append(dict(get_contextvars()))


@pytest.fixture
def context() -> Iterator[Context]:
    handler, root = Context(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.mark.django_db
def test_drivers_lines_have_the_request_and_the_reservation_in_threads_too(
    machines: Machines, reservation: Reservation, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded: dict[str, GuardedEngine] = {}

    def behind_a_breaker(node: Node) -> GuardedEngine:
        engine: FakeEngine = machines.engine(node)
        return guarded.setdefault(node.name, GuardedEngine(engine, Breaker(node.name)))

    monkeypatch.setattr("compute.drivers.engine", behind_a_breaker)

    machines.clock.now = reservation.start
    with bound_contextvars(request_id="from-the-web"):
        machines.settle(reservation)

    about = {"request_id": "from-the-web", "reservation": reservation.pk}
    # The network is made in a thread of its own; created and started are told by the breaker before the engine.
    for name, at_least in (("compute.breaker", 3), ("compute.forwarding", 1), ("reservations.transitions", 2)):
        assert len(context.seen[name]) >= at_least, name
        assert [row for row in context.seen[name] if row != about] == [], name
    assert get_contextvars() == {}


@pytest.mark.django_db
def test_lines_about_a_node_name_it(machines: Machines, node: Node, context: Context) -> None:
    from compute import health
    from tests.factories import NOW

    machines.engine(node).trouble.silent = True
    health.probe(node, NOW)
    health.probe(node, NOW)

    assert [row.get("node") for row in context.seen["compute.health"]] == ["one"]
    assert "node" not in get_contextvars()
