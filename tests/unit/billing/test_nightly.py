"""The staff hears of differences once, of other ones again, and when all are mended; whatever the mail server does."""

import smtplib
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.core.mail import EmailMessage
from django.test import Client

from accounts.models import User
from billing import nightly
from billing.models import LedgerAudit
from reservations.models import Reservation
from tests.factories import HOUR, make_user
from tests.unit.billing import books
from tests.unit.billing.lives import lived

pytestmark = pytest.mark.django_db
NIGHT = timedelta(days=1)


@pytest.fixture
def user(settings: Any) -> User:
    make_user("root", is_staff=True)
    make_user("gone", is_staff=True, is_active=False)
    return books.write(settings)


def break_one(user: User) -> int:
    row = lived(user, books.NOW, 1).row
    Reservation.objects.filter(pk=row.pk).update(terms={"prices": []})
    return row.pk


def mend(number: int) -> None:
    terms = Reservation.objects.exclude(pk=number).exclude(terms={"prices": []}).values_list("terms", flat=True)[0]
    Reservation.objects.filter(pk=number).update(terms=terms, state="running", settled_at=None)


def test_books_in_order_are_no_news(user: User) -> None:
    row = nightly.audit_all(books.NOW)

    assert (row.found, row.findings, mail.outbox) == (0, [], [])


def test_the_staff_is_told_once_of_what_is_found_and_once_when_it_is_mended(user: User, caplog: Any) -> None:
    number = break_one(user)
    for night in range(3):
        nightly.audit_all(books.NOW + night * NIGHT)

    (sent,) = mail.outbox
    assert (sent.to, sent.subject) == (["root@example.org"], "[Berth] The books: 1 difference")
    assert f"- ada: the terms of reservation {number} cannot be read" in sent.body
    assert sum("the books: ada" in record.message for record in caplog.records) == 3

    other = break_one(user)
    nightly.audit_all(books.NOW + 4 * NIGHT)
    assert mail.outbox[1].subject == "[Berth] The books: 2 differences"

    mend(number)
    mend(other)
    for night in (5, 6):
        nightly.audit_all(books.NOW + night * NIGHT)
    assert [sent.subject for sent in mail.outbox[2:]] == ["[Berth] The books: all differences are mended"]


def test_while_the_mail_server_is_away_it_is_tried_again(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    break_one(user)
    with monkeypatch.context() as away:
        away.setattr(EmailMessage, "send", _away)
        nightly.audit_all(books.NOW)
        assert not nightly.tell()

    assert (nightly.tell(), nightly.tell()) == (True, False)
    assert len(mail.outbox) == 1


def test_the_monitor_shows_when_the_books_were_checked_and_what_was_found(user: User, client: Client) -> None:
    client.force_login(User.objects.get(username="root"))
    break_one(user)
    nightly.audit_all(books.NOW + HOUR)

    row = LedgerAudit.objects.get()

    assert (row.at, row.found) == (books.NOW + HOUR, 1)
    assert "cannot be read" in row.findings[0]


def _away(message: EmailMessage) -> None:
    raise smtplib.SMTPServerDisconnected("away")
