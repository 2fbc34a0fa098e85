"""An account that moves its time zone pays for all its time, each hour once; and the audit says nothing of it."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import connection, transaction

from accounts.models import User
from billing import accounts, actions, audit, charging, months
from billing.models import DailyCost, LedgerEntry
from reservations import actions as booking_actions
from reservations.models import WorkspaceVolume
from tests.factories import HOUR, make_node, make_storage, make_user, profile, workspace_of
from tests.unit.billing.lives import Life, lived

pytestmark = pytest.mark.django_db
KIRITIMATI, MIDWAY, NEW_YORK = "Pacific/Kiritimati", "Pacific/Midway", "America/New_York"
MAY, JUNE, JULY, AUGUST = (date(2026, number, 1) for number in (5, 6, 7, 8))
MIDDLE = datetime(2026, 5, 16, 12, 0, tzinfo=UTC)
IN_APRIL = datetime(2026, 4, 1, 1, 0, tzinfo=UTC)


@pytest.fixture
def user(settings: Any) -> User:
    settings.BERTH_PRICE_PER_CORE_HOUR = Decimal("0.50")
    make_node(cores=Decimal(32), ram_mib=65_536)
    make_storage()
    return make_user()


def keeps(user: User) -> WorkspaceVolume:
    """A volume of 20 GB from the middle of May on, that nothing uses."""
    Life.booked(user, MIDDLE, HOUR, storage=profile("C3"), storage_gb=20).runs(MIDDLE).ends(MIDDLE + HOUR)
    return WorkspaceVolume.objects.get()


def price(per_gb: int, start: datetime, end: datetime | None = None) -> None:
    values: dict[str, Any] = {"per_core_hour": Decimal(0), "per_gib_hour": Decimal(0), "per_gb_month": Decimal(per_gb)}
    actions.set_rate(workspace=None, start=start, end=end, by="x", now=start, **values)


def move(user: User, zone: str) -> None:
    actions.set_recipient(workspace=workspace_of(user), by="x", time_zone=zone)


def close(user: User, zone: str, month: date) -> datetime:
    """A month, an hour after it is over in this zone."""
    move(user, zone)
    with transaction.atomic():
        account = accounts.lock(workspace_of(user).pk)
        now = months.stretch(month, account.zone)[1] + HOUR
        charging.close(account, month, now)
    assert differences(now) == []
    return now


def charged() -> Iterable[tuple[date, datetime, datetime]]:
    for entry in LedgerEntry.objects.filter(volume__isnull=False).order_by("month"):
        opens, closes = (datetime.fromisoformat(entry.details[name]) for name in ("from", "until"))
        yield entry.month, opens, closes


def differences(now: datetime) -> list[str]:
    return [str(finding.sentence) for finding in audit.examine(now).findings]


def damage(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        for table in ("billing_ledgerentry", "billing_dailycost"):
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        cursor.execute("DELETE FROM billing_dailycost")
        cursor.execute(statement)


def test_no_hour_of_a_kept_volume_is_free_or_paid_twice_whatever_zones_its_months_were_closed_in(user: User) -> None:
    price(50, MIDDLE)
    keeps(user)
    for month, zone in ((MAY, KIRITIMATI), (JUNE, MIDWAY), (JULY, KIRITIMATI), (AUGUST, MIDWAY)):
        close(user, zone, month)

    found = list(charged())

    assert [opens for _, opens, _ in found] == [MIDDLE, *(until for *_, until in found[:-1])]
    june = LedgerEntry.objects.get(volume__isnull=False, month=JUNE)
    assert june.amount == Decimal("1033.60")  # all of June, and 25 hours of May
    days = DailyCost.objects.filter(entry=june).values_list("day", "amount")
    assert sum(amount for _, amount in days) == june.amount
    assert min(day for day, _ in days) == JUNE


def test_a_volume_that_is_deleted_in_between_two_zones_is_charged_until_then(user: User) -> None:
    price(50, MIDDLE)
    volume = keeps(user)
    closed = close(user, KIRITIMATI, MAY)
    booking_actions.delete_volume(volume=volume, by=user, now=closed + 11 * HOUR)

    close(user, MIDWAY, JUNE)

    june = LedgerEntry.objects.get(volume__isnull=False, month=JUNE)
    assert june.amount == Decimal("16.13")  # 12 of the 744 hours of May
    assert list(DailyCost.objects.filter(entry=june).values_list("day", "amount")) == [(JUNE, june.amount)]


@pytest.mark.parametrize("zones", [(KIRITIMATI, MIDWAY, MIDWAY), (KIRITIMATI, MIDWAY, KIRITIMATI)])
def test_after_months_that_cost_nothing_is_charged_from_when_a_price_holds(user: User, zones: tuple[str, ...]) -> None:
    """May had a price, June none; from the middle of July there is one again."""
    price(50, MIDDLE, datetime(2026, 5, 31, 9, 0, tzinfo=UTC))
    price(50, datetime(2026, 7, 16, 12, 0, tzinfo=UTC))
    keeps(user)
    close(user, zones[0], MAY)
    close(user, zones[1], JUNE)
    end = close(user, zones[2], JULY) - HOUR

    (_, (month, opens, until)) = charged()

    assert (month, until) == (JULY, end)
    assert opens == months.stretch(JULY, ZoneInfo(zones[2]))[0]
    july = LedgerEntry.objects.get(month=JULY, volume__isnull=False)
    hours = (end - datetime(2026, 7, 16, 12, 0, tzinfo=UTC)) / HOUR
    assert july.amount == Decimal(str(round(1000 * hours / 744, 2)))


def test_a_month_that_is_closed_again_enters_nothing_that_a_later_one_has_entered(user: User) -> None:
    keeps(user)
    close(user, KIRITIMATI, MAY)
    price(50, datetime(2026, 5, 31, 20, 0, tzinfo=UTC))  # in June there, in May elsewhere
    close(user, KIRITIMATI, JUNE)
    assert [month for month, *_ in charged()] == [JUNE]

    close(user, MIDWAY, MAY)

    assert [month for month, *_ in charged()] == [JUNE]


def test_a_kept_volume_that_is_not_charged_in_between_two_zones_is_named(user: User) -> None:
    price(50, MIDDLE)
    volume = keeps(user)
    closed = close(user, KIRITIMATI, MAY)
    booking_actions.delete_volume(volume=volume, by=user, now=closed + 11 * HOUR)
    now = close(user, MIDWAY, JUNE)

    damage("DELETE FROM billing_ledgerentry WHERE month = '2026-06-01'")

    assert "is not charged for June 2026: 16.13 USD are due" in "\n".join(differences(now))


def test_what_was_settled_in_another_zone_is_no_finding(user: User) -> None:
    life = lived(user, IN_APRIL, 1)
    charging.settle(workspace_of(user).pk, life.row.end + HOUR)
    for zone in (NEW_YORK, MIDWAY, KIRITIMATI):
        move(user, zone)
        assert differences(life.row.end + timedelta(days=90)) == []


def test_what_was_settled_in_a_zone_that_nothing_else_names_is_no_finding(user: User) -> None:
    life = Life.booked(user, IN_APRIL - 15 * HOUR, HOUR).runs(IN_APRIL - 15 * HOUR)  # on the 31st of March in UTC
    move(user, KIRITIMATI)
    life.ends(life.row.end)
    charging.settle(workspace_of(user).pk, life.row.end + HOUR)
    move(user, NEW_YORK)

    assert differences(life.row.end + timedelta(days=90)) == []


def test_what_runs_since_a_month_was_closed_elsewhere_is_no_finding(user: User) -> None:
    lived(user, IN_APRIL - timedelta(days=9), 1)
    closed = close(user, "UTC", date(2026, 3, 1))
    Life.booked(user, closed + HOUR, 90 * HOUR).runs(closed + HOUR)
    move(user, NEW_YORK)

    assert differences(closed + 2 * HOUR) == []


def test_what_is_not_charged_is_named_in_whatever_zone(user: User) -> None:
    life = lived(user, IN_APRIL, 1)
    charging.settle(workspace_of(user).pk, life.row.end + HOUR)
    damage("DELETE FROM billing_ledgerentry")

    for zone, month in (("UTC", "April"), (NEW_YORK, "March")):
        move(user, zone)
        (finding,) = differences(life.row.end + timedelta(days=90))
        assert finding.endswith(f"is not charged for {month} 2026: 0.25 USD were served")
