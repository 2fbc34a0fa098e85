"""News by mail: sent once whatever happens to the mail server or the worker, as far as SMTP can know."""

import logging
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from accounts import choosing, mailing, smtp
from accounts.choosing import Ways
from accounts.models import Notice, Notification, User
from accounts.notifying import notify
from tests.factories import NOW, make_user
from tests.unit.billing.mail_server import MailServer, mail_server
from tests.unit.conftest import Time
from tests.unit.reservations.test_races import at_once

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock() -> Time:
    return Time(NOW)


@pytest.fixture(autouse=True)
def _smtp(socket_enabled: None, settings: Any) -> None:
    settings.EMAIL_BACKEND = "accounts.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_TIMEOUT = "127.0.0.1", 1, 5
    settings.BERTH_BASE_URL = "https://berth.example.org"


@pytest.fixture
def server(settings: Any, _smtp: None) -> Iterator[MailServer]:
    with mail_server() as running:
        settings.EMAIL_PORT = running.port
        yield running


def tell(user: User, key: str = "started:7", **values: Any) -> Notification:
    defaults: dict[str, Any] = {
        "kind": Notice.STARTED,
        "title": f"nginx ({key}) runs",
        "text": "It answers at its address until 4 May 2026, 12:00 CEST.",
        "path": "/reservations/7/",
        "now": NOW,
    }
    notify(user=user, key=key, **{**defaults, **values})
    return Notification.objects.get(user=user, key=key)


def again(row: Notification) -> Notification:
    return Notification.objects.get(pk=row.pk)


def text_of(mail: Any) -> str:
    return str(mail.get_body().get_content())


def test_news_are_mailed_once_with_their_links(server: MailServer, clock: Time) -> None:
    row = tell(make_user("ada"))

    assert [mailing.mail_due(clock), mailing.mail_due(clock)] == [1, 0]

    (mail,) = server.mails
    assert mail["Subject"] == "[Berth] nginx (started:7) runs"
    assert (mail["To"], mail["Message-ID"]) == ("ada@example.org", f"<news.{row.pk}.1@berth.example.org>")
    assert "Hello ada," in text_of(mail)
    assert "until 4 May 2026, 12:00 CEST." in text_of(mail)
    assert "https://berth.example.org/reservations/7/" in text_of(mail)
    assert "https://berth.example.org/accounts/notifications/choices/" in text_of(mail)
    stop = mail["List-Unsubscribe"].strip(" <>")
    assert stop in text_of(mail)
    assert choosing.read_token(stop.split("/")[-2]) == (row.user, [Notice.STARTED])
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert (again(row).mailed_at, again(row).mail_at) == (clock.now, None)


def test_what_is_due_for_one_person_is_one_mail(server: MailServer, clock: Time) -> None:
    ada, bob = make_user("ada"), make_user("bob")
    for number in range(3):
        tell(ada, f"ends_soon:{number}", kind=Notice.ENDS_SOON, title=f"copy {number} ends in 1 hour")
    tell(bob)

    assert mailing.mail_due(clock) == 2

    mail = next(mail for mail in server.mails if mail["To"] == "ada@example.org")
    assert mail["Subject"] == "[Berth] copy 0 ends in 1 hour, and 2 more"
    assert all(f"copy {number} ends in 1 hour" in text_of(mail) for number in range(3))


def test_a_title_that_is_html_or_not_ascii_arrives_as_it_is(server: MailServer, clock: Time) -> None:
    tell(make_user(), title="<b>größe</b> & 🐳 runs")

    mailing.mail_due(clock)

    assert server.mails[0]["Subject"] == "[Berth] <b>größe</b> & 🐳 runs"
    assert "<b>größe</b> & 🐳 runs" in text_of(server.mails[0])


# ---- trouble ------------------------------------------------------------------------------------------------


def test_an_outage_loses_and_doubles_nothing(clock: Time, settings: Any) -> None:
    rows = [tell(make_user()) for _ in range(3)]
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        settings.EMAIL_PORT = port = closed.getsockname()[1]
        assert mailing.mail_due(clock) == 0
        assert [again(row).mail_attempts for row in rows] == [1, 0, 0]  # one is enough to see that nobody answers
        assert again(rows[0]).mail_at == NOW + mailing.PAUSES[0]
        mailing.mail_due(clock)
    with mail_server(port) as server:
        assert mailing.mail_due(clock) == 1  # the one that was not tried yet
        clock.forward(minutes=1)
        assert [mailing.mail_due(clock), mailing.mail_due(clock)] == [2, 0]

    assert sorted(mail["To"] for mail in server.mails) == sorted(row.user.email for row in rows)


def test_pauses_grow_until_it_is_no_news_any_more(
    server: MailServer, clock: Time, caplog: pytest.LogCaptureFixture
) -> None:
    row = tell(make_user("ada"), mail_until=NOW + timedelta(hours=1))
    server.refused.add("ada@example.org")
    pauses = []
    with caplog.at_level(logging.WARNING, logger="accounts.mailing"):
        while (due := again(row).mail_at) is not None:
            pauses.append(due - clock.now)
            clock.now = due
            mailing.mail_due(clock)

    assert pauses == [timedelta(0), *mailing.PAUSES, mailing.PAUSES[-1]]
    assert server.connections == len(pauses) - 1
    assert "given up, it is no news any more: started:7" in caplog.text
    assert again(row).mailed_at is None
    clock.forward(days=9)
    assert mailing.mail_due(clock) == 0


def test_one_bad_address_stops_nobody_else(server: MailServer, clock: Time) -> None:
    bad, odd, fine = make_user("bad"), make_user("odd"), make_user("fine")
    User.objects.filter(pk=odd.pk).update(email="odd@example.org\nBcc: eve@example.org")
    server.refused.add("bad@example.org")
    for user in (bad, odd, fine):
        tell(user)

    assert mailing.mail_due(clock) == 1

    assert [mail["To"] for mail in server.mails] == ["fine@example.org"]


@pytest.mark.parametrize("gone", [{"is_active": False}, {"closed_at": NOW}, {"email": ""}])
def test_who_has_left_meanwhile_gets_nothing(gone: dict[str, Any], server: MailServer, clock: Time) -> None:
    row = tell(make_user())
    User.objects.filter(pk=row.user_id).update(**gone)

    assert mailing.mail_due(clock) == 0

    assert (again(row).mail_at, server.mails) == (None, [])


def test_a_user_who_is_deleted_takes_the_news_along(server: MailServer, clock: Time) -> None:
    row = tell(make_user())
    row.user.memberships.all().delete()
    row.user.personal_workspace.delete()
    row.user.delete()

    assert mailing.mail_due(clock) == 0


def test_who_wants_no_mail_any_more_gets_not_even_what_waits(server: MailServer, clock: Time) -> None:
    row = tell(make_user())
    choosing.choose(user=row.user, ways={Notice.STARTED: Ways(by_mail=False)}, by=row.user)

    assert mailing.mail_due(clock) == 0
    assert again(row).in_app


class Died(BaseException):
    """Ends a worker where nothing catches it."""


def test_a_worker_that_dies_before_sending_leaves_it_to_the_next(
    server: MailServer, clock: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = tell(make_user())

    def die(rows: list[Notification]) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(mailing, "_message", die)
        with pytest.raises(Died):
            mailing.mail_due(clock)

    assert mailing.mail_due(clock) == 0  # it may still be at work
    clock.forward(seconds=mailing.OURS_FOR.total_seconds())
    assert mailing.mail_due(clock) == 1
    assert again(row).mailed_at == clock.now


def test_a_worker_that_dies_after_sending_sends_the_same_message_again(
    server: MailServer, clock: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = make_user()
    tell(user, "started:1"), tell(user, "started:2")

    def die(rows: list[Notification]) -> Any:
        if server.mails:
            raise Died
        return mine(rows)

    mine = mailing._mine
    with monkeypatch.context() as patch:
        patch.setattr(mailing, "_mine", die)
        with pytest.raises(Died):
            mailing.mail_due(clock)
    tell(user, "started:3", now=clock.now)  # comes meanwhile, and is a mail of its own
    clock.forward(seconds=mailing.OURS_FOR.total_seconds())

    assert mailing.mail_due(clock) == 2

    first, *others = [mail["Message-ID"] for mail in server.mails]
    assert others.count(first) == 1
    assert len(server.mails) == 3


@pytest.mark.django_db(transaction=True)
def test_workers_at_once_send_each_once(server: MailServer, clock: Time) -> None:
    for number in range(6):
        tell(make_user(f"user-{number}"))

    sent = at_once(4, lambda _: mailing.mail_due(clock))

    assert sorted(mail["To"] for mail in server.mails) == [f"user-{number}@example.org" for number in range(6)]
    assert sum(int(str(each)) for each in sent) == 6


def test_what_took_longer_than_it_may_is_the_next_workers(
    server: MailServer, clock: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slow one then notes nothing over what the other one did."""
    row = tell(make_user())
    message = mailing._message

    def slowly(rows: list[Notification]) -> Any:
        monkeypatch.setattr(mailing, "_message", message)
        clock.forward(seconds=mailing.OURS_FOR.total_seconds())
        assert mailing.mail_due(clock) == 1
        raise OSError("gave up")

    monkeypatch.setattr(mailing, "_message", slowly)
    mailing.mail_due(clock)

    assert again(row).mailed_at
    assert again(row).mail_at is None


@pytest.mark.parametrize("said", [b"", b"220 test\r\n"], ids=["before it greets", "after"])
def test_a_server_that_drips_is_left(said: bytes, clock: Time, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes well before the time limit of one answer; the whole never would."""
    row = tell(make_user())
    monkeypatch.setattr(smtp, "LONGEST_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        settings.EMAIL_PORT = listening.getsockname()[1]
        over = threading.Event()

        def drip() -> None:
            talk, _ = listening.accept()
            with talk:
                talk.sendall(said)
                while not over.wait(0.02):
                    try:
                        talk.sendall(b"2")
                    except OSError:
                        return

        server = threading.Thread(target=drip)
        server.start()
        try:
            assert mailing.mail_due(clock) == 0
        finally:
            over.set()
            server.join(timeout=10)

    assert again(row).mail_at == NOW + mailing.PAUSES[0]


def test_the_query_for_what_is_due_uses_its_index() -> None:
    user = make_user()
    Notification.objects.bulk_create(
        Notification(user=user, kind="ended", key=f"k{n}", title="t", created_at=NOW, mailed_at=NOW)
        for n in range(2000)
    )
    tell(user)
    due = Notification.objects.filter(by_mail=True, mailed_at=None, mail_at__lte=NOW).order_by("mail_at", "pk")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE accounts_notification")

    assert "notification_due" in due[:1].explain()
