"""Demo customers are in order by every check, disturb nobody, and are made once."""

from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from billing import audit
from billing.models import DailyCost, Invoice, LedgerEntry, Payment
from compute.load_steps import wrong_steps
from compute.models import Allocation, Forward, Volume
from reservations import doctor
from reservations.models import Reservation, UsagePeriod
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


def _counts() -> list[int]:
    return [model.objects.count() for model in (Reservation, UsagePeriod, LedgerEntry, DailyCost, Invoice, Payment)]


def _tables() -> dict[str, list[dict[str, Any]]]:
    """What the oracle reads, over the connection of the test."""
    tables = {}
    with connection.cursor() as cursor:
        for name, query in oracle._QUERIES.items():
            cursor.execute(query)
            columns = [column.name for column in cursor.description or []]
            tables[name] = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
    return tables
