"""The customer's pages about money: the month, the ledger, the account."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import AuditEntry, Membership, User, Workspace
from billing import charging, overview
from billing.accounts import account_of
from billing.models import BillingAccount, LedgerEntry
from billing.overview import KEPT_VOLUMES, Overview
from billing.pricing import Price, Terms
from compute.models import Volume
from reservations.models import WorkspaceVolume
from tests.factories import make_service, make_storage, make_user, workspace_of
from tests.unit.billing.bills import make_invoice
from tests.unit.billing.served import TERMS, serve

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 5, 20, 12, tzinfo=UTC)
MAY = date(2026, 5, 1)
HOUR = timedelta(hours=1)


@pytest.fixture
def owner() -> User:
    return make_user("ada")


@pytest.fixture
def workspace(owner: User) -> Workspace:
    return workspace_of(owner)


def look(workspace: Workspace, now: datetime = NOON, month: date = MAY) -> Overview:
    return overview.overview(account_of(workspace.pk), month, now)


# ---- the month --------------------------------------------------------------------------------------------


def test_a_month_is_what_was_charged_what_runs_and_what_is_booked(workspace: Workspace) -> None:
    serve(workspace, (NOON - 48 * HOUR, NOON - 46 * HOUR))
    charging.settle(workspace.pk, NOON - 40 * HOUR)
    serve(workspace, (NOON - 3 * HOUR, None), end=NOON + 24 * HOUR, state="running")

    found = look(workspace)

    assert (found.spending.charged, found.spending.accrued) == (Decimal("1.00"), Decimal("1.50"))
    assert found.spending.forecast == Decimal("14.50")
    assert found.balance == Decimal("1.00")
    assert found.held == Decimal("13.50")
    by_day = {day.day.day: (day.spent, day.to_come) for day in found.by_day.days if day.spent or day.to_come}
    assert by_day == {
        18: (Decimal("1.00"), Decimal(0)),
        20: (Decimal("1.50"), Decimal("6.00")),
        21: (Decimal(0), Decimal("6.00")),
    }
    assert [(row.amount, row.to_come, row.so_far) for row in found.rows] == [
        (Decimal("1.50"), Decimal("12.00"), True),
        (Decimal("1.00"), Decimal(0), False),
    ]


@pytest.mark.parametrize("hours", [0, 1, 5, 30, 300])
def test_whatever_is_shown_adds_up_to_the_month(workspace: Workspace, hours: int) -> None:
    redis = make_service("redis")
    for number in range(4):
        begin = NOON - timedelta(days=25, hours=7 * number)
        serve(workspace, (begin, begin + 5 * HOUR), service=redis if number % 2 else None)
    charging.settle(workspace.pk, NOON)
    serve(workspace, (NOON - 300 * HOUR, NOON - 2 * HOUR), (NOON - HOUR, None), end=NOON + 400 * HOUR, state="running")
    now = NOON + hours * HOUR

    found = look(workspace, now)

    spent = found.spending
    assert sum(day.spent for day in found.by_day.days) == spent.spent
    assert sum(day.to_come for day in found.by_day.days) == spent.to_come
    assert sum(row.amount for row in found.by_service.rows) == spent.spent
    assert sum(row.amount for row in found.rows) == spent.spent
    assert sum(row.to_come for row in found.rows) == spent.to_come


def test_kept_volumes_are_a_service_of_their_own(workspace: Workspace, settings: Any) -> None:
    from billing import actions

    begin = timezone.now() + timedelta(minutes=1)
    actions.set_rate(
        workspace=None,
        start=begin,
        end=None,
        by="x",
        now=timezone.now(),
        per_core_hour=Decimal(1),
        per_gib_hour=Decimal(0),
        per_gb_month=Decimal("3.10"),
    )
    later = begin + timedelta(days=62)
    month = later.date().replace(day=1)
    image = Volume.objects.create(size_gb=10, kept=True, server=make_storage(), formatted_at=begin)
    WorkspaceVolume.objects.create(workspace=workspace, name="data", volume=image)

    found = look(workspace, later, month)

    assert [(volume.name, volume.amount + volume.to_come) for volume in found.volumes] == [("data", Decimal("31.00"))]
    assert [row.name for row in found.by_service.rows] == [KEPT_VOLUMES]
    assert sum(day.spent for day in found.by_day.days) == found.spending.spent


def test_the_budget_bar_is_of_the_month_that_is_shown(workspace: Workspace) -> None:
    BillingAccount.objects.filter(pk=account_of(workspace.pk).pk).update(monthly_budget=Decimal(10))
    serve(workspace, (NOON - 20 * HOUR, NOON - 2 * HOUR))

    assert [
        found.budget.spent_percent
        for found in (look(workspace), look(workspace, month=date(2026, 4, 1)))
        if found.budget
    ] == [90, 0]


def test_months_to_choose_from_begin_with_the_first_that_cost_anything(workspace: Workspace) -> None:
    begin = datetime(2026, 2, 27, tzinfo=UTC)
    serve(workspace, (begin, begin + HOUR))
    charging.settle(workspace.pk, begin + 2 * HOUR)

    assert [f"{month:%m}" for month in look(workspace).months] == ["05", "04", "03", "02"]


def test_pages_of_reservations_leave_none_out(workspace: Workspace) -> None:
    for number in range(7):
        serve(workspace, (NOON - (number + 2) * HOUR, NOON - (number + 1) * HOUR))
    charging.settle(workspace.pk, NOON)
    for _ in range(3):
        serve(workspace, (NOON - HOUR, None), end=NOON + HOUR, state="running")

    rows = look(workspace).rows

    assert len(rows) == 10
    pieces = [row.reservation.pk for first in range(0, 10, 4) for row in rows[first : first + 4]]
    assert pieces == [row.reservation.pk for row in rows]
    assert len(set(pieces)) == 10


def _queries(browser: Any, owner: User, path: str) -> int:
    client = browser(owner)
    with CaptureQueriesContext(
        connection,
    ) as context:
        assert client.get(path).status_code == 200
    return len(context)


@pytest.mark.parametrize("path", ["/billing/", "/billing/ledger/"])
def test_queries_do_not_grow(path: str, workspace: Workspace, owner: User, browser: Any) -> None:
    now = timezone.now()
    begin = max(now - 2 * HOUR, now.replace(day=1, hour=0, minute=0))
    counts = []
    for number in (1, 49):
        for _ in range(number):
            serve(workspace, (begin, begin + timedelta(minutes=30)))
            serve(workspace, (begin, None), end=now + HOUR, state="running")
        charging.settle(workspace.pk, now)
        make_invoice(workspace, now=now)
        counts.append(_queries(browser, owner, path))

    assert counts[0] < 40, counts
    assert counts[1] <= counts[0], counts


# ---- who and what -----------------------------------------------------------------------------------------


def test_an_empty_account_says_what_to_do(owner: User, browser: Any) -> None:
    page = browser(owner).get("/billing/").content.decode()

    assert "Nothing to pay yet" in page
    assert 'href="/reservations/new/"' in page


def test_a_member_of_two_workspaces_chooses(owner: User, workspace: Workspace, browser: Any) -> None:
    member = make_user("bob")
    Membership.objects.create(workspace=workspace, user=member, role="member")
    serve(workspace, (NOON - 2 * HOUR, NOON), name="of the other workspace")
    charging.settle(workspace.pk, NOON)
    client = browser(member)

    own = client.get("/billing/?month=2026-05").content.decode()
    shared = client.get(f"/billing/?workspace={workspace.pk}&month=2026-05").content.decode()

    assert "of the other workspace" not in own
    assert "of the other workspace" in shared
    assert f'href="/billing/ledger/?workspace={workspace.pk}"' in shared


@pytest.mark.parametrize("path", ["", "ledger/", "account/"])
def test_anothers_workspace_does_not_exist(path: str, workspace: Workspace, browser: Any) -> None:
    assert browser(make_user("eve")).get(f"/billing/{path}?workspace={workspace.pk}").status_code == 404


@pytest.mark.parametrize("asked", ["0", "-1", "x", "%00", "9" * 18, "9" * 30, "1e3", "²"])
@pytest.mark.parametrize("path", ["", "ledger/", "account/"])
def test_a_workspace_that_is_none_does_not_exist(path: str, asked: str, owner: User, browser: Any) -> None:
    assert browser(owner).get(f"/billing/{path}?workspace={asked}").status_code == 404


@pytest.mark.parametrize(
    "month", ["x", "2026", "2026-13", "2026-00", "2026-5", "0001-01", "9999-12", "%00", "2026-05-01"]
)
def test_a_month_that_is_none_is_this_month(month: str, owner: User, browser: Any) -> None:
    answer = browser(owner).get(f"/billing/?month={month}")

    assert answer.status_code == 200
    assert answer.context["overview"].month == timezone.now().date().replace(day=1)


# ---- the ledger -------------------------------------------------------------------------------------------


@pytest.fixture
def entries(workspace: Workspace) -> list[LedgerEntry]:
    """Three charges and a correction of the first."""
    from billing import payments

    for number, name in enumerate(["alpha", "beta", "gamma"]):
        begin = NOON - timedelta(days=30 * number)
        serve(workspace, (begin, begin + 2 * HOUR), name=name)
        charging.settle(workspace.pk, begin + 3 * HOUR)
    first = LedgerEntry.objects.get(text__startswith="alpha")
    payments.correct(entry=first, amount=Decimal("0.40"), reason="slow", by="x", now=NOON + 4 * HOUR)
    return list(LedgerEntry.objects.order_by("at", "pk"))


def shown(answer: Any) -> list[tuple[int, Decimal]]:
    return [(line.entry.pk, line.balance) for line in answer.context["lines"]]


def test_the_balance_runs_through_all_entries_whatever_is_filtered(
    owner: User, entries: list[LedgerEntry], browser: Any
) -> None:
    client, total, balances = browser(owner), Decimal(0), {}
    for entry in entries:
        total += entry.amount
        balances[entry.pk] = total

    everything = shown(client.get("/billing/ledger/"))
    some = shown(client.get("/billing/ledger/?q=BETA"))

    assert everything == sorted(balances.items(), key=lambda item: [e.pk for e in entries].index(item[0]), reverse=True)
    assert some == [(pk, balances[pk]) for pk in [e.pk for e in entries if "beta" in e.text]]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("kind=charge", 3),
        ("kind=correction", 1),
        ("kind=payment", 0),
        ("month=2026-05", 2),
        ("month=2026-04&kind=charge", 1),
        ("q=gamma", 1),
        ("q=%25", 0),
        ("reservation=999999", 0),
        ("kind=nothing", 0),
        ("month=nothing", 0),
        ("month=0000-00", 0),
        ("reservation=x", 0),
        ("reservation=-1", 0),
        ("reservation=99999999999999999999", 0),
        ("q=%00", 0),
        ("q=" + "x" * 101, 0),
        ("entry=x", 0),
        ("page=x", 4),
        ("page=99999999999", 4),
    ],
)
def test_filters(query: str, count: int, owner: User, entries: list[LedgerEntry], browser: Any) -> None:
    answer = browser(owner).get(f"/billing/ledger/?{query}")

    assert answer.status_code == 200
    assert len(answer.context["lines"]) == count


def test_a_correction_leads_to_what_it_corrects(owner: User, entries: list[LedgerEntry], browser: Any) -> None:
    client = browser(owner)
    correction = next(entry for entry in entries if entry.corrects_id)
    link = f"/billing/ledger/?entry={correction.corrects_id}"

    assert f'href="{link}"' in client.get("/billing/ledger/").content.decode()
    assert {pk for pk, _ in shown(client.get(link))} == {correction.pk, correction.corrects_id}


def test_the_csv_keeps_the_filters_and_the_workspace(owner: User, entries: list[LedgerEntry], browser: Any) -> None:
    workspace = workspace_of(owner)

    page = browser(owner).get("/billing/ledger/?kind=charge&page=1").content.decode()

    assert f'href="/billing/ledger.csv?kind=charge&amp;workspace={workspace.pk}"' in page


# ---- the account ------------------------------------------------------------------------------------------

SPENDING = {"part": "spending", "monthly_budget": "50", "hard_stop": "on"}
RECIPIENT = {
    "part": "recipient",
    "recipient": "Ada Ltd",
    "address": "1 Road \r\nTown\r\n",
    "tax_number": "X1",
    "email": "bills@example.org",
    "time_zone": "Europe/Berlin",
}


def test_an_owner_sets_budget_and_recipient(owner: User, workspace: Workspace, browser: Any) -> None:
    client = browser(owner)

    assert [client.post("/billing/account/", form).status_code for form in (SPENDING, RECIPIENT)] == [302, 302]

    account = BillingAccount.objects.get(workspace=workspace)
    assert (account.monthly_budget, account.hard_stop) == (Decimal(50), True)
    assert (account.recipient, account.address, account.zone.key) == ("Ada Ltd", "1 Road\nTown", "Europe/Berlin")
    assert set(AuditEntry.objects.values_list("action", flat=True)) >= {"account.budget", "account.recipient"}


@pytest.mark.parametrize(
    ("form", "field"),
    [
        (SPENDING | {"monthly_budget": "-1"}, "monthly_budget"),
        (SPENDING | {"monthly_budget": "0"}, "monthly_budget"),
        (SPENDING | {"monthly_budget": "NaN"}, "monthly_budget"),
        (SPENDING | {"monthly_budget": "1e30"}, "monthly_budget"),
        (SPENDING | {"monthly_budget": "0.001"}, "monthly_budget"),
        (SPENDING | {"monthly_budget": ""}, "hard_stop"),
        (RECIPIENT | {"recipient": "a\x07"}, "recipient"),
        (RECIPIENT | {"recipient": "a\0"}, "recipient"),
        (RECIPIENT | {"address": "a\x1b[31m"}, "address"),
        (RECIPIENT | {"address": "x" * 501}, "address"),
        (RECIPIENT | {"email": "nobody"}, "email"),
        (RECIPIENT | {"time_zone": "Mars/North"}, "time_zone"),
        (RECIPIENT | {"tax_number": "x" * 41}, "tax_number"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(form: dict[str, str], field: str, owner: User, browser: Any) -> None:
    answer = browser(owner).post("/billing/account/", form)

    assert answer.status_code == 422
    part = "spending" if form["part"] == "spending" else "recipient"
    assert list(answer.context[part].errors) == [field]
    assert f'id="id_{field}_error"' in answer.content.decode()
    assert not AuditEntry.objects.filter(action__startswith="account.").exclude(action="account.open").exists()


@pytest.mark.parametrize("role", ["manager", "member"])
@pytest.mark.parametrize("form", [SPENDING, RECIPIENT])
def test_who_is_no_owner_reads_only(role: str, form: dict[str, str], workspace: Workspace, browser: Any) -> None:
    member = make_user("bob")
    Membership.objects.create(workspace=workspace, user=member, role=role)
    client, path = browser(member), f"/billing/account/?workspace={workspace.pk}"

    assert "Owners of the workspace can change this." in client.get(path).content.decode()
    assert client.post(path, form).status_code == 403
    assert not BillingAccount.objects.exclude(recipient="", monthly_budget=None).exists()


def test_terms_with_ram_and_storage_are_told(owner: User, workspace: Workspace, browser: Any) -> None:
    price = Price(NOON, Decimal("0.50"), Decimal("0.10"), Decimal("0.20"), discount_percent=Decimal("12.5"))
    row = serve(workspace, (NOON - 2 * HOUR, NOON), ended_at=NOON, terms=Terms((price,), TERMS.rounding))

    page = browser(owner).get(f"/billing/receipts/{row.pk}/").content.decode()

    assert all(word in page for word in ("12.5 % off", "$0.10 a GiB and hour", "$0.20 a GB and month"))
