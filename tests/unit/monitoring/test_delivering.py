"""Messages over a real mail server and a real HTTP receiver: none is lost, none is told twice, whatever fails."""

import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from compute import failpoints
from monitoring.alerts import delivering, webhook
from monitoring.models import Delivery, Incident
from tests.factories import NOW
from tests.unit.billing.mail_server import MailServer, mail_server
from tests.unit.conftest import Time
from tests.unit.monitoring.watching import ill, see
from tests.unit.reservations.test_races import at_once

SECRET = "the-webhook-secret"


@pytest.fixture
def clock() -> Time:
    return Time(NOW)


@pytest.fixture(autouse=True)
def _places(socket_enabled: None, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    settings.BERTH_BASE_URL = "https://berth.example.org"
    settings.BERTH_ALERT_MAIL = ["ops@example.org"]


@pytest.fixture
def server(settings: Any, _places: None) -> Iterator[MailServer]:
    with mail_server() as running:
        settings.EMAIL_PORT = running.port
        yield running


class Receiver(ThreadingHTTPServer):
    """Keeps what is posted to it; `answer` is the status, and where a redirect leads."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Post)
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.answer = 204
        self.hold = threading.Event()
        self.hold.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook?token=hidden"


class _Post(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, dict(self.headers), body))
        self.server.hold.wait(5)
        self.send_response(self.server.answer)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    do_GET = do_POST  # noqa: N815 - the name is the standard library's

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield running
        finally:
            running.hold.set()
            running.shutdown()
            thread.join()


@pytest.fixture
def hook(settings: Any, _places: None) -> Iterator[Receiver]:
    with receiver() as running:
        settings.BERTH_ALERT_WEBHOOK, settings.BERTH_ALERT_WEBHOOK_SECRET = running.url, SECRET
        settings.BERTH_ALERT_MAIL = []
        yield running


def opens(clock: Time, *numbers: int) -> None:
    """These nodes' disks are full: told at once."""
    see(clock.now, *(ill("disk_full", number) for number in numbers or (1,)))


def closes(clock: Time) -> None:
    clock.forward(minutes=2)
    see(clock.now)


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def subjects(server: MailServer) -> list[str]:
    return [str(mail["Subject"]) for mail in server.mails]


def text(server: MailServer, number: int = -1) -> str:
    return str(server.mails[number].get_body().get_content()).replace("\r", "")  # type: ignore[union-attr]


def unsent() -> list[Delivery]:
    return list(Delivery.objects.filter(sent_at=None).order_by("pk"))


# ---- what is sent -------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_one_mail_when_it_begins_and_one_when_it_is_over(server: MailServer, clock: Time) -> None:
    see(clock.now, ill())
    clock.forward(seconds=10)
    see(clock.now, ill())
    assert [delivering.deliver_due(clock), delivering.deliver_due(clock)] == [1, 0]
    clock.forward(minutes=7)
    see(clock.now)
    assert [delivering.deliver_due(clock), delivering.deliver_due(clock)] == [1, 0]

    assert subjects(server) == ["[Berth] node1 is down", "[Berth] node1 is back (after 7 min)"]
    first, second = text(server, 0), text(server, 1)
    assert first.startswith("CRITICAL: node1 is down\n  Since 04 May 2026, 10:00:00 UTC.\n  no route to host\n")
    assert "What to do: See that it is up." in first
    assert "https://berth.example.org/monitor/incidents/" in first
    assert second.startswith("OVER: node1 is back (after 7 min)\n  From 04 May 2026, 10:00:00 UTC until")
    ids = {mail["Message-ID"] for mail in server.mails}
    assert len(ids) == 2
    assert all(one.endswith("@berth.example.org>") for one in ids)
    assert not unsent()


@pytest.mark.django_db
def test_a_thousand_nodes_down_at_once_are_one_mail(server: MailServer, clock: Time) -> None:
    opens(clock, *range(1000))
    assert [delivering.deliver_due(clock), delivering.deliver_due(clock)] == [1, 0]
    assert "1000 problems: The disk of node0" in subjects(server)[0]
    assert "and 998 more" in subjects(server)[0]
    assert "and 950 more, which the page below lists" in text(server)
    closes(clock)
    assert [delivering.deliver_due(clock), delivering.deliver_due(clock)] == [1, 0]

    assert "1000 problems over" in subjects(server)[1]
    assert not unsent()


@pytest.mark.django_db
def test_the_webhook_gets_signed_json(hook: Receiver, clock: Time) -> None:
    opens(clock, 1, 2)
    assert delivering.deliver_due(clock) == 1

    [(path, headers, body)] = hook.got
    assert path == "/hook?token=hidden"
    wanted = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    assert headers["Berth-Signature"] == f"sha256={wanted}"
    found = json.loads(body)
    assert found["id"] == headers["Berth-Message"]
    assert found["text"].startswith("[Berth] 2 problems")
    assert [(row["event"], row["kind"], row["severity"], row["name"]) for row in found["incidents"]] == [
        ("opened", "disk_full", "critical", "node1"),
        ("opened", "disk_full", "critical", "node2"),
    ]
    assert found["incidents"][0]["since"] == "2026-05-04T10:00:00+00:00"
    assert [row.recipient for row in Delivery.objects.all()] == ["127.0.0.1"] * 2  # the address is a secret


@pytest.mark.django_db
def test_without_a_secret_nothing_is_signed(hook: Receiver, clock: Time, settings: Any) -> None:
    settings.BERTH_ALERT_WEBHOOK_SECRET = ""
    opens(clock)
    delivering.deliver_due(clock)

    assert "Berth-Signature" not in hook.got[0][1]


@pytest.mark.parametrize(
    "address",
    [
        *("ftp://example.org/x", "file:///etc/passwd", "//example.org", "http://", "http://x:99999/"),
        *("https://bob:s3cret@127.0.0.1/x", "https://s3cret@127.0.0.1/x", "https://@127.0.0.1/s3cret"),
        *("http://127.0.0.1/s3cret\x7f", "http://127.0.0.1/s3 cret", "http://127.0.0.1/s3cret\n"),
        "http://127.0.0.1/s3crét",
    ],
)
def test_only_http_addresses_without_a_password_are_posted_to(address: str) -> None:
    assert not webhook.is_address(address)
    with pytest.raises(webhook.Refused) as refused:
        webhook.post(address, {}, message="m", secret="")
    assert "cret" not in str(refused.value)


@pytest.mark.parametrize("host", ["bob%3as3cret%40127.0.0.1", "s3cret%7f", "s3cr%C3%A9t." + "s3cret" * 20])
def test_what_cannot_be_posted_to_for_another_reason_is_not_quoted_either(host: str) -> None:
    with pytest.raises((webhook.Refused, webhook.NotSent)) as refused:
        webhook.post(f"http://{host}/s3cret", {}, message="m", secret="")
    assert "cret" not in str(refused.value)


@pytest.mark.parametrize("address", ["http://127.0.0.1:8000", "https://hooks.example.org/a@b?c=d#e", "http://[::1]/"])
def test_usual_addresses_are_addresses(address: str) -> None:
    assert webhook.is_address(address)


# ---- trouble ------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_an_outage_of_the_mail_server_loses_and_doubles_nothing(clock: Time, settings: Any) -> None:
    settings.BERTH_ALERT_MAIL = ["ops@example.org", "oncall@example.org"]
    settings.EMAIL_PORT = port = closed_port()
    opens(clock, 1, 2)
    assert delivering.deliver_due(clock) == 0
    assert [row.attempts for row in unsent()] == [1, 0, 1, 0]  # one try is enough to see that nobody answers
    closes(clock)  # both are over before anybody could be told
    for _ in range(20):
        assert delivering.deliver_due(clock) == 0
        clock.forward(seconds=5)
    see(clock.now, ill("disk_full", 3))
    assert {row.problem.split(":")[0] for row in unsent() if row.problem} == {"ConnectionRefusedError"}

    with mail_server(port) as server:
        clock.forward(minutes=5)
        delivering.deliver_due(clock)
        assert delivering.deliver_due(clock) == 0

    assert [mail["To"] for mail in server.mails] == ["ops@example.org", "oncall@example.org"]
    assert set(subjects(server)) == {"[Berth] 1 new problem (The disk of node3 is nearly full), 2 over"}
    assert "The disk of node1 is nearly full, and nobody could be told then." in text(server)
    assert "From 04 May 2026, 10:00:00 UTC until 04 May 2026, 10:02:00 UTC." in text(server)
    assert not unsent()


@pytest.mark.django_db
def test_the_all_clear_never_overtakes_its_alert(clock: Time, server: MailServer, settings: Any) -> None:
    settings.EMAIL_PORT, up = closed_port(), server.port
    opens(clock)
    delivering.deliver_due(clock)
    clock.forward(seconds=1)
    settings.EMAIL_PORT = up
    Incident.objects.update(closed_at=clock.now)
    Delivery.objects.create(
        incident=Incident.objects.get(),
        about="closed",
        channel="mail",
        recipient="ops@example.org",
        created_at=clock.now,
        try_at=clock.now,
    )

    assert delivering.deliver_due(clock) == 0  # the alert waits for its next attempt
    clock.forward(seconds=10)
    assert delivering.deliver_due(clock) == 1
    assert subjects(server) == ["[Berth] The disk of node1 has room again (after 1 s)"]
    assert "nobody could be told then" in text(server)


@pytest.mark.django_db
def test_an_address_that_is_refused_keeps_no_other_waiting(server: MailServer, clock: Time, settings: Any) -> None:
    settings.BERTH_ALERT_MAIL = ["gone@example.org", "ops@example.org"]
    server.refused.add("gone@example.org")
    opens(clock)

    assert delivering.deliver_due(clock) == 1
    [row] = unsent()
    assert "no such person" in row.problem
    assert row.try_at == clock.now + delivering.REFUSED_PAUSE


@pytest.mark.django_db
def test_pauses_grow_and_after_three_days_it_is_given_up(clock: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    assert delivering.PAUSES[-1] == timedelta(minutes=5)
    monkeypatch.setattr(delivering, "PAUSES", [*delivering.PAUSES[:-1], timedelta(hours=1)])  # fewer rounds
    opens(clock)
    pauses: list[timedelta] = []
    while (due := Delivery.objects.get().try_at) is not None and len(pauses) < 2000:
        pauses.append(due - clock.now)
        clock.now = due
        delivering.deliver_due(clock)

    assert pauses[1:6] == delivering.PAUSES[:5]
    assert set(pauses[6:]) == {delivering.PAUSES[-1]}
    assert timedelta(days=3) <= clock.now - NOW < timedelta(days=3, hours=1)
    assert Delivery.objects.get().sent_at is None
    assert "ConnectionRefusedError" in Delivery.objects.get().problem


@pytest.mark.django_db
def test_what_was_given_up_is_sent_when_somebody_asks(clock: Time, server: MailServer) -> None:
    opens(clock)
    Delivery.objects.update(try_at=None, problem="x", attempts=99)
    assert delivering.deliver_due(clock) == 0

    delivering.send_again(delivery=Delivery.objects.get(), by="test", now=clock.now)
    assert [delivering.deliver_due(clock), delivering.deliver_due(clock)] == [1, 0]
    delivering.send_again(delivery=Delivery.objects.get(), by="test", now=clock.now)
    assert delivering.deliver_due(clock) == 0  # it was sent: not again
    assert len(server.mails) == 1


@pytest.mark.django_db
@pytest.mark.parametrize(("status", "pause"), [(500, 10), (503, 10), (429, 10), (404, 900), (302, 900)])
def test_the_webhook_refuses_and_redirects_are_not_followed(
    hook: Receiver, clock: Time, status: int, pause: int
) -> None:
    hook.answer = status
    opens(clock)

    assert delivering.deliver_due(clock) == 0
    [row] = unsent()
    assert row.problem == f"Refused: it answered {status}"
    assert row.try_at == clock.now + timedelta(seconds=pause)
    assert [path for path, _, _ in hook.got] == ["/hook?token=hidden"]
    hook.answer = 200
    clock.forward(seconds=pause)
    assert delivering.deliver_due(clock) == 1


@pytest.mark.django_db
def test_a_webhook_that_gives_no_answer_gets_the_same_message_again(
    hook: Receiver, clock: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook.post, "__kwdefaults__", {"timeout_s": 0.2})
    hook.hold.clear()
    opens(clock, 1)
    assert delivering.deliver_due(clock) == 0
    assert "Unsure" in unsent()[0].problem
    hook.hold.set()
    clock.forward(seconds=10)
    see(clock.now, ill("disk_full", 1), ill("disk_full", 2))  # meanwhile another

    assert delivering.deliver_due(clock) == 2
    first, again, other = (json.loads(body) for _, _, body in hook.got)
    assert first["id"] == again["id"] != other["id"]
    assert [row["name"] for row in again["incidents"]] == ["node1"]
    assert [row["name"] for row in other["incidents"]] == ["node2"]


@contextmanager
def dripping(what: bytes) -> Iterator[tuple[int, threading.Event]]:
    """A receiver that sends a byte of this every tenth of a second; its port, and whether it was hung up on."""
    over, hung_up = threading.Event(), threading.Event()

    def drip() -> None:
        caller, _ = listener.accept()
        with caller:
            for byte in what:
                try:
                    caller.send(bytes([byte]))
                except OSError:
                    hung_up.set()
                    return
                if over.wait(0.1):
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip)
        thread.start()
        try:
            yield listener.getsockname()[1], hung_up
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize("what", [b"HTTP/1.1 204 " + b"o" * 500, b"HTTP/1.1 204 OK\r\nX-Long: " + b"o" * 500])
def test_a_webhook_that_drips_is_hung_up_on_in_time(what: bytes) -> None:
    with dripping(what) as (port, hung_up):
        began = time.monotonic()
        with pytest.raises(webhook.Unsure, match="no answer in time"):
            webhook.post(f"http://127.0.0.1:{port}/", {}, message="m", secret="", timeout_s=1.0)

        assert time.monotonic() - began < 3
        assert hung_up.wait(5)
    for thread in [one for one in threading.enumerate() if one.name == "webhook"]:
        thread.join(5)
        assert not thread.is_alive()


@pytest.mark.django_db
def test_a_webhook_that_is_set_no_more_is_given_up(hook: Receiver, clock: Time, settings: Any) -> None:
    opens(clock)
    settings.BERTH_ALERT_WEBHOOK = ""

    assert delivering.deliver_due(clock) == 0
    [row] = unsent()
    assert (row.try_at, hook.got) == (None, [])
    assert delivering.NO_WEBHOOK in row.problem


class Killed(BaseException):
    """In place of a SIGKILL."""


@pytest.mark.django_db
def test_killed_between_sending_and_noting_it_is_the_same_mail_again(server: MailServer, clock: Time) -> None:
    def die(name: str) -> None:
        if name == "alert sent":
            raise Killed

    opens(clock)
    failpoints.handle(die)
    try:
        with pytest.raises(Killed):
            delivering.deliver_due(clock)
    finally:
        failpoints.handle(None)
    assert delivering.deliver_due(clock) == 0  # it may be under way in another process
    see(clock.now, ill("disk_full", 1), ill("disk_full", 2))
    clock.now += delivering.OURS_FOR

    assert delivering.deliver_due(clock) == 2
    first, again, other = server.mails
    assert first["Message-ID"] == again["Message-ID"] != other["Message-ID"]
    assert subjects(server)[:2] == ["[Berth] The disk of node1 is nearly full"] * 2
    assert not unsent()


@pytest.mark.django_db
def test_names_break_no_header(server: MailServer, clock: Time) -> None:
    opens(clock)
    Incident.objects.update(name="x\nBcc: eve@example.org")

    assert delivering.deliver_due(clock) == 1
    assert server.mails[0]["Bcc"] is None


# ---- many at once ---------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_eight_processes_at_once_send_each_message_once(server: MailServer, clock: Time, settings: Any) -> None:
    settings.BERTH_ALERT_MAIL = [f"ops{number}@example.org" for number in range(10)]
    opens(clock, 1, 2, 3)

    answers = at_once(8, lambda number: delivering.deliver_due(clock))

    assert sum(answers) == 10  # type: ignore[arg-type]
    assert sorted(str(mail["To"]) for mail in server.mails) == sorted(settings.BERTH_ALERT_MAIL)
    assert not unsent()


# ---- by hand ----------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_test_message_goes_to_everybody_and_says_what_happened(
    server: MailServer, hook: Receiver, settings: Any
) -> None:
    settings.BERTH_ALERT_MAIL = ["ops@example.org", "gone@example.org"]
    server.refused.add("gone@example.org")

    answers = delivering.test(now=NOW)

    assert [(place.recipient, bool(problem)) for place, problem in answers] == [
        ("ops@example.org", False),
        ("gone@example.org", True),
        ("127.0.0.1", False),
    ]
    assert subjects(server) == ["[Berth] A test of the alerts"]
    assert json.loads(hook.got[0][2])["incidents"][0]["kind"] == "test"
    assert not Delivery.objects.exists()
