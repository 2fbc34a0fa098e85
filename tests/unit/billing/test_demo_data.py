"""Demo customers are in order by every check, disturb nobody, and are made once."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from accounts import inviting, news, ssh_keys
from accounts.models import (
    ApiToken,
    Invitation,
    Membership,
    Notification,
    Role,
    SshKey,
    User,
    Workspace,
)
from billing import audit
from billing.models import DailyCost, Invoice, LedgerEntry, Payment
from compute.load_steps import wrong_steps
from compute.models import Allocation, Forward, Volume
from reservations import doctor, offering
from reservations.models import Reservation, UsagePeriod, WaitingEntry
from tests.factories import make_node, make_profiles, make_reservation, make_service, make_storage, make_user
from tests.oracle import rows as oracle
from tests.unit.conftest import Machines

pytestmark = pytest.mark.django_db(transaction=True)
NOW = datetime(2026, 6, 17, 9, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _an_installation(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.BERTH_TAX_PERCENT = Decimal(19)
    make_node("one", cores=Decimal(4), ram_mib=4096)
    make_node("two", cores=Decimal(8), ram_mib=8192)
    make_storage()
    make_profiles()
    make_service()
    make_service("redis")
    monkeypatch.setattr(timezone, "now", lambda: NOW)


def make(**values: Any) -> str:
    out = StringIO()
    call_command("demo_data", stdout=out, **values)
    return out.getvalue()


def test_it_is_in_order_by_every_check_and_the_same_again_adds_nothing(
    machines: Machines, sent_hints: list[int]
) -> None:
    before = _doctor()  # what fakes cannot answer

    said = make(months=2, workspaces=3)

    assert audit.examine(NOW).findings == []
    assert list(oracle.violations(oracle.Rows(NOW, _tables()))) == []
    assert wrong_steps(NOW) == []
    assert _doctor() == before
    assert machines.traces() == []
    assert sent_hints == []
    assert not Reservation.objects.live().exists()
    assert not Allocation.objects.filter(released_at=None).exists()
    assert not Forward.objects.filter(released_at=None).exists()
    assert not Volume.objects.exclude(state="removed").exists()
    assert "3 customers" in said
    assert 60 < Reservation.objects.count() < 160
    assert (Invoice.objects.count(), Payment.objects.count()) == (6, 5)
    assert {"charge", "tax", "payment", "credit", "correction"} == set(
        LedgerEntry.objects.values_list("kind", flat=True)
    )
    assert LedgerEntry.objects.filter(volume__isnull=False).exists()
    assert Reservation.objects.filter(state="failed").exists()
    assert max(LedgerEntry.objects.values_list("at", flat=True)) <= NOW
    counts = _counts()

    assert make(months=2, workspaces=3).endswith("All of it is there already; nothing was added.\n")
    assert _counts() == counts


def test_the_first_customer_has_a_team_and_all_else_of_today_once(mailoutbox: list[Any]) -> None:
    said = make(months=1, workspaces=1)

    owner = User.objects.get(username="demo-chemistry")
    team = Workspace.objects.get(personal_of=None)
    assert (
        "demo-chemistry has today: the team Spectroscopy group, its manager, its member, an invitation, an API token,"
        " an SSH key, a wish that the budget refuses, a wish that gets an offer."
    ) in said
    assert "1 customers, " in said
    assert dict(team.memberships.values_list("user__username", "role")) == {
        "demo-chemistry": Role.OWNER,
        "demo-chemistry-maria": Role.MANAGER,
        "demo-chemistry-jonas": Role.MEMBER,
    }
    assert [row.email for row in Invitation.objects.open(NOW)] == ["newcomer@example.org"]
    assert mailoutbox == []
    assert not Notification.objects.exclude(mail_at=None).exists()
    assert ApiToken.objects.live(NOW).filter(user=owner).count() == 1
    assert ssh_keys.lines_of(owner).startswith("ssh-ed25519 ")
    assert len(news.unread(owner).newest) == 4
    assert news.shown_to(owner).count() > 4
    today = _today()

    later = NOW + timedelta(days=9)  # the invitation has lapsed, and both wishes are out of the line
    WaitingEntry.objects.update(closed_at=later, outcome="cancelled")
    for again in (NOW, later):
        with pytest.MonkeyPatch.context() as clock:
            clock.setattr(timezone, "now", lambda again=again: again)
            make(months=1, workspaces=1)
        assert _today() == today


def test_the_next_round_offers_the_one_wish_and_the_other_says_why_it_waits() -> None:
    make(months=1, workspaces=1)

    assert offering.look_after(NOW) == 1

    refused, offered = WaitingEntry.objects.open().order_by("pk")
    assert "budget" in refused.reason
    assert offered.offer is not None
    assert (offered.offer.state, offered.offer.start) == ("offered", datetime(2026, 6, 19, 9, tzinfo=UTC))
    assert "All of it is there already" in make(months=1, workspaces=1)  # what its team holds is no real customer's


def test_what_was_killed_half_way_into_the_team_is_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as short:
        short.setattr(inviting, "accept", lambda **_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            make(months=1, workspaces=1)
    assert Membership.objects.filter(workspace__personal_of=None).count() == 1

    make(months=1, workspaces=1)

    assert Membership.objects.filter(workspace__personal_of=None).count() == 3
    assert Invitation.objects.count() == 3


def test_it_goes_on_where_it_was_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    from billing import demo_life

    whole, calls = demo_life.live, iter(range(10_000))

    def killed(*args: Any) -> Any:
        if next(calls) == 20:
            raise KeyboardInterrupt
        return whole(*args)

    with monkeypatch.context() as short:
        short.setattr(demo_life, "live", killed)
        with pytest.raises(KeyboardInterrupt):
            make(months=1, workspaces=2)
    assert Reservation.objects.count() == 20

    make(months=1, workspaces=2)

    assert Invoice.objects.count() == 2
    assert audit.examine(NOW).findings == []


def test_other_values_are_not_mixed_with_what_is_there() -> None:
    make(months=1, workspaces=1)

    with pytest.raises(CommandError, match="made with other values"):
        make(months=1, workspaces=2)


def test_it_refuses_beside_real_customers_unless_told() -> None:
    make_reservation(make_user("ada"), now=NOW)

    with pytest.raises(CommandError, match="This installation has real customers: ada has booked here already"):
        make(months=1, workspaces=1)

    make(months=1, workspaces=1, yes=True)
    assert audit.examine(NOW).findings == []


@pytest.mark.parametrize("values", [{"months": 0}, {"months": 25}, {"workspaces": 0}])
def test_nonsense_is_refused(values: dict[str, int]) -> None:
    with pytest.raises(CommandError, match="1 to 24 months and 1 to 100 workspaces"):
        make(**values)


def _doctor() -> set[str]:
    """What the doctor says, but of certificates and nodes' timers, which needs a network."""
    checks = [check for check in doctor.CHECKS if check is not doctor._guards]
    return {finding.sentence for check in checks for finding in check(NOW)}


def _today() -> list[int]:
    """How many there are of what somebody has now."""
    models = (User, Workspace, Membership, Invitation, ApiToken, SshKey, WaitingEntry)
    return [model.objects.count() for model in models]


def _counts() -> list[int]:
    models = (Reservation, UsagePeriod, LedgerEntry, DailyCost, Invoice, Payment, Notification)
    return [model.objects.count() for model in models]


def _tables() -> dict[str, list[dict[str, Any]]]:
    """What the oracle reads, over the connection of the test."""
    tables = {}
    with connection.cursor() as cursor:
        for name, query in oracle._QUERIES.items():
            cursor.execute(query)
            columns = [column.name for column in cursor.description or []]
            tables[name] = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
    return tables
