"""The database itself refuses to change what was entered, issued or paid, whoever asks it."""

from datetime import datetime
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from billing import actions
from billing.models import InvoiceDocument
from tests.unit.billing import books
from tests.unit.billing.test_rate import PRICES

pytestmark = pytest.mark.django_db
CHANGES = {
    "billing_ledgerentry": "UPDATE billing_ledgerentry SET amount = amount - 1",
    "billing_dailycost": "UPDATE billing_dailycost SET amount = 0",
    "billing_invoice": "UPDATE billing_invoice SET due_on = due_on + 30",
    "billing_invoiceline": "UPDATE billing_invoiceline SET text = 'nothing'",
    "billing_settlement": "UPDATE billing_settlement SET amount = 0",
    "billing_payment": "UPDATE billing_payment SET reference = 'nothing'",
}


@pytest.fixture(autouse=True)
def _books(settings: Any) -> None:
    books.write(settings)


def ask(statement: str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL berth.testing = 'off'")  # as it is for everybody but the tests
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # what still waits for the commit holds TRUNCATE up
        cursor.execute(statement)


def refused(statement: str) -> str:
    """The name by which the database refuses it."""
    with pytest.raises(IntegrityError) as caught:
        ask(statement)
    return str(caught.value.__cause__.diag.constraint_name)  # type: ignore[union-attr]


@pytest.mark.parametrize("table", CHANGES)
def test_no_row_is_changed(table: str) -> None:
    assert refused(CHANGES[table]) == f"{table}_append_only"


@pytest.mark.parametrize("table", CHANGES)
@pytest.mark.parametrize("deed", ["DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_no_row_is_removed(deed: str, table: str) -> None:
    # TRUNCATE takes what refers to the table too, and the first of them refuses.
    assert refused(deed.format(table)).endswith("_append_only")


def test_only_who_recorded_a_payment_is_forgotten() -> None:
    ask("UPDATE billing_payment SET recorded_by_id = NULL")

    assert refused("UPDATE billing_payment SET recorded_by_id = NULL, amount = 1") == "billing_payment_append_only"


def test_an_invoices_document_is_written_once_and_its_mailing_noted() -> None:
    ask("UPDATE billing_invoicedocument SET pdf = 'a', sha256 = 'b'")
    ask("UPDATE billing_invoicedocument SET attempts = attempts + 1, problem = 'away'")
    name = "billing_invoicedocument_append_only"

    assert refused("UPDATE billing_invoicedocument SET pdf = 'c'") == name
    assert refused("UPDATE billing_invoicedocument SET pdf = NULL, sha256 = ''") == name
    assert refused("DELETE FROM billing_invoicedocument") == name
    assert {bytes(row.pdf or b"") for row in InvoiceDocument.objects.all()} == {b"a"}


def test_a_rate_that_holds_is_only_ended(settings: Any) -> None:
    now: datetime = timezone.now()
    settings.BERTH_CURRENCY = "EUR"  # beside the books' own rate
    actions.set_rate(workspace=None, start=now, end=None, by="x", now=now, **PRICES)
    assert refused("UPDATE billing_rate SET per_core_hour = 9 WHERE currency = 'EUR'") == "billing_rate_only_ends"
    assert refused("DELETE FROM billing_rate WHERE currency = 'EUR'") == "billing_rate_only_ends"
    ask(
        "UPDATE billing_rate SET during = tstzrange(lower(during), clock_timestamp() + interval '1 hour')"
        " WHERE currency = 'EUR'"
    )
