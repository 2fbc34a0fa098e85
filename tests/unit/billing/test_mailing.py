"""Invoices by mail: each is sent once, whatever happens to the mail server or the worker, as far as SMTP can know."""

import hashlib
import socket
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from accounts.models import AuditEntry, User
from billing import documents, invoices, mailing, payments
from billing.models import Invoice, InvoiceDocument, LedgerEntry
from billing.typesetting import Later
from compute import failpoints
from tests.factories import make_user, workspace_of
from tests.unit.billing.mail_server import MailServer, mail_server
from tests.unit.billing.served import make_account, serve
from tests.unit.conftest import Time
from tests.unit.reservations.test_races import at_once

ISSUED = datetime(2026, 6, 1, 1, tzinfo=UTC)
MAY = date(2026, 5, 1)


@pytest.fixture
def clock() -> Time:
    return Time(ISSUED)


@pytest.fixture(autouse=True)
def _smtp(socket_enabled: None, settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    settings.BERTH_BASE_URL = "https://berth.example.org"


@pytest.fixture
def server(settings: Any, _smtp: None) -> Iterator[MailServer]:
    with mail_server() as running:
        settings.EMAIL_PORT = running.port
        yield running


def make_invoice(user: User | None = None, **values: Any) -> Invoice:
    account = make_account(user, **values)
    start = datetime(2026, 5, 3, tzinfo=UTC)
    serve(account.workspace, (start, start + timedelta(hours=3)))
    invoice = invoices.issue(account.pk, MAY, ISSUED)
    assert invoice is not None
    return invoice


def document(invoice: Invoice) -> InvoiceDocument:
    return InvoiceDocument.objects.get(invoice=invoice)


@pytest.mark.django_db
def test_an_invoice_is_mailed_once_with_its_pdf(server: MailServer, clock: Time) -> None:
    user = make_user("ada")
    invoice = make_invoice(user)

    assert [mailing.mail_due(clock), mailing.mail_due(clock)] == [1, 0]

    (mail,) = server.mails
    assert mail["Subject"] == f"[Berth] Invoice {invoice.number} for May 2026"
    assert (mail["To"], mail["Message-ID"]) == ("ada@example.org", f"<{invoice.number}@berth.example.org>")
    text = mail.get_body().get_content()  # type: ignore[union-attr]
    assert "Please pay 1.50\N{NO-BREAK SPACE}USD by 15 Jun 2026" in text
    assert f"https://berth.example.org/billing/invoices/{invoice.number}/" in text
    (attached,) = mail.iter_attachments()
    assert (attached.get_filename(), attached.get_content_type()) == (f"{invoice.number}.pdf", "application/pdf")
    kept = document(invoice)
    assert hashlib.sha256(attached.get_content()).hexdigest() == kept.sha256
    assert bytes(kept.pdf or b"") == attached.get_content() == documents.pdf_of(invoice)
    assert (kept.mailed_to, kept.mailed_at, kept.try_at, kept.problem) == ("ada@example.org", clock.now, None, "")


@pytest.mark.django_db
def test_bills_go_to_the_accounts_own_address(server: MailServer, clock: Time) -> None:
    make_invoice(email="bills@example.org")

    mailing.mail_due(clock)

    assert [mail["To"] for mail in server.mails] == ["bills@example.org"]


@pytest.mark.django_db
def test_a_credit_note_says_that_nothing_is_to_be_paid(server: MailServer, clock: Time) -> None:
    invoice = make_invoice()
    entry = LedgerEntry.objects.get(kind="charge")
    payments.correct(entry=entry, amount=Decimal("1.50"), reason="Slow", by="x", now=ISSUED)
    clock.now = datetime(2026, 7, 1, 1, tzinfo=UTC)
    invoices.issue(invoice.workspace_id, date(2026, 6, 1), clock.now)

    mailing.mail_due(clock)

    first, note = (mail.get_body().get_content() for mail in server.mails)  # type: ignore[union-attr]
    assert "Nothing is to be paid: it is settled already." in first
    assert "Credit note" in server.mails[1]["Subject"]
    assert "Nothing is to be paid: this amount is taken off the next invoices." in note


# ---- trouble ------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_an_outage_loses_and_doubles_nothing(clock: Time, settings: Any) -> None:
    made = [make_invoice() for _ in range(3)]
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        settings.EMAIL_PORT = port = closed.getsockname()[1]
        assert mailing.mail_due(clock) == 0
        attempts = [document(invoice).attempts for invoice in made]
        assert attempts == [1, 0, 0]  # one is enough to see that nobody answers
        assert "Connection refused" in document(made[0]).problem
        clock.forward(minutes=1)
        assert mailing.mail_due(clock) == 0
        assert [document(invoice).attempts for invoice in made] == [1, 1, 0]
    with mail_server(port) as server:
        assert mailing.mail_due(clock) == 1  # the one that was not tried yet
        clock.forward(hours=1)
        assert [mailing.mail_due(clock), mailing.mail_due(clock)] == [2, 0]

    assert sorted(mail["Message-ID"].split("@")[0][1:] for mail in server.mails) == [row.number for row in made]
    assert all(document(invoice).mailed_at for invoice in made)


@pytest.mark.django_db
def test_one_that_is_refused_keeps_no_other_waiting(server: MailServer, clock: Time) -> None:
    refused, fine = make_invoice(email="gone@example.org"), make_invoice()
    server.refused.add("gone@example.org")

    assert mailing.mail_due(clock) == 1

    assert document(fine).mailed_at
    assert "no such person" in document(refused).problem
    assert document(refused).try_at == clock.now + mailing.PAUSES[0]


@pytest.mark.django_db
def test_one_that_cannot_be_made_keeps_no_other_waiting(server: MailServer, clock: Time) -> None:
    make_invoice(email="ada@example.org\nBcc: eve@example.org"), make_invoice()

    assert mailing.mail_due(clock) == 1


@pytest.mark.django_db
def test_attempts_are_bounded_and_their_pauses_grow(server: MailServer, clock: Time) -> None:
    invoice = make_invoice(email="gone@example.org")
    server.refused.add("gone@example.org")
    pauses: list[timedelta] = []
    while (due := document(invoice).try_at) is not None and len(pauses) < 100:
        pauses.append(due - clock.now)
        clock.now = due
        mailing.mail_due(clock)

    assert pauses == [timedelta(0), *mailing.PAUSES[:-1]]
    assert pauses == sorted(pauses)
    assert timedelta(days=4) < sum(pauses, timedelta(0)) < timedelta(days=8)
    clock.forward(days=100)
    assert mailing.mail_due(clock) == 0
    assert server.connections == len(mailing.PAUSES)
    assert "no such person" in document(invoice).problem


@pytest.mark.django_db
def test_nobody_to_send_it_to_is_noted_and_not_tried_for_ever(server: MailServer, clock: Time) -> None:
    user = make_user()
    invoice = make_invoice(user)
    User.objects.filter(pk=user.pk).update(email="")

    assert mailing.mail_due(clock) == 0
    kept = document(invoice)
    assert (kept.try_at, kept.mailed_at, kept.problem) == (None, None, mailing.NOBODY)
    assert kept.pdf

    User.objects.filter(pk=user.pk).update(email="late@example.org")
    mailing.mail_again(invoice=invoice, by="manage.py", now=clock.now)
    assert mailing.mail_due(clock) == 1
    assert AuditEntry.objects.filter(action="invoice.mail", target=f"invoice:{invoice}").exists()


@pytest.mark.django_db
def test_a_long_one_is_made_by_the_round_even_for_nobody(
    server: MailServer, clock: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = make_user()
    invoice = make_invoice(user)
    User.objects.filter(pk=user.pk).update(email="")
    monkeypatch.setattr(documents, "MOST_LINES_AT_ONCE", 0)
    with pytest.raises(Later):
        documents.pdf_at_once(invoice, clock.now)

    mailing.mail_due(clock)

    assert documents.pdf_at_once(invoice, clock.now).startswith(b"%PDF")


@pytest.mark.django_db
def test_one_that_took_longer_to_make_than_the_pause_is_sent_by_who_took_it_meanwhile(
    server: MailServer, clock: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_invoice()
    pdf_of = documents.pdf_of

    def slowly(invoice: Invoice) -> bytes:
        monkeypatch.setattr(documents, "pdf_of", pdf_of)
        clock.forward(minutes=6)
        assert mailing.mail_due(clock) == 1  # another worker
        return pdf_of(invoice)

    monkeypatch.setattr(documents, "pdf_of", slowly)

    assert mailing.mail_due(clock) == 0
    assert len(server.mails) == 1


@pytest.mark.django_db
def test_what_is_asked_for_once_more_is_a_mail_of_its_own(server: MailServer, clock: Time) -> None:
    invoice = make_invoice()
    mailing.mail_due(clock)
    mailing.mail_again(invoice=invoice, by="manage.py", now=clock.now)

    mailing.mail_due(clock)

    assert len({mail["Message-ID"] for mail in server.mails}) == 2
    assert len({hashlib.sha256(next(mail.iter_attachments()).get_content()).digest() for mail in server.mails}) == 1


class Died(BaseException):
    """Ends a worker where nothing catches it."""


@pytest.mark.django_db
def test_a_worker_that_dies_after_sending_sends_the_same_message_again(server: MailServer, clock: Time) -> None:
    make_invoice()

    def die(point: str) -> None:
        raise Died(point)

    failpoints.handle(die)
    try:
        with pytest.raises(Died, match="invoice mailed"):
            mailing.mail_due(clock)
    finally:
        failpoints.handle(None)

    assert mailing.mail_due(clock) == 0  # it may still be at work
    clock.forward(minutes=5)
    assert mailing.mail_due(clock) == 1
    assert len({mail["Message-ID"] for mail in server.mails}) == 1
    assert len(server.mails) == 2


@pytest.mark.django_db(transaction=True)
def test_workers_at_once_send_each_once(server: MailServer, clock: Time) -> None:
    made = [make_invoice(email=f"{n}@example.org") for n in range(5)]

    sent = at_once(4, lambda _: mailing.mail_due(clock))

    assert sorted(mail["To"] for mail in server.mails) == [f"{n}@example.org" for n in range(5)]
    assert sum(int(str(each)) for each in sent) == len(made)


@pytest.mark.django_db
def test_owners_of_a_shared_workspace_all_get_it(server: MailServer, clock: Time) -> None:
    from accounts.models import Membership

    user, second, member = make_user(), make_user(), make_user()
    Membership.objects.create(workspace=workspace_of(user), user=second, role="owner")
    Membership.objects.create(workspace=workspace_of(user), user=member, role="member")
    make_invoice(user)

    mailing.mail_due(clock)

    assert [mail["To"] for mail in server.mails] == [f"{user.email}, {second.email}"]
