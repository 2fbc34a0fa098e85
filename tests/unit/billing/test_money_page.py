"""/monitor/money/: every figure is the sum of its rows, for staff only, and as quick with many invoices."""

import csv
import io
import os
import time
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User, Workspace
from billing import months, payments, revenue
from billing.models import Invoice, InvoiceDocument, LedgerEntry, Payment, Settlement
from tests.factories import HOUR, make_service, make_user, workspace_of
from tests.unit.billing.bills import make_charge, make_invoice
from tests.unit.billing.test_payments import grant, pay

pytestmark = pytest.mark.django_db
ADDRESS = "/monitor/money/"
MANY = int(os.environ.get("BERTH_MANY", "300"))


@pytest.fixture(autouse=True)
def _without_second_factor(settings: Any) -> None:
    settings.BERTH_STAFF_MFA = False
    settings.SECURE_SSL_REDIRECT = False


@pytest.fixture
def desk() -> Client:
    return browser_of(make_user("boss", is_staff=True, is_superuser=True))


def browser_of(user: User) -> Client:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def workspace(name: str = "") -> Workspace:
    return workspace_of(make_user(name))


def look() -> revenue.Revenue:
    today = timezone.localdate()
    return revenue.revenue(today.replace(day=1), today, "USD")


def test_figures_are_what_was_entered() -> None:
    now, today = timezone.now(), timezone.localdate()
    alice, bob = workspace("alice"), workspace("bob")
    charge = make_charge(alice, "10.00", now)
    payments.correct(entry=charge, amount=Decimal(4), reason="x", by="test", now=now)
    owed = make_invoice(alice, None, now, tax="1.14")
    pay(owed, "2.00", received_on=today, now=now)
    again = pay(owed, "1.00", reference="SEPA 2", received_on=today, now=now)
    payments.reverse_payment(payment=again, reason="x", by="test", now=now)
    make_charge(bob, "30.00", now)
    payments.take_back_credit(entry=grant(bob, "5.00", now=now), amount=Decimal(2), reason="x", by="test", now=now)

    found = look()

    assert [(row.name, row.amount) for row in found.workspaces] == [("bob", Decimal(30)), ("alice", Decimal(6))]
    assert (found.total, found.months[0].charged) == (Decimal(36), Decimal(36))
    assert (found.months[0].paid, found.months[0].credited) == (Decimal(2), Decimal(3))
    assert sum(row.tax for row in found.months) == Decimal("1.14")
    assert (found.debts.count, found.debts.open, found.debts.overdue) == (1, Decimal("5.14"), Decimal(0))
    assert [(row.name, row.amount) for row in found.credit.rows] == [("bob", Decimal(3))]
    assert found.credit.total == payments.available_credit(bob.pk)


def test_services_are_told_apart() -> None:
    entry = make_charge(workspace(), "10.00", timezone.now())
    fields = {field.attname: getattr(entry, field.attname) for field in LedgerEntry._meta.fields if field.name != "id"}
    LedgerEntry.objects.create(**fields | {"key": "another", "service_id": make_service("redis").pk, "amount": 5})

    assert [(row.name, row.amount) for row in look().services] == [("No service", Decimal(10)), ("redis", Decimal(5))]


def test_credit_of_a_credit_note_is_counted_until_it_is_used() -> None:
    alice, now = workspace("alice"), timezone.now()
    charge = make_charge(alice, "10.00", now)
    pay(make_invoice(alice, None, now), "10.00", received_on=timezone.localdate(), now=now)
    payments.correct(entry=charge, amount=Decimal(4), reason="x", by="test", now=now)
    make_invoice(alice, None, now)

    assert look().credit.total == Decimal(4)
    make_invoice(alice, "3.00", now)
    assert look().credit.total == Decimal(1)


def test_overdue_days_are_counted_from_the_day_after(desk: Client) -> None:
    row = make_invoice(workspace("alice"), "10.00", timezone.now() - timedelta(days=14))
    assert look().debts.rows[0].overdue_days == 0  # due today
    late = make_invoice(workspace("bob"), "20.00", timezone.now() - timedelta(days=15))

    found = look().debts
    page = desk.get(ADDRESS).content.decode()

    assert [(each.invoice, each.overdue_days) for each in found.rows] == [(late, 1), (row, 0)]
    assert (found.open, found.overdue, found.overdue_count) == (Decimal(30), Decimal(20), 1)
    assert "1 day overdue" in page
    assert f"/admin/billing/invoice/{late.pk}/payment/" in page


def test_an_invoice_that_could_not_be_mailed_is_told(desk: Client) -> None:
    row = make_invoice(workspace("alice"), "10.00", timezone.now())
    InvoiceDocument.objects.create(invoice=row, attempts=3, problem="the mail server said no")
    waits = make_invoice(workspace("bob"), "10.00", timezone.now())
    InvoiceDocument.objects.create(invoice=waits, try_at=timezone.now() + HOUR)

    assert "the mail server said no" in desk.get(ADDRESS).content.decode()
    assert look().mail.count == 1


def test_the_page_of_an_empty_installation(desk: Client) -> None:
    page = desk.get(ADDRESS).content.decode()

    assert "Everything is paid." in page
    assert "Nobody has credit." in page


@pytest.mark.parametrize("month", ["2026-13", "x", "1999-12", "2026-1", "٢٠٢٦-٠١"])
def test_what_is_no_month_does_not_exist(desk: Client, month: str) -> None:
    assert desk.get(ADDRESS, {"month": month}).status_code == 404
    assert desk.get(f"{ADDRESS}revenue.csv", {"month": month}).status_code == 404


def test_the_csv_adds_up_to_the_page_and_has_no_formulas(desk: Client) -> None:
    evil = Workspace.objects.create(name="=HYPERLINK(1)")
    make_charge(evil, "10.00", timezone.now())
    make_charge(workspace("alice"), "0.10", timezone.now())

    answer = desk.get(f"{ADDRESS}revenue.csv")

    text = b"".join(answer.streaming_content).decode("utf-8-sig")  # type: ignore[attr-defined]
    header, *rows = csv.reader(io.StringIO(text))
    assert header == ["month", "workspace", "name", "service", "currency", "charged before tax"]
    assert sum(Decimal(row[-1]) for row in rows) == look().total == Decimal("10.10")
    assert "'=HYPERLINK(1)" in {row[2] for row in rows}


@pytest.mark.parametrize("page", ["", "revenue.csv"])
def test_only_staff_see_it(page: str) -> None:
    assert browser_of(make_user()).get(ADDRESS + page).status_code == 404
    assert Client().get(ADDRESS + page).status_code == 302


def test_staff_see_it_who_may_see_the_ledger() -> None:
    clerk = make_user("clerk", is_staff=True)

    for page in ("", "revenue.csv"):
        assert browser_of(clerk).get(ADDRESS + page).status_code == 404
    assert ADDRESS not in browser_of(clerk).get("/monitor/").content.decode()

    clerk.user_permissions.add(Permission.objects.get(codename="view_ledgerentry", content_type__app_label="billing"))
    for page in ("", "revenue.csv"):
        assert browser_of(clerk).get(ADDRESS + page).status_code == 200
    assert ADDRESS in browser_of(clerk).get("/monitor/").content.decode()


def test_staff_need_their_second_factor(desk: Client, settings: Any) -> None:
    settings.BERTH_STAFF_MFA = True

    assert desk.get(ADDRESS)["Location"] == "/accounts/mfa/"


def many(count: int) -> None:
    """Invoices of a hundred workspaces, written at once; two thirds are paid."""
    now, today = timezone.now(), timezone.localdate()
    spaces = Workspace.objects.bulk_create(Workspace(name=f"space {number}") for number in range(min(count, 100)))
    month = today.replace(day=1)
    before = [month]
    while len(before) * len(spaces) < count:
        before.append(months.previous(before[-1]))

    def entry(number: int, kind: str, amount: str) -> LedgerEntry:
        return LedgerEntry(
            workspace=spaces[number % len(spaces)],
            at=now,
            kind=kind,
            month=month,
            amount=Decimal(amount),
            currency="USD",
            key=f"many:{kind}:{number}",
            text="x",
            by="test",
        )

    LedgerEntry.objects.bulk_create(entry(number, "charge", "10.00") for number in range(count))
    invoices = Invoice.objects.bulk_create(
        Invoice(
            workspace=spaces[number % len(spaces)],
            number=f"M-{number}",
            year=1000,
            position=number + 1,
            zone="UTC",
            month=before[number // len(spaces)],
            issued_at=now,
            issued_on=today,
            due_on=today - timedelta(days=number % 30),
            currency="USD",
            seller="S",
            recipient="R",
            subtotal=10,
            tax=0,
            total=10,
        )
        for number in range(count)
    )
    InvoiceDocument.objects.bulk_create(
        InvoiceDocument(invoice=row, problem="refused" if row.pk % 10 == 0 else "") for row in invoices
    )
    paid = [row for number, row in enumerate(invoices) if number % 3]
    entries = LedgerEntry.objects.bulk_create(entry(number, "payment", "-10.00") for number in range(len(paid)))
    payments_ = Payment.objects.bulk_create(
        Payment(
            invoice=row, amount=10, method="bank", reference=row.number, received_on=today, recorded_at=now, entry=one
        )
        for row, one in zip(paid, entries, strict=True)
    )
    Settlement.objects.bulk_create(Settlement(invoice=row.invoice, payment=row, amount=10, at=now) for row in payments_)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE billing_invoice, billing_ledgerentry, billing_settlement, billing_invoicedocument")


def test_the_page_asks_as_much_with_many_invoices_as_with_one(desk: Client) -> None:
    make_invoice(workspace("alice"), "10.00", timezone.now())
    grant(workspace("bob"), "10.00", now=timezone.now())
    desk.get(ADDRESS)
    with CaptureQueriesContext(
        connection,
    ) as few:
        desk.get(ADDRESS)
    many(MANY)

    with CaptureQueriesContext(connection) as lots:
        begin = time.perf_counter()
        page = desk.get(ADDRESS).content.decode()
        seconds = time.perf_counter() - begin

    print(f"{MANY} invoices: {seconds * 1000:.0f} ms")  # noqa: T201 - BERTH_MANY=10000 pytest -s measures
    assert len(lots) - len(few) in {0, 1}  # the names of those whose mail failed come with them
    assert f"all {look().debts.count}" in page
