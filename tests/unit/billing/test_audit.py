"""The books are in order, and whatever is broken in them by hand is named."""

import json
import re
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from billing import audit
from billing.models import LedgerEntry
from reservations.models import Reservation
from tests.factories import make_user, workspace_of
from tests.unit.billing import books
from tests.unit.billing.lives import Life, lived

pytestmark = pytest.mark.django_db
TABLES = [
    *("billing_ledgerentry", "billing_dailycost", "billing_invoice", "billing_invoiceline", "billing_settlement"),
    *("billing_payment", "reservations_usageperiod"),
]
CHARGES = {
    "FIRST_CHARGE": "(SELECT min(id) FROM billing_ledgerentry WHERE kind = 'charge' AND reservation_id IS NOT NULL)",
    "LAST_CHARGE": "(SELECT max(id) FROM billing_ledgerentry WHERE kind = 'charge' AND reservation_id IS NOT NULL)",
}
COPY = """
INSERT INTO billing_ledgerentry
    (workspace_id, at, kind, month, amount, currency, key, text, reservation_id, service_id, details, by)
SELECT workspace_id, at, kind, month, amount, currency, key || ':2', text, OWNER, service_id, details, by
FROM billing_ledgerentry WHERE id = LAST_CHARGE
"""
#: What somebody does to the tables, and what is said of it.
BREAKS: dict[str, tuple[str, str]] = {
    "a charge is raised": (
        "UPDATE billing_ledgerentry SET amount = amount + 1 WHERE id = FIRST_CHARGE",
        r"reservation \d+ is charged 1.00 USD too much for April 2026",
    ),
    "a charge is lowered": (
        "UPDATE billing_ledgerentry SET amount = amount - 0.01 WHERE id = LAST_CHARGE",
        r"reservation \d+ is charged 0.01 USD too little for July 2026 \(0.26 instead of 0.27\)",
    ),
    "a charge is deleted": (
        "DELETE FROM billing_dailycost WHERE entry_id = LAST_CHARGE;"
        "DELETE FROM billing_ledgerentry WHERE id = LAST_CHARGE",
        r"reservation \d+ is not charged for July 2026: 0.27 USD were served",
    ),
    "a charge is deleted and its reservation is not settled": (
        "UPDATE reservations_reservation SET settled_at = NULL"
        " WHERE id = (SELECT reservation_id FROM billing_ledgerentry WHERE id = LAST_CHARGE);"
        "DELETE FROM billing_dailycost WHERE entry_id = LAST_CHARGE;"
        "DELETE FROM billing_ledgerentry WHERE id = LAST_CHARGE",
        r"reservation \d+ is over, and 0.27 USD of it are not charged",
    ),
    "something is charged twice": (
        COPY.replace("OWNER", "reservation_id"),
        r"reservation \d+ is charged 2 times for July 2026, by the entries \d+ and \d+",
    ),
    "something is charged that nobody used": (
        COPY.replace("OWNER", "NULL::bigint"),
        r"entry \d+ charges 0.27 USD for nothing that was used",
    ),
    "what was served is deleted": (
        "DELETE FROM reservations_usageperiod WHERE reservation_id ="
        " (SELECT reservation_id FROM billing_ledgerentry WHERE id = FIRST_CHARGE)",
        r"reservation \d+ is charged \S+ USD for April 2026 without usage in it",
    ),
    "served time is stretched": (
        "UPDATE reservations_usageperiod SET during = tstzrange(lower(during), upper(during) + interval '1 hour')"
        " WHERE id = (SELECT min(id) FROM reservations_usageperiod)",
        r"reservation \d+ is noted to have served outside of what was booked",
    ),
    "served time is cut": (
        "UPDATE reservations_usageperiod SET during = tstzrange(lower(during), upper(during) - interval '1 hour')"
        " WHERE id = (SELECT min(id) FROM reservations_usageperiod)",
        r"reservation \d+ is charged 0.26 USD too much for April 2026",
    ),
    "the terms of a booking are changed": (
        "UPDATE reservations_reservation SET terms = jsonb_set(terms, '{prices,0,per_core_hour}', '\"0.25\"')"
        " WHERE id = (SELECT min(id) FROM reservations_reservation)",
        r"reservation \d+ is charged \S+ USD too much for April 2026",
    ),
    "the terms of a booking are lost": (
        "UPDATE reservations_reservation SET terms = '{}' WHERE id = (SELECT min(id) FROM reservations_reservation)",
        r"the terms of reservation \d+ cannot be read",
    ),
    "a charge is put in another month": (
        "UPDATE billing_ledgerentry SET month = '2026-06-01' WHERE id = LAST_CHARGE",
        r"reservation \d+ is charged 0.27 USD for June 2026 without usage in it",
    ),
    "a charge is another workspace's": (
        "UPDATE billing_ledgerentry SET workspace_id = (SELECT max(id) FROM accounts_workspace) WHERE id = LAST_CHARGE",
        r"reservation \d+ is another workspace's, and 0.27 USD are charged here for it",
    ),
    "a kept volume is charged too much": (
        "UPDATE billing_ledgerentry SET amount = 9 WHERE volume_id IS NOT NULL AND month = '2026-05-01'",
        r"kept volume \d+ \(nginx-\d+\) is charged 7.00 USD too much for May 2026 \(9.00 instead of 2.00\)",
    ),
    "a kept volume is bigger than charged": (
        "UPDATE compute_volume SET size_gb = 20 WHERE kept",
        r"kept volume \d+ \(nginx-\d+\) is charged 2.00 USD too little for June 2026",
    ),
    "a day costs something else": (
        "UPDATE billing_dailycost SET amount = amount + 0.01 WHERE id = (SELECT min(id) FROM billing_dailycost)",
        r"entry \d+ \(reservation:\d+:2026-04\) is \S+ USD, and its days add up to",
    ),
    "an invoice is gone from its series": (
        "UPDATE billing_invoice SET position = 7 WHERE position = 2; UPDATE billing_invoiceseries SET last_number = 7",
        r"invoices: the invoices of 2026 lack the numbers 2, 4, 5, 6",
    ),
    "a number was given out to nobody": (
        "UPDATE billing_invoiceseries SET last_number = 4",
        r"the invoices of 2026 lack the number 4",
    ),
    "a line says something else than its entry": (
        "UPDATE billing_invoiceline SET amount = amount + 1 WHERE id = (SELECT min(id) FROM billing_invoiceline)",
        r"the lines of invoice INV-2026-000001 add up to \S+, and its subtotal is",
    ),
    "a line is gone": (
        "DELETE FROM billing_invoiceline WHERE id = (SELECT min(id) FROM billing_invoiceline)",
        r"entry \d+ \(reservation:\d+:2026-04, \S+ USD\) is on no invoice, and should be on INV-2026-000001",
    ),
    "the tax of an invoice is raised": (
        "UPDATE billing_invoice SET tax = tax + 1, total = total + 1 WHERE position = 1",
        r"the tax of invoice INV-2026-000001 is \S+ instead of",
    ),
    "an invoice's total is no sum": (
        "ALTER TABLE billing_invoice DROP CONSTRAINT invoice_total_is_the_sum;"
        "UPDATE billing_invoice SET total = total + 1 WHERE position = 1",
        r"invoice INV-2026-000001 is \S+ with \S+ of tax, and its total is",
    ),
    "a tax is entered without its invoice": (
        "UPDATE billing_ledgerentry SET key = 'invoice:INV-2026-000009:tax' WHERE key = 'invoice:INV-2026-000002:tax'",
        r"entry \d+ \(invoice:INV-2026-000009:tax\) is a tax of \S+ without its invoice",
    ),
    "more is settled than was to pay": (
        "INSERT INTO billing_settlement (invoice_id, amount, at) SELECT id, 99, now() FROM billing_invoice"
        " WHERE position = 1",
        r"\S+ USD are settled of invoice INV-2026-000001, which is",
    ),
    "a payment's entry is something else": (
        "UPDATE billing_ledgerentry SET kind = 'credit' WHERE kind = 'payment'",
        r"payment \d+ \(TRX 1\) over \S+ has no entry in the ledger",
    ),
    "a payment is raised": (
        "UPDATE billing_payment SET amount = amount + 1",
        r"payment \d+ \(TRX 1\) is \S+, and its entry \d+ is -",
    ),
    "a payment is deleted": (
        "DELETE FROM billing_settlement WHERE payment_id IS NOT NULL; DELETE FROM billing_payment",
        r"entry \d+ is a payment of \S+ that nobody recorded",
    ),
    "a settlement is deleted": (
        "DELETE FROM billing_settlement WHERE payment_id IS NOT NULL",
        r"payment \d+ \(TRX 1\) settles 0.00, and \S+ of it are there",
    ),
    "credit is used that is not noted": (
        "UPDATE billing_ledgerentry SET amount = amount + 1 WHERE kind = 'tax' AND month = '2026-05-01'",
        r"the balance is \S+ USD, and open invoices, unbilled usage and credit come to",
    ),
    "a charge is in another currency": (
        "UPDATE billing_ledgerentry SET currency = 'EUR' WHERE id = LAST_CHARGE",
        r"reservation \d+ was booked in USD, and entry \d+ charges it in EUR",
    ),
    "an account is in another currency": (
        "UPDATE billing_billingaccount SET currency = 'EUR'",
        r"the account is kept in EUR, and \S+ USD are not even",
    ),
}


@pytest.fixture
def user(settings: Any) -> User:
    return books.write(settings)


def findings() -> list[str]:
    return [str(finding) for finding in audit.examine(books.NOW + timedelta(hours=1)).findings]


def damage(statements: str) -> None:
    """As somebody would who owns the tables."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        for table in TABLES:
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        for name, number in CHARGES.items():
            statements = statements.replace(name, number)
        for statement in statements.split(";"):
            cursor.execute(statement)


def test_books_that_are_in_order_have_no_finding(user: User) -> None:
    found = audit.examine(books.NOW + timedelta(hours=1))

    assert found.findings == []
    assert (found.workspaces, found.reservations, found.invoices) == (1, 6, 3)
    assert found.entries == LedgerEntry.objects.count()


@pytest.mark.parametrize("name", BREAKS)
def test_what_is_broken_by_hand_is_named(name: str, user: User) -> None:
    make_user()
    statements, sentence = BREAKS[name]

    damage(statements)

    said = "\n".join(findings())
    assert re.search(sentence, said), said


def test_what_ended_a_moment_ago_is_no_finding_yet_and_a_minute_later_it_is(user: User) -> None:
    lived(user, books.NOW, 1)
    over = books.NOW + timedelta(hours=1)

    assert audit.examine(over + timedelta(seconds=59)).findings == []
    (finding,) = audit.examine(over + timedelta(seconds=61)).findings
    assert finding.sentence.endswith("is over, and 0.27 USD of it are not charged")


def test_what_runs_is_no_finding(user: User) -> None:
    Life.booked(user, books.NOW, timedelta(hours=9)).runs(books.NOW)

    assert findings() == []


def test_only_one_workspace_is_looked_at_when_it_is_named(user: User) -> None:
    other = lived(make_user("bob"), books.NOW, 1).row
    Reservation.objects.filter(pk=other.pk).update(terms={})

    assert audit.examine(books.NOW, workspace_of(user).pk).findings == []
    assert len(audit.examine(books.NOW).findings) == 1


def test_the_command_names_what_it_finds_and_exits_with_1(user: User) -> None:
    out = StringIO()
    call_command("audit_ledger", stdout=out)
    assert out.getvalue().endswith("of 1 workspaces were recomputed: no differences.\n")

    damage(BREAKS["a charge is lowered"][0])
    out = StringIO()
    with pytest.raises(SystemExit, match="1"):
        call_command("audit_ledger", workspace="ada", as_json=True, stdout=out)

    answer = json.loads(out.getvalue())
    assert answer["findings"][0]["name"] == "ada"
    assert "0.01 USD too little for July 2026" in answer["findings"][0]["sentence"]


def test_it_reads_in_a_number_of_queries_that_does_not_grow(user: User, django_assert_num_queries: Any) -> None:
    lived(make_user(), books.NOW, 1)
    with CaptureQueriesContext(connection) as few:
        audit.examine(books.NOW)
    for _ in range(5):
        lived(make_user(), books.NOW, 1)

    with django_assert_num_queries(len(few)):
        audit.examine(books.NOW)
