"""Invoices: each month once, in order, numbered without gaps, and never changed."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from billing import charging, invoices, ledger, payments
from billing.invoices import CannotIssue, issue, issue_due
from billing.models import (
    BillingAccount,
    Invoice,
    InvoiceDocument,
    InvoiceLine,
    InvoiceSeries,
    LedgerEntry,
    Settlement,
)
from billing.pricing import Price, Rounding, Terms
from compute import failpoints
from reservations.states import State
from tests.unit.billing.served import make_account, serve

pytestmark = pytest.mark.django_db
APRIL, MAY, JUNE = date(2026, 4, 1), date(2026, 5, 1), date(2026, 6, 1)
FIRST_OF_JUNE = datetime(2026, 6, 1, 1, tzinfo=UTC)


def may(day: int, hour: float = 0) -> datetime:
    return datetime(2026, 5, day, tzinfo=UTC) + timedelta(hours=hour)


@pytest.fixture
def account() -> BillingAccount:
    return make_account()


def amounts(invoice: Invoice) -> list[str]:
    return [str(amount) for amount in invoice.lines.values_list("amount", flat=True)]


# ---- what is on it ------------------------------------------------------------------------------------------


def test_an_invoice_has_what_was_served_in_its_month(account: BillingAccount, settings: Any) -> None:
    settings.BERTH_SELLER = "Example Ltd\n1 Harbour Street"
    settings.BERTH_INVOICE_NOTE = "IBAN XX00"
    settings.BERTH_INVOICE_DUE_DAYS = 30
    account.recipient, account.address, account.tax_number = "Acme", "2 Quay\nTown", "XX1"
    account.save()
    reservation = serve(account.workspace, (may(3, 10), may(3, 12.5)), (may(4, 1), may(4, 2)), name="website")

    invoice = issue(account.pk, MAY, FIRST_OF_JUNE)

    assert invoice is not None
    invoice.refresh_from_db()
    assert (invoice.number, invoice.year, invoice.position) == ("INV-2026-000001", 2026, 1)
    assert (invoice.month, invoice.issued_on, invoice.due_on) == (MAY, JUNE, date(2026, 7, 1))
    assert invoice.seller == "Example Ltd\n1 Harbour Street"
    assert invoice.recipient == "Acme\n2 Quay\nTown"
    assert (invoice.recipient_tax_number, invoice.note) == ("XX1", "IBAN XX00")
    assert (invoice.subtotal, invoice.tax, invoice.total) == (Decimal("2.00"), 0, Decimal("2.00"))
    (line,) = invoice.lines.all()
    assert (line.reservation, line.text) == (reservation, f"website (#{reservation.pk})")
    assert (line.served_from, line.served_until) == (may(3, 10), may(4, 2))
    assert line.quantity == "4 started hours (3:30:00 served), nginx, 1 core, 512 MiB"
    assert line.amount == Decimal("2.00")
    document = InvoiceDocument.objects.get(invoice=invoice)
    assert (document.try_at, document.pdf) == (FIRST_OF_JUNE, None)


def test_lines_stand_in_the_order_in_which_they_were_served(account: BillingAccount) -> None:
    late = serve(account.workspace, (may(9), may(9, 1)))
    early = serve(account.workspace, (may(2), may(2, 1)))
    serve(account.workspace, (may(1), may(1, 1)))
    charging.settle(account.pk, may(10))
    entry = LedgerEntry.objects.get(reservation=early)
    payments.correct(entry=entry, amount=Decimal("0.20"), reason="It was slow", by="x", now=may(11))

    invoice = issue(account.pk, MAY, FIRST_OF_JUNE)

    assert invoice is not None
    lines = list(invoice.lines.all())
    assert [line.position for line in lines] == [1, 2, 3, 4]
    assert lines[2].reservation == late
    assert lines[3].entry.corrects == entry
    assert amounts(invoice) == ["0.50", "0.50", "0.50", "-0.20"]
    assert invoice.total == Decimal("1.30")


def test_time_by_the_second_is_said_as_such(account: BillingAccount) -> None:
    terms = Terms((Price(may(1), Decimal("0.50")),), Rounding.SECOND)
    serve(account.workspace, (may(3), may(3, 1.5)), terms=terms)

    invoice = issue(account.pk, MAY, FIRST_OF_JUNE)

    assert invoice is not None
    assert invoice.lines.get().quantity == "1:30:00 h served, nginx, 1 core, 512 MiB"


def test_a_reservation_over_the_months_end_is_on_both_invoices(account: BillingAccount) -> None:
    serve(account.workspace, (may(31, 22), may(31, 26)))

    first = issue(account.pk, MAY, FIRST_OF_JUNE + timedelta(hours=9))
    second = issue(account.pk, JUNE, datetime(2026, 7, 1, tzinfo=UTC))

    assert first is not None
    assert second is not None
    assert (amounts(first), amounts(second)) == (["1.00"], ["1.00"])


def test_what_still_runs_is_invoiced_until_the_months_end(account: BillingAccount) -> None:
    end = datetime(2026, 6, 10, tzinfo=UTC)
    serve(account.workspace, (may(31, 20), None), end=end, state=State.RUNNING)

    invoice = issue(account.pk, MAY, FIRST_OF_JUNE)

    assert invoice is not None
    assert amounts(invoice) == ["2.00"]


# ---- tax ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cents", "percent", "tax"),
    [
        ("0.10", "5", "0.01"),
        ("0.09", "5", "0.00"),
        ("1.50", "19", "0.29"),
        ("0.50", "7.7", "0.04"),
        ("0.50", "100", "0.50"),
    ],
)
def test_tax_is_rounded_half_up_once_over_the_sum(
    cents: str, percent: str, tax: str, account: BillingAccount, settings: Any
) -> None:
    settings.BERTH_TAX_LABEL, settings.BERTH_TAX_PERCENT = "VAT", Decimal(percent)
    serve(account.workspace, (may(3), may(3, 1)), terms=Terms((Price(may(1), Decimal(cents)),)))

    invoice = issue(account.pk, MAY, FIRST_OF_JUNE)

    assert invoice is not None
    assert (invoice.tax, invoice.total) == (Decimal(tax), Decimal(cents) + Decimal(tax))
    assert invoice.tax_label == "VAT"
    taxes = LedgerEntry.objects.filter(kind="tax")
    assert [(t.amount, t.key, t.month) for t in taxes] == (
        [(Decimal(tax), f"invoice:{invoice.number}:tax", MAY)] if Decimal(tax) else []
    )
    assert ledger.balance(account.pk) == invoice.total


def test_no_tax_has_no_line_and_no_entry(account: BillingAccount) -> None:
    serve(account.workspace, (may(3), may(3, 1)))

    invoice = issue(account.pk, MAY, FIRST_OF_JUNE)

    assert invoice is not None
    assert (invoice.tax, invoice.tax_label, invoice.total) == (0, "", Decimal("0.50"))
    assert not LedgerEntry.objects.filter(kind="tax").exists()


# ---- once, and in order -------------------------------------------------------------------------------------


def test_a_second_time_issues_nothing(account: BillingAccount) -> None:
    serve(account.workspace, (may(3), may(3, 1)))
    assert issue(account.pk, MAY, FIRST_OF_JUNE)
    before = (LedgerEntry.objects.count(), InvoiceSeries.objects.get().last_number)

    assert issue(account.pk, MAY, FIRST_OF_JUNE) is None
    assert issue_due(FIRST_OF_JUNE) == []
    assert (LedgerEntry.objects.count(), InvoiceSeries.objects.get().last_number) == before
    assert Invoice.objects.count() == 1


def test_a_month_without_anything_is_closed_and_has_no_number(account: BillingAccount) -> None:
    serve(account.workspace, (may(3), may(3, 1)))
    issue(account.pk, MAY, FIRST_OF_JUNE)

    assert issue(account.pk, JUNE, datetime(2026, 7, 1, tzinfo=UTC)) is None

    account.refresh_from_db()
    assert account.closed_through == JUNE
    assert InvoiceSeries.objects.get().last_number == 1


def test_a_workspace_that_used_nothing_has_nothing_to_close(account: BillingAccount) -> None:
    assert issue(account.pk, MAY, FIRST_OF_JUNE) is None
    account.refresh_from_db()
    assert account.closed_through is None


def test_what_was_entered_late_is_on_the_next_invoice(account: BillingAccount) -> None:
    serve(account.workspace, (may(3), may(3, 1)))
    issue(account.pk, MAY, FIRST_OF_JUNE)
    late = serve(account.workspace, (may(20), may(20, 2)))

    assert issue(account.pk, MAY, FIRST_OF_JUNE) is None  # May is closed: its invoice stays as it is
    invoice = issue(account.pk, JUNE, datetime(2026, 7, 1, tzinfo=UTC))

    assert invoice is not None
    assert [line.reservation for line in invoice.lines.all()] == [late]
    assert invoice.lines.get().entry.month == MAY


def test_a_correction_is_a_line_of_the_next_invoice(account: BillingAccount, settings: Any) -> None:
    settings.BERTH_TAX_PERCENT = Decimal(10)
    serve(account.workspace, (may(3), may(3, 10)))
    first = issue(account.pk, MAY, FIRST_OF_JUNE)
    entry = LedgerEntry.objects.get(kind="charge")
    payments.correct(entry=entry, amount=Decimal("2.00"), reason="It was slow", by="x", now=FIRST_OF_JUNE)

    note = issue(account.pk, JUNE, datetime(2026, 7, 1, tzinfo=UTC))

    assert first is not None
    assert note is not None
    assert (note.subtotal, note.tax, note.total) == (Decimal("-2.00"), Decimal("-0.20"), Decimal("-2.20"))
    assert "It was slow" in note.lines.get().text
    # A credit note is credit: it settles what is open of the first.
    assert payments.open_amount(first) == Decimal("3.30")
    assert ledger.balance(account.pk) == Decimal("3.30")


def test_months_are_invoiced_in_order(account: BillingAccount) -> None:
    serve(account.workspace, (datetime(2026, 4, 3, tzinfo=UTC), datetime(2026, 4, 3, 1, tzinfo=UTC)))
    serve(account.workspace, (may(3), may(3, 1)))

    with pytest.raises(CannotIssue, match=r"2026-04 .* is not closed yet"):
        issue(account.pk, MAY, FIRST_OF_JUNE)
    assert [invoice.month for invoice in issue_due(FIRST_OF_JUNE)] == [APRIL, MAY]


@pytest.mark.parametrize(
    "month", [date(2026, 6, 1), date(2026, 5, 1), date(2099, 1, 1), date(9999, 12, 1)], ids=lambda m: f"{m:%Y-%m}"
)
def test_a_month_that_is_not_over_is_refused(month: date, account: BillingAccount) -> None:
    serve(account.workspace, (may(3), may(3, 1)))

    with pytest.raises(CannotIssue, match=r"is not over|is no month"):
        issue(account.pk, month, FIRST_OF_JUNE - timedelta(hours=1, seconds=1))
    assert not LedgerEntry.objects.exists()


def test_a_month_before_anything_was_used_closes_nothing(account: BillingAccount) -> None:
    serve(account.workspace, (may(3), may(3, 1)))

    assert issue(account.pk, date(1970, 1, 1), FIRST_OF_JUNE) is None
    account.refresh_from_db()
    assert account.closed_through is None


def test_a_month_before_time_is_refused() -> None:
    account = make_account(time_zone="Pacific/Auckland")

    with pytest.raises(CannotIssue, match="is no month"):
        issue(account.pk, date(1, 1, 1), FIRST_OF_JUNE)


# ---- numbers ------------------------------------------------------------------------------------------------


def test_numbers_have_no_gap_and_begin_anew_each_year() -> None:
    for _ in range(3):
        account = make_account()
        serve(account.workspace, (may(3), may(3, 1)))
        serve(account.workspace, (datetime(2026, 12, 3, tzinfo=UTC), datetime(2026, 12, 3, 1, tzinfo=UTC)))

    issued = issue_due(FIRST_OF_JUNE) + issue_due(datetime(2027, 1, 1, 2, tzinfo=UTC))

    assert [invoice.number for invoice in issued] == [
        *(f"INV-2026-{n:06}" for n in (1, 2, 3)),
        *(f"INV-2027-{n:06}" for n in (1, 2, 3)),
    ]


def test_the_year_is_that_of_the_day_of_issue_in_the_accounts_zone(settings: Any) -> None:
    settings.BERTH_INVOICE_PREFIX = "B/"
    account = make_account(time_zone="Pacific/Auckland")
    serve(account.workspace, (datetime(2026, 12, 3, tzinfo=UTC), datetime(2026, 12, 3, 1, tzinfo=UTC)))

    invoice = issue(account.pk, date(2026, 12, 1), datetime(2026, 12, 31, 13, tzinfo=UTC))

    assert invoice is not None
    assert (invoice.number, invoice.issued_on) == ("B/2027-000001", date(2027, 1, 1))


def test_an_attempt_that_fails_at_its_end_leaves_nothing(account: BillingAccount, settings: Any) -> None:
    settings.BERTH_TAX_PERCENT = Decimal(10)
    other = make_account()
    for each in (account, other):
        serve(each.workspace, (may(3), may(3, 1)))

    def crash(point: str) -> None:
        raise RuntimeError(point)

    failpoints.handle(crash)
    try:
        with pytest.raises(RuntimeError, match="invoice before commit"):
            issue(account.pk, MAY, FIRST_OF_JUNE)
    finally:
        failpoints.handle(None)

    assert not Invoice.objects.exists()
    assert not LedgerEntry.objects.exists()
    assert not InvoiceSeries.objects.exists()
    account.refresh_from_db()
    assert account.closed_through is None
    assert [invoice.number for invoice in issue_due(FIRST_OF_JUNE)] == ["INV-2026-000001", "INV-2026-000002"]


def test_a_workspace_that_fails_keeps_no_other_waiting(account: BillingAccount) -> None:
    spoilt = serve(account.workspace, (may(3), may(3, 1)))
    type(spoilt).objects.filter(pk=spoilt.pk).update(terms={"nonsense": 1})
    other = make_account()
    serve(other.workspace, (may(3), may(3, 1)))

    assert [invoice.workspace for invoice in issue_due(FIRST_OF_JUNE)] == [other.workspace]


def test_charges_in_two_currencies_are_not_added_up(account: BillingAccount, settings: Any) -> None:
    serve(account.workspace, (may(3), may(3, 1)))
    charging.settle(account.pk, may(4))
    payments.grant_credit(workspace=account.workspace, amount=Decimal("0.50"), reason="x", by="x", now=may(4))
    settings.BERTH_CURRENCY = "EUR"
    BillingAccount.objects.filter(pk=account.pk).update(currency="EUR")

    with pytest.raises(ledger.CurrencyChanged):
        issue(account.pk, MAY, FIRST_OF_JUNE)
    assert not Invoice.objects.exists()


# ---- credit -------------------------------------------------------------------------------------------------


def test_prepaid_credit_settles_an_invoice_as_it_is_issued(account: BillingAccount) -> None:
    payments.grant_credit(workspace=account.workspace, amount=Decimal("0.30"), reason="A start", by="x", now=may(2))
    serve(account.workspace, (may(3), may(3, 1)))

    invoice = issue(account.pk, MAY, FIRST_OF_JUNE)

    assert invoice is not None
    assert [part.amount for part in Settlement.objects.filter(invoice=invoice)] == [Decimal("0.30")]
    assert payments.open_amount(invoice) == Decimal("0.20")


# ---- for good -----------------------------------------------------------------------------------------------


def test_the_database_refuses_to_change_what_was_issued(account: BillingAccount) -> None:
    serve(account.workspace, (may(3), may(3, 1)))
    invoice = issue(account.pk, MAY, FIRST_OF_JUNE)
    assert invoice is not None
    InvoiceDocument.objects.filter(pk=invoice.pk).update(pdf=b"%PDF", sha256="0" * 64)
    statements = [
        "UPDATE billing_invoice SET total = 0, subtotal = 0, tax = 0",
        "UPDATE billing_invoice SET recipient = 'somebody else'",
        "UPDATE billing_invoiceline SET amount = 0",
        "UPDATE billing_invoicedocument SET pdf = 'other'",
        "UPDATE billing_invoicedocument SET sha256 = ''",
        "UPDATE billing_ledgerentry SET amount = 1",
    ]
    for statement in statements:
        with pytest.raises(IntegrityError, match="only ever added"), transaction.atomic():
            _execute(statement)


def test_the_database_refuses_a_line_twice_and_a_total_that_is_not_the_sum(account: BillingAccount) -> None:
    serve(account.workspace, (may(3), may(3, 1)))
    invoice = issue(account.pk, MAY, FIRST_OF_JUNE)
    assert invoice is not None
    line = invoice.lines.get()
    with pytest.raises(IntegrityError, match="entry"), transaction.atomic():
        InvoiceLine.objects.create(invoice=invoice, entry=line.entry, position=2, text="again", amount=1)
    invoice.pk, invoice.position, invoice.number, invoice.month = None, 2, "other", APRIL
    invoice.total += 1
    with pytest.raises(IntegrityError, match="invoice_total_is_the_sum"), transaction.atomic():
        invoice.save(force_insert=True)


def _execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def test_a_dry_run_says_what_would_be_issued_and_leaves_nothing(account: BillingAccount) -> None:
    serve(account.workspace, (datetime(2026, 4, 3, tzinfo=UTC), datetime(2026, 4, 3, 1, tzinfo=UTC)))
    serve(account.workspace, (may(3), may(3, 3)))

    drafts = invoices.preview(account.pk, FIRST_OF_JUNE)

    assert [(draft.month, draft.lines, draft.total) for draft in drafts] == [
        (APRIL, 1, Decimal("0.50")),
        (MAY, 1, Decimal("1.50")),
    ]
    assert not Invoice.objects.exists()
    assert not LedgerEntry.objects.exists()
    assert BillingAccount.objects.get(pk=account.pk).closed_through is None
