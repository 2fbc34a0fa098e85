"""Invoices in the browser: what is open, paid and overdue, and nobody else's."""

import csv
import io
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import Membership, User
from billing import documents, invoices, payments, typesetting
from billing.models import Invoice, InvoiceDocument
from tests.factories import make_user, workspace_of
from tests.unit.billing.served import make_account, serve
from tests.unit.portal.doors import log_in

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _plain_http(settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = False


@pytest.fixture
def user() -> User:
    return make_user("ada")


@pytest.fixture
def browser() -> Callable[[User], Client]:
    def open_browser(person: User) -> Client:
        client = Client()
        log_in(client, person)
        return client

    return open_browser


def make_invoice(user: User, *names: str, now: datetime | None = None) -> Invoice:
    """For the month before `now` (by default, two months ago: it is overdue)."""
    account = make_account(user)
    now = now or timezone.now() - timedelta(days=60)
    start = (now.replace(day=1) - timedelta(days=10)).replace(hour=0, minute=0, second=0, microsecond=0)
    for hour, name in enumerate(names or ("website",)):
        serve(account.workspace, (start + timedelta(hours=hour), start + timedelta(hours=hour + 1)), name=name)
    (invoice,) = invoices.issue_open(account.pk, now)
    return invoice


def pay(invoice: Invoice, amount: str, reference: str = "SEPA 1") -> Any:
    today = timezone.now()
    return payments.record_payment(
        invoice=invoice,
        amount=Decimal(amount),
        method="bank",
        reference=reference,
        received_on=today.date(),
        by="x",
        now=today,
    )


def text_of(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


def csv_of(answer: Any) -> list[dict[str, str]]:
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    text = b"".join(answer.streaming_content).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline="")))


# ---- the list -----------------------------------------------------------------------------------------------


def test_the_list_shows_what_is_open_overdue_and_paid(user: User, browser: Callable[[User], Client]) -> None:
    paid = make_invoice(user, now=timezone.now() - timedelta(days=120))
    overdue = make_invoice(user, now=timezone.now() - timedelta(days=60))
    fresh = make_invoice(user, "a", "b", now=timezone.now())
    pay(paid, "0.50")
    pay(fresh, "0.25", "SEPA 2")

    whole = browser(user).get("/billing/invoices/")
    open_ones = browser(user).get("/billing/invoices/?show=open")

    states = {invoice.number: standing.word for invoice, standing in whole.context["listed"]}
    assert states == {paid.number: "paid", overdue.number: "overdue", fresh.number: "partly paid"}
    assert [invoice for invoice, _ in open_ones.context["listed"]] == [fresh, overdue]
    assert "$0.75" in text_of(whole)


def test_a_customer_without_invoices_is_told_when_they_come(user: User, browser: Callable[[User], Client]) -> None:
    assert "No invoices yet" in text_of(browser(user).get("/billing/invoices/"))


def test_invoices_of_another_workspace_are_shown_when_it_is_chosen(
    user: User, browser: Callable[[User], Client]
) -> None:
    friend = make_user()
    invoice = make_invoice(friend)
    Membership.objects.create(workspace=workspace_of(friend), user=user)
    client = browser(user)

    assert client.get("/billing/invoices/").context["listed"] == []
    shown = client.get(f"/billing/invoices/?workspace={invoice.workspace_id}")

    assert [row for row, _ in shown.context["listed"]] == [invoice]


def many(user: User, count: int) -> None:
    now = timezone.now()
    for number in range(count):
        at = (now.replace(day=1) - timedelta(days=31 * (count - number))).replace(day=2)
        make_invoice(user, now=at)


def test_queries_are_the_same_with_1_and_50_invoices(browser: Callable[[User], Client]) -> None:
    counts = set()
    for count in (1, 50):
        person = make_user()
        many(person, count)
        client = browser(person)
        for address in ("/billing/invoices/", "/billing/invoices/?show=open"):
            with CaptureQueriesContext(connection) as queries:
                answer = client.get(address)
            assert answer.context["page_obj"].paginator.count == count
            counts.add(len(queries))
    assert len(counts) == 1, counts
    assert counts.pop() <= 12


def test_fifty_are_on_two_pages(user: User, browser: Callable[[User], Client]) -> None:
    many(user, 26)

    second = browser(user).get("/billing/invoices/?page=2")

    assert len(second.context["listed"]) == 1


# ---- one ----------------------------------------------------------------------------------------------------


def test_the_page_has_what_the_pdf_has_and_what_was_paid(user: User, browser: Callable[[User], Client]) -> None:
    invoice = make_invoice(user, "<script>alert(1)</script>", "b")
    payment = pay(invoice, "0.30", "<b>SEPA</b>")
    pay(invoice, "0.20", "SEPA 2")
    payments.reverse_payment(payment=payment, reason="x", by="x", now=timezone.now())

    answer = browser(user).get(f"/billing/invoices/{invoice.number}/")

    text = text_of(answer)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<b>SEPA</b>" not in text
    assert "went back" in text
    assert "overdue" in text
    assert "$0.80" in text
    body = documents.body_context(invoice)
    assert [line.pk for line in answer.context["lines"]] == [line.pk for line in body["lines"]]


def test_queries_are_the_same_with_1_and_50_lines(browser: Callable[[User], Client]) -> None:
    counts = set()
    for count in (1, 50):
        person = make_user()
        invoice = make_invoice(person, *(f"job {n}" for n in range(count)))
        for number in range(count):
            pay(invoice, "0.01", f"{person} {number}")
        client = browser(person)
        with CaptureQueriesContext(connection) as queries:
            assert client.get(f"/billing/invoices/{invoice.number}/").status_code == 200
        counts.add(len(queries))
    assert len(counts) == 1, counts


def test_a_number_may_have_slashes(user: User, browser: Callable[[User], Client], settings: Any) -> None:
    settings.BERTH_INVOICE_PREFIX = "a/b/"
    invoice = make_invoice(user)
    client = browser(user)

    assert invoice.number.startswith("a/b/20")
    assert client.get(f"/billing/invoices/{invoice.number}/").status_code == 200
    pdf = client.get(f"/billing/invoices/{invoice.number}/pdf")
    assert pdf["Content-Disposition"] == f'inline; filename="{invoice.number.replace("/", "-")}.pdf"'
    assert csv_of(client.get(f"/billing/invoices/{invoice.number}/csv"))


def test_the_pdf_is_what_was_kept(user: User, browser: Callable[[User], Client]) -> None:
    invoice = make_invoice(user)

    first, second = (browser(user).get(f"/billing/invoices/{invoice.number}/pdf") for _ in range(2))

    assert first["Content-Type"] == "application/pdf"
    assert first.content.startswith(b"%PDF")
    assert first.content == second.content == documents.pdf_of(invoice)


def test_a_pdf_that_cannot_be_made_is_said(
    user: User, browser: Callable[[User], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    invoice = make_invoice(user)
    typesetting.end()
    monkeypatch.setattr(typesetting, "LIMIT_S", 0.001)

    answer = browser(user).get(f"/billing/invoices/{invoice.number}/pdf", follow=True)

    assert "The PDF cannot be made at the moment" in text_of(answer)
    assert answer.redirect_chain == [(f"/billing/invoices/{invoice.number}/", 302)]


@pytest.mark.parametrize("what", ["", "pdf", "csv"])
def test_a_number_that_none_can_have_is_no_invoice(what: str, user: User, browser: Callable[[User], Client]) -> None:
    assert browser(user).get(f"/billing/invoices/INV%00/{what}").status_code == 404


def test_a_long_pdf_is_left_to_the_worker(
    user: User, browser: Callable[[User], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    invoice = make_invoice(user, "one", "two")
    monkeypatch.setattr(documents, "MOST_LINES_AT_ONCE", 1)
    address = f"/billing/invoices/{invoice.number}/pdf"

    answer = browser(user).get(address, follow=True)

    assert "This invoice has 2 lines. Its PDF is being made and comes by mail" in text_of(answer)
    assert InvoiceDocument.objects.get(invoice=invoice).pdf is None
    kept = documents.pdf_of(invoice)  # the worker's way
    assert browser(user).get(address).content == kept


# ---- whose --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["", "pdf", "csv"])
def test_somebody_elses_invoice_does_not_exist(what: str, user: User, browser: Callable[[User], Client]) -> None:
    invoice = make_invoice(user)

    for person in (make_user("eve"), make_user("root", is_staff=True, is_superuser=True)):
        assert browser(person).get(f"/billing/invoices/{invoice.number}/{what}").status_code == 404
    assert Client().get(f"/billing/invoices/{invoice.number}/{what}").status_code == 302


@pytest.mark.parametrize("name", ["invoices", "ledger", "usage"])
def test_exports_have_the_readers_own(name: str, user: User, browser: Callable[[User], Client]) -> None:
    make_invoice(user)
    friend, stranger = make_user("friend"), make_user("eve")
    make_invoice(friend), make_invoice(stranger)
    Membership.objects.create(workspace=workspace_of(friend), user=user)
    client = browser(user)

    everything = csv_of(client.get(f"/billing/{name}.csv"))
    chosen = csv_of(client.get(f"/billing/{name}.csv?workspace={workspace_of(friend).pk}"))

    assert {row["workspace"] for row in everything} == {"ada", "friend"}
    assert {row["workspace"] for row in chosen} == {"friend"}
    assert client.get(f"/billing/{name}.csv?workspace={workspace_of(stranger).pk}").status_code == 404


def test_the_ledger_can_be_filtered(user: User, browser: Callable[[User], Client], settings: Any) -> None:
    settings.BERTH_TAX_PERCENT = Decimal(20)
    invoice = make_invoice(user, "a", "b")
    client = browser(user)

    assert {row["kind"] for row in csv_of(client.get("/billing/ledger.csv"))} == {"charge", "tax"}
    assert {row["kind"] for row in csv_of(client.get("/billing/ledger.csv?kind=tax"))} == {"tax"}
    assert csv_of(client.get("/billing/ledger.csv?month=2019-01")) == []
    month = f"{invoice.month:%Y-%m}"
    assert len(csv_of(client.get(f"/billing/usage.csv?month={month}"))) == 2


@pytest.mark.parametrize(
    "query",
    ["ledger.csv?month=nonsense", "ledger.csv?kind=nonsense", "usage.csv?month=2026-99", "usage.csv?workspace=x"],
)
def test_a_filter_that_cannot_be_is_no_address(query: str, user: User, browser: Callable[[User], Client]) -> None:
    assert browser(user).get(f"/billing/{query}").status_code == 404


def test_days_are_those_of_the_invoice_for_every_reader(browser: Callable[[User], Client]) -> None:
    person = make_user(time_zone="America/Los_Angeles")
    account = make_account(person, time_zone="Pacific/Auckland")
    serve(account.workspace, (datetime(2026, 5, 3, tzinfo=UTC), datetime(2026, 5, 3, 1, tzinfo=UTC)))
    invoice = invoices.issue(account.pk, date(2026, 5, 1), datetime(2026, 5, 31, 13, tzinfo=UTC))
    assert invoice is not None

    text = text_of(browser(person).get(f"/billing/invoices/{invoice.number}/")).replace("\N{NO-BREAK SPACE}", " ")

    assert "3 May 2026, 12:00 – 13:00" in text
    assert "Times are in Pacific/Auckland" in text
    assert "1 Jun 2026" in text
