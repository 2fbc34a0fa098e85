"""CSV: what spreadsheets open, what they must not compute, and that it adds up."""

import csv
import io
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from accounts.models import User
from billing import exports, invoices, ledger, payments
from billing.models import Invoice, InvoiceLine, LedgerEntry, Payment
from billing.pricing import Price, Rounding, Terms
from reservations.models import Reservation
from reservations.states import State
from tests.factories import make_user, workspace_of
from tests.unit.billing.served import make_account, serve

ISSUED = datetime(2026, 6, 1, 1, tzinfo=UTC)
MAY = date(2026, 5, 1)


def may(day: int, hour: float = 0) -> datetime:
    return datetime(2026, 5, 1, tzinfo=UTC) + timedelta(days=day - 1, hours=hour)


def rows_of(text: str) -> list[dict[str, str]]:
    assert text.startswith("\ufeff")
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))


def table_rows(table: exports.Table) -> list[dict[str, str]]:
    return rows_of("".join(exports.text_of(table)))


# ---- one cell -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        " =1",
        "＝1",
        "＋1",
        "－1",
        "＠1",
        '=HYPERLINK("http://x")',
    ],
)
def test_a_text_never_becomes_a_formula(text: str) -> None:
    written = "".join(exports.text_of(exports.Table(["text"], [[text]])))

    assert rows_of(written) == [{"text": f"'{text}"}]


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (Decimal("-12.30"), "-12.30"),
        (Decimal("1E+3"), "1000"),
        (-3, "-3"),
        (None, ""),
        ("", ""),
        ("plain", "plain"),
        ('two "words", a\nline', 'two "words", a\nline'),
        (date(2026, 5, 31), "2026-05-31"),
        (datetime(2026, 5, 31, 22, 0, 1, tzinfo=UTC), "2026-05-31 22:00:01"),
        ("Ὀδυσσεύς 🚀", "Ὀδυσσεύς 🚀"),
    ],
)
def test_a_value_reads_as_it_is(value: Any, cell: str) -> None:
    assert table_rows(exports.Table(["a"], [[value], ["end"]])) == [{"a": cell}, {"a": "end"}]


def test_rows_are_fetched_while_they_are_written() -> None:
    fetched = 0

    def rows() -> Any:
        nonlocal fetched
        for number in range(10 * exports.ROWS_AT_ONCE):
            fetched += 1
            yield [number]

    parts = exports.text_of(exports.Table(["n"], rows()))
    next(parts), next(parts)

    assert fetched == exports.ROWS_AT_ONCE


# ---- the tables ---------------------------------------------------------------------------------------------


@pytest.fixture
def user() -> User:
    return make_user()


@pytest.fixture
def invoice(user: User, settings: Any) -> Invoice:
    settings.BERTH_TAX_LABEL, settings.BERTH_TAX_PERCENT = "VAT", Decimal(20)
    account = make_account(user, recipient="=cmd|' /C calc'!A0")
    serve(account.workspace, (may(3), may(3, 2.5)), (may(4), may(4, 1)), name="=1+1")
    serve(account.workspace, (may(5), may(5, 1)))
    issued = invoices.issue(account.pk, MAY, ISSUED)
    assert issued is not None
    return issued


@pytest.mark.django_db
def test_invoices_say_how_they_stand(invoice: Invoice) -> None:
    payments.record_payment(
        invoice=invoice,
        amount=Decimal("1.00"),
        method="bank",
        reference="A",
        received_on=ISSUED.date(),
        by="x",
        now=ISSUED,
    )

    (row,) = table_rows(exports.invoices(Invoice.objects.all(), date(2026, 6, 16)))

    assert row["number"] == invoice.number
    assert (row["net"], row["tax"], row["tax percent"], row["tax amount"], row["total"]) == (
        "2.50", "VAT", "20.00", "0.50", "3.00",
    )  # fmt: skip
    assert (row["settled"], row["open"], row["state"], row["month"]) == ("1.00", "2.00", "overdue", "2026-05")
    assert row["recipient"] == "'=cmd|' /C calc'!A0"


@pytest.mark.django_db
def test_lines_add_up_to_their_invoice(invoice: Invoice) -> None:
    rows = table_rows(exports.invoice_lines(InvoiceLine.objects.all()))

    assert sum(Decimal(row["amount"]) for row in rows) == invoice.subtotal
    assert rows[0]["text"].startswith("'=1+1")
    assert rows[0]["served from (UTC)"] == "2026-05-03 00:00:00"


@pytest.mark.django_db
def test_the_ledger_adds_up_to_the_balance(invoice: Invoice) -> None:
    rows = table_rows(exports.ledger(LedgerEntry.objects.all()))

    assert sum(Decimal(row["amount"]) for row in rows) == ledger.balance(invoice.workspace_id) == Decimal("3.00")
    assert [row["invoice"] for row in rows if row["kind"] == "charge"] == [invoice.number] * 2


@pytest.mark.django_db
@pytest.mark.parametrize("rounding", list(Rounding))
def test_served_intervals_add_up_to_what_was_charged(rounding: Rounding, user: User) -> None:
    terms = Terms((Price(may(1), Decimal("0.37"), Decimal("0.11"), Decimal("0.50")),), rounding)
    account = make_account(user, time_zone="America/Los_Angeles")
    serve(account.workspace, (may(30), may(30, 2.2)), (may(31), may(33, 5.1)), (may(34), may(34, 0.01)), terms=terms)
    invoices.issue(account.pk, MAY, may(40))
    invoices.issue(account.pk, date(2026, 6, 1), may(80))

    for month in (MAY, date(2026, 6, 1)):
        rows = table_rows(exports.served(Reservation.objects.all(), may(80), month))
        charged = LedgerEntry.objects.usage().filter(month=month).total()
        assert sum(Decimal(row["cost"]) for row in rows) == charged > 0
    rows = table_rows(exports.served(Reservation.objects.all(), may(80)))
    assert len(rows) == 3
    assert sum(Decimal(row["cost"]) for row in rows) == LedgerEntry.objects.usage().total()


@pytest.mark.django_db
def test_what_still_runs_reaches_until_now(user: User) -> None:
    serve(workspace_of(user), (may(1), may(1, 1)), (may(2), None), end=may(9), state=State.RUNNING)

    first, second = table_rows(exports.served(Reservation.objects.all(), may(2, 3)))

    assert [first["still serves"], second["still serves"]] == ["no", "yes"]
    assert (second["until (UTC)"], second["seconds"], second["cost"]) == ("2026-05-02 03:00:00", "10800", "1.50")


@pytest.mark.django_db
def test_a_payment_that_went_back_is_marked(invoice: Invoice) -> None:
    made = [
        payments.record_payment(
            invoice=invoice,
            amount=Decimal(1),
            method="bank",
            reference=f"={n}",
            received_on=ISSUED.date(),
            by="x",
            now=ISSUED,
        )
        for n in range(2)
    ]
    payments.reverse_payment(payment=made[0], reason="x", by="x", now=ISSUED)

    rows = table_rows(exports.payments(Payment.objects.all()))

    assert [(row["reference"], row["reversed"]) for row in rows] == [("'=0", "yes"), ("'=1", "no")]


@pytest.mark.django_db
@pytest.mark.parametrize("count", [1, 50])
def test_queries_do_not_grow_with_the_rows(count: int, user: User, django_assert_max_num_queries: Any) -> None:
    account = make_account(user)
    for hour in range(count):
        serve(account.workspace, (may(3, hour), may(3, hour + 1)))
    issued = invoices.issue(account.pk, MAY, ISSUED)
    assert issued is not None
    tables: list[Callable[[], exports.Table]] = [
        lambda: exports.invoices(Invoice.objects.all(), MAY),
        lambda: exports.invoice_lines(InvoiceLine.objects.all()),
        lambda: exports.ledger(LedgerEntry.objects.all()),
        lambda: exports.served(Reservation.objects.all(), ISSUED),
        lambda: exports.payments(Payment.objects.all()),
    ]
    for table in tables:
        with django_assert_max_num_queries(2):
            assert table_rows(table()) or table is tables[-1]


# ---- for the accountant -------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_month_of_all_workspaces_is_written_to_files_that_only_their_owner_reads(
    invoice: Invoice, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_account()
    serve(other.workspace, (may(3), may(3, 1)))
    invoices.issue(other.pk, MAY, ISSUED)
    out = tmp_path / "books" / "may"

    for _ in range(2):
        call_command("export_billing", month="2026-05", out=out)

    assert f"{out}/invoices.csv: 2 rows" in capsys.readouterr().out
    files = {file.name: file for file in out.iterdir()}
    assert sorted(files) == ["invoices.csv", "ledger.csv", "lines.csv", "payments.csv"]
    assert {file.stat().st_mode & 0o777 for file in files.values()} == {0o600}
    rows = {name: rows_of(file.read_bytes().decode()) for name, file in files.items()}
    assert {row["number"] for row in rows["invoices.csv"]} == set(Invoice.objects.values_list("number", flat=True))
    assert sum(Decimal(row["total"]) for row in rows["invoices.csv"]) == sum(
        Decimal(row["amount"]) for row in rows["ledger.csv"]
    )
    assert sum(Decimal(row["net"]) for row in rows["invoices.csv"]) == sum(
        Decimal(row["amount"]) for row in rows["lines.csv"]
    )


@pytest.mark.django_db
@pytest.mark.parametrize("month", ["2026-5", "May", "2026-13", "99999-01", ""])
def test_a_month_that_is_none_is_refused(month: str, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="is not a month"):
        call_command("export_billing", month=month, out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.django_db
def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CommandError, match="cannot be written"):
        call_command("export_billing", month="2026-05", out=tmp_path / "file" / "x")
