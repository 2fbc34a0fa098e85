"""/monitor/incidents/ and manage.py alerts: what is open, who was told, who looks after it."""

import json
from datetime import datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from accounts.models import AuditEntry, User
from monitoring import heartbeats
from monitoring.alerts import incidents
from monitoring.models import Delivery, Heartbeat, Incident
from tests.factories import make_user
from tests.unit.monitoring.watching import alive, ill, see
from tests.unit.portal.doors import log_in, make_factor

pytestmark = pytest.mark.django_db
PAGE = "/monitor/incidents/"


@pytest.fixture(autouse=True)
def _plain_http(settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = False
    settings.BERTH_ALERT_MAIL = ["ops@example.org"]


@pytest.fixture(autouse=True)
def _watched() -> None:
    looked(timezone.now())


@pytest.fixture
def ada() -> User:
    person = make_user("ada", is_staff=True, is_superuser=True)
    make_factor(person)
    return person


@pytest.fixture
def client(ada: User) -> Client:
    browser = Client()
    log_in(browser, ada)
    return browser


def looked(at: datetime) -> None:
    """A worker looked for what is wrong."""
    alive(at, beat=False)
    heartbeats.note_look("worker@test", at)


def wrong(*numbers: int) -> None:
    """These nodes' disks are full since an hour."""
    see(timezone.now() - timedelta(hours=1), *(ill("disk_full", number) for number in numbers or (1,)))


def over() -> None:
    """Everything healed half an hour ago."""
    see(timezone.now() - timedelta(minutes=30))


def text(client: Client, query: str = "") -> str:
    answer = client.get(PAGE + query)
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def test_what_is_open_is_on_the_page_with_who_was_told(client: Client) -> None:
    wrong()
    Delivery.objects.update(sent_at=timezone.now(), try_at=None)
    found = text(client)

    assert "The disk of node1 is nearly full" in found
    assert "no route to host" in found
    assert "opened, mail to ops@example.org: sent" in found
    assert 'Incidents <span class="count">1</span>' in found
    over()
    found = text(client)
    assert "Nothing is wrong that Berth knows of." in found
    assert "The disk of node1 is nearly full" in found
    assert 'class="count"' not in found


def test_what_is_over_is_searched_and_paged(client: Client) -> None:
    wrong(*range(35))
    over()
    wrong(99)
    over()

    assert "Page 1 of 2" in text(client)
    assert "Page 2 of 2" in text(client, "?page=2")
    found = text(client, "?q=node99")
    assert "node99" in found
    assert "node1 " not in found
    assert "Nothing that is over is of this kind" in text(client, "?kind=brake")
    assert "Nothing that is over is of this kind" in text(client, "?kind=none-of-them")
    assert "Page 2 of 2" in text(client, "?page=99999999999999999999")


def test_somebody_acknowledges_it_and_takes_that_back(client: Client, ada: User) -> None:
    wrong()
    row = Incident.objects.get()

    assert client.post(f"{PAGE}{row.pk}/acknowledge/", {"note": "on my way <b>"}).status_code == 302
    found = text(client)
    assert "ada looks after it since" in found
    assert "on my way &lt;b&gt;" in found
    client.post(f"{PAGE}{row.pk}/unacknowledge/")
    assert "looks after it since" not in text(client)
    assert [entry.actor for entry in AuditEntry.objects.filter(target=f"incident:{row.pk}")] == [ada, ada]


@pytest.mark.parametrize(("note", "why"), [("x" * 401, "at most 400 characters"), ("a\x00b", "Null characters")])
def test_a_bad_note_changes_nothing_and_is_told_why(client: Client, note: str, why: str) -> None:
    wrong()
    row = Incident.objects.get()

    answer = client.post(f"{PAGE}{row.pk}/acknowledge/", {"note": note}, follow=True)

    assert why in answer.content.decode()
    row.refresh_from_db()
    assert row.acknowledged_at is None


def test_what_is_over_cannot_be_acknowledged(client: Client) -> None:
    wrong()
    over()

    answer = client.post(f"{PAGE}{Incident.objects.get().pk}/acknowledge/", follow=True)
    assert "It is over already." in answer.content.decode()


@pytest.mark.parametrize("path", ["1/acknowledge/", "1/unacknowledge/", "deliveries/1/send-again/"])
def test_what_is_not_there_is_404(client: Client, path: str) -> None:
    assert client.post(PAGE + path).status_code == 404


def test_a_pending_one_is_nobodys_business_yet(client: Client) -> None:
    see(timezone.now(), ill("node_down"))
    row = Incident.objects.get()

    assert "node1" not in text(client)
    assert client.post(f"{PAGE}{row.pk}/acknowledge/").status_code == 404


def test_what_could_not_be_sent_is_shown_and_sent_again(client: Client) -> None:
    wrong()
    Delivery.objects.update(try_at=None, problem="SMTPRecipientsRefused: no such person")

    found = text(client)
    assert "1 message for ops@example.org" in found
    assert "no such person; given up" in found
    answer = client.post(f"{PAGE}deliveries/{Delivery.objects.get().pk}/send-again/", follow=True)
    assert "is sent within a few seconds" in answer.content.decode()
    assert Delivery.objects.get().try_at is not None


def test_nobody_to_tell_is_said(client: Client, settings: Any, ada: User) -> None:
    assert "Nobody hears" not in text(client)
    settings.BERTH_ALERT_MAIL = []
    User.objects.update(email="")

    assert "Nobody hears of what is wrong" in text(client)
    assert "Nobody hears of alerts" in command()[0]


def test_that_nobody_looks_is_said_in_place_of_nothing_is_wrong(client: Client) -> None:
    assert "Nobody looks" not in text(client)
    looked(timezone.now() - timedelta(seconds=29))
    assert "Nobody looks" not in text(client)
    looked(timezone.now() - timedelta(seconds=31))
    found = text(client)
    assert "Nobody looks for what is wrong since <time" in found
    assert "Nothing is wrong" not in found
    Heartbeat.objects.all().delete()
    found = text(client)
    assert "Nobody looks for what is wrong: " in found
    assert "Nothing is wrong" not in found


def test_staff_may_look_and_need_a_permission_to_act(settings: Any) -> None:
    person = make_user("bob", is_staff=True)
    make_factor(person)
    browser = Client()
    log_in(browser, person)
    wrong()
    row = Incident.objects.get()

    found = text(browser)
    assert "node1" in found
    assert "Acknowledge" not in found
    assert browser.post(f"{PAGE}{row.pk}/acknowledge/").status_code == 403


def test_the_queries_do_not_grow_with_the_list(client: Client, django_assert_max_num_queries: Any) -> None:
    counts = []
    for many in (1, 50):
        wrong(*range(many))
        over()
        wrong(*range(many))
        incidents.acknowledge(incident=Incident.objects.open()[0], by=User.objects.get())
        with django_assert_max_num_queries(20) as queries:
            text(client)
        counts.append(len(queries))
        Incident.objects.all().delete()

    assert counts[0] == counts[1]


# ---- the strip --------------------------------------------------------------------------------------------------


def test_the_strip_names_the_first_and_counts_the_rest() -> None:
    from django.template.loader import render_to_string

    wrong(*range(7))
    found = render_to_string("monitor/_incidents_strip.html", {"incidents": incidents.open_now()})

    assert "7 open incidents" in found
    assert "and 2 more" in found
    assert render_to_string("monitor/_incidents_strip.html", {"incidents": []}).strip() == ""


def test_the_strip_says_that_nobody_looks() -> None:
    from django.template.loader import render_to_string

    Heartbeat.objects.all().delete()
    assert "Nobody looks for what is wrong: " in render_to_string("monitor/_incidents_strip.html", {"incidents": []})


# ---- manage.py alerts -------------------------------------------------------------------------------------------


def command(*arguments: str) -> tuple[str, int]:
    """What it printed, and its exit code."""
    out = StringIO()
    try:
        call_command("alerts", *arguments, stdout=out)
    except SystemExit as end:
        return out.getvalue(), int(end.code or 0)
    return out.getvalue(), 0


def test_the_command_lists_and_exits_1_when_something_critical_is_open() -> None:
    assert command() == ("Nothing is wrong that Berth knows of.\n", 0)
    see(timezone.now(), ill("certificate_ends"))
    assert command()[1] == 0
    see(timezone.now(), ill("certificate_ends"), ill("disk_full", 2))
    printed, code = command()

    assert code == 1
    assert printed.startswith("critical  The disk of node2 is nearly full, since ")
    assert "warning   The certificate of node1 is near its end" in printed


def test_the_command_exits_1_when_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    looked(timezone.now() - timedelta(seconds=31))
    assert command() == ("", 1)
    assert "Nobody looks for what is wrong since " in capsys.readouterr().err
    Heartbeat.objects.all().delete()
    assert command("--json") == ("[]\n", 1)
    assert "Nobody looks for what is wrong: " in capsys.readouterr().err


def test_the_command_prints_json_and_what_is_over() -> None:
    wrong()
    over()

    assert json.loads(command("--json")[0]) == []
    [found] = json.loads(command("--json", "--all")[0])
    assert (found["kind"], found["title"]) == ("disk_full", "The disk of node1 is nearly full")
    assert found["closed_at"]
    assert "over      The disk of node1 is nearly full" in command("--all")[0]
    assert "for 30 min" in command("--all")[0]


def test_a_test_message_is_sent_and_its_failure_is_an_exit_code(settings: Any, mailoutbox: list[Any]) -> None:
    settings.BERTH_ALERT_MAIL = ["ops@example.org"]
    assert command("--test") == ("mail to ops@example.org: sent\n", 0)
    assert [mail.subject for mail in mailoutbox] == ["[Berth] A test of the alerts"]

    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    printed, code = command("--test")
    assert code == 1
    assert printed.startswith("mail to ops@example.org: ")
