"""The API's billing: what was served, the ledger, invoices, the month, and quotes that hold nothing."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import Membership, User, Workspace
from billing import actions, charging, documents
from billing.models import BillingAccount, InvoiceDocument
from compute.models import Allocation
from reservations.models import Reservation
from tests.factories import make_token, workspace_of
from tests.unit.billing.bills import make_invoice
from tests.unit.billing.served import serve
from tests.unit.portal.conftest import Call
from tests.unit.portal.test_api import BODY, problem

pytestmark = pytest.mark.django_db
MAY = datetime(2026, 5, 31, 22, tzinfo=UTC)
HOUR = timedelta(hours=1)
LISTS = ["/billing/usage", "/billing/ledger", "/billing/invoices"]


@pytest.fixture
def workspace(owner: User) -> Workspace:
    return workspace_of(owner)


# ---- usage ------------------------------------------------------------------------------------------------


def test_usage_is_every_served_interval_with_what_it_adds(workspace: Workspace, api: Call) -> None:
    row = serve(workspace, (MAY, MAY + HOUR / 2), (MAY + HOUR, MAY + 3 * HOUR), name="course")

    second, first = api("GET", "/billing/usage").json()

    assert first == {
        "reservation": row.pk,
        "name": "course",
        "service": "nginx",
        "start": "2026-05-31T22:00:00Z",
        "end": "2026-05-31T22:30:00Z",
        "seconds": 1800.0,
        "cost": "0.50",
        "currency": "USD",
    }
    assert second["cost"] == "1.00"


def test_usage_of_months_adds_up_to_all_of_it(workspace: Workspace, api: Call) -> None:
    serve(workspace, (MAY, MAY + HOUR / 2), (MAY + HOUR, MAY + 9 * HOUR))

    (*may, last), june = (api("GET", f"/billing/usage?month={month}").json() for month in ("2026-05", "2026-06"))

    assert (last["start"], june[0]["start"]) == ("2026-05-31T22:00:00Z", "2026-06-01T00:00:00Z")
    assert sum(Decimal(row["cost"]) for row in [*may, last, *june]) == Decimal("4.50")


def test_what_still_serves_has_no_end(workspace: Workspace, api: Call) -> None:
    now = timezone.now()
    serve(workspace, (now - HOUR / 2, None), end=now + HOUR, state="running")

    (row,) = api("GET", "/billing/usage").json()

    assert (row["end"], row["cost"]) == (None, "0.50")


# ---- ledger, invoices, the month --------------------------------------------------------------------------


def test_the_ledger_with_its_balance(workspace: Workspace, api: Call) -> None:
    for number in range(3):
        serve(workspace, (MAY + number * HOUR, MAY + (number + 1) * HOUR))
        charging.settle(workspace.pk, MAY + (number + 1) * HOUR)

    rows = api("GET", "/billing/ledger").json()

    assert [(row["amount"], row["balance"]) for row in rows] == [("0.50", "1.50"), ("0.50", "1.00"), ("0.50", "0.50")]
    assert {row["kind"] for row in rows} == {"charge"}
    assert [row["id"] for row in api("GET", "/billing/ledger?limit=1&offset=1").json()] == [rows[1]["id"]]
    assert [row["balance"] for row in api("GET", "/billing/ledger?month=2026-05").json()] == ["1.00", "0.50"]
    assert api("GET", "/billing/ledger?kind=payment").json() == []


def test_an_invoice_with_its_lines_and_its_pdf(workspace: Workspace, api: Call) -> None:
    invoice = make_invoice(workspace, "10.00", tax="1.90")
    InvoiceDocument.objects.create(invoice=invoice, pdf=b"%PDF-1.7")

    (row,) = api("GET", "/billing/invoices").json()
    whole = api("GET", f"/billing/invoices/{invoice.pk}").json()
    document = api("GET", row["pdf"].removeprefix("/api/v1"))

    assert (row["number"], row["total"], row["open"], row["tax"]) == (invoice.number, "11.90", "11.90", "1.90")
    assert [line["amount"] for line in whole["lines"]] == ["10.00"]
    assert (document.content, document["Content-Type"]) == (b"%PDF-1.7", "application/pdf")


def test_a_long_pdf_is_not_made_at_once(workspace: Workspace, api: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    invoice = make_invoice(workspace, "10.00")
    monkeypatch.setattr(documents, "MOST_LINES_AT_ONCE", 0)

    answer = api("GET", f"/billing/invoices/{invoice.pk}/pdf")

    assert answer.status_code == 503
    assert "has 1 lines. Its PDF is being made" in answer.json()["detail"]


@pytest.mark.parametrize(("asked", "count"), [("", 1), ("?open=true", 1), ("?open=false", 0)])
def test_open_invoices(asked: str, count: int, workspace: Workspace, api: Call) -> None:
    make_invoice(workspace)

    assert len(api("GET", f"/billing/invoices{asked}").json()) == count


def test_the_month_and_the_budget(workspace: Workspace, api: Call) -> None:
    now = timezone.now()
    serve(workspace, (now - HOUR / 2, None), end=now + HOUR / 4, state="running")
    BillingAccount.objects.filter(workspace=workspace).update(monthly_budget=Decimal(20))
    actions.set_spending(workspace=workspace, monthly_budget=Decimal(20), hard_stop=True, by="x")

    found = api("GET", "/billing/summary").json()

    assert found["workspace"] == {"id": workspace.pk, "name": workspace.name, "personal": True}
    assert (found["held"], found["balance"], found["hard_stop"]) == ("0.50", "0.00", True)
    assert found["monthly_budget"] == "20.00"
    assert Decimal(found["budget_left"]) >= Decimal("19.50")


# ---- whose ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", LISTS)
def test_only_ones_own(path: str, workspace: Workspace, other: User, api: Call) -> None:
    serve(workspace, (MAY, MAY + HOUR))
    charging.settle(workspace.pk, MAY + HOUR)
    make_invoice(workspace, None)
    eve = make_token(other)

    assert len(api("GET", path).json()) == 1
    assert api("GET", path, token=eve).json() == []
    problem(api("GET", f"{path}?workspace={workspace.pk}", token=eve), 404, "not_found")
    Membership.objects.create(workspace=workspace, user=other, role="member")
    assert len(api("GET", f"{path}?workspace={workspace.pk}", token=eve).json()) == 1


@pytest.mark.parametrize("part", ["", "/pdf"])
def test_anothers_invoice_does_not_exist(part: str, workspace: Workspace, other: User, api: Call) -> None:
    invoice = make_invoice(workspace)

    problem(api("GET", f"/billing/invoices/{invoice.pk}{part}", token=make_token(other)), 404, "not_found")


@pytest.mark.parametrize("query", ["month=x", "month=2026-13", "limit=0", "limit=501", "offset=-1", "workspace=x"])
@pytest.mark.parametrize("path", ["/billing/usage", "/billing/ledger"])
def test_a_bad_filter_is_named(path: str, query: str, api: Call) -> None:
    body = problem(api("GET", f"{path}?{query}"), 422, "invalid")

    assert [name.split(".")[-1] for name in body["errors"]] == [query.split("=")[0]]


@pytest.mark.parametrize("path", LISTS)
def test_queries_do_not_grow_with_the_rows(path: str, workspace: Workspace, api: Call) -> None:
    api("GET", path)  # notes that the token was used
    counts = []
    for number in (1, 49):
        for _ in range(number):
            serve(workspace, (MAY, MAY + HOUR))
            charging.settle(workspace.pk, MAY + HOUR)
            make_invoice(workspace, None)
        with CaptureQueriesContext(connection) as context:
            rows = api("GET", path).json()
        counts.append(len(context))

    assert len(rows) == 50
    assert counts[0] == counts[1]


# ---- quotes -----------------------------------------------------------------------------------------------


def test_a_quote_is_what_the_booking_will_cost_and_holds_nothing(api: Call) -> None:
    found = api("POST", "/quotes", BODY)

    assert found.status_code == 200
    assert (Reservation.objects.count(), Allocation.objects.count()) == (0, 0)
    body = found.json()
    assert (body["fits"], body["refusal"], body["rounding"]) == (True, None, "hour")
    assert body["price"] == api("POST", "/reservations", BODY).json()["price"] == "0.50"


def test_a_quote_needs_only_a_token_that_may_read(owner: User, api: Call) -> None:
    reads, writes = (make_token(owner, scopes=[scope]) for scope in ("read", "write"))

    assert api("POST", "/quotes", BODY, token=reads).status_code == 200
    problem(api("POST", "/quotes", BODY, token=writes), 403, "scope")
    problem(api("POST", "/reservations", BODY, token=reads), 403, "scope")


def test_what_cannot_be_afforded_is_quoted_and_refused(workspace: Workspace, api: Call) -> None:
    actions.set_spending(workspace=workspace, monthly_budget=Decimal("0.30"), hard_stop=True, by="x")

    body = api("POST", "/quotes", BODY).json()
    refused = problem(api("POST", "/reservations", BODY), 409, "budget")

    assert (body["price"], body["fits"], body["budget_left"]) == ("0.50", False, "0.30")
    assert body["refusal"] == {"code": "budget", "detail": refused["detail"], "next_slot": None}
    assert "$0.30 of the budget of $0.30" in refused["detail"]
    assert not Reservation.objects.exists()


def test_a_quote_for_what_cannot_be_booked_names_the_field(api: Call) -> None:
    assert list(problem(api("POST", "/quotes", BODY | {"hours": 0.1}), 422, "invalid")["errors"]) == ["hours"]
    assert list(problem(api("POST", "/quotes", BODY | {"size": "none"}), 422, "invalid")["errors"]) == ["size"]


def test_a_quote_tells_tax_and_discount(workspace: Workspace, api: Call, settings: Any) -> None:
    settings.BERTH_TAX_PERCENT = Decimal(19)
    now = timezone.now()
    actions.set_discount(
        workspace=workspace, percent=Decimal(50), reason="school", start=None, end=None, by="x", now=now
    )

    body = api("POST", "/quotes", BODY).json()

    assert (body["price"], body["discount_percent"], body["with_tax"]) == ("0.25", "50.00", "0.30")
