"""What was served is entered once: when it is over, or at the end of each month that it reaches over."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction

from accounts.models import User
from billing import accounts, actions, as_of, audit, charging, ledger, payments
from billing.models import DailyCost, LedgerEntry
from reservations.models import Reservation
from tests.factories import HOUR, NOW, make_node, make_storage, make_user, profile, workspace_of
from tests.unit.billing.lives import SOON, Life, lived

pytestmark = pytest.mark.django_db
MAY, JUNE, JULY = date(2026, 5, 1), date(2026, 6, 1), date(2026, 7, 1)
LATE_IN_MAY = datetime(2026, 5, 31, 22, 0, tzinfo=UTC)
IN_JUNE = datetime(2026, 6, 1, 1, 0, tzinfo=UTC)
IN_JULY = datetime(2026, 7, 1, 1, 0, tzinfo=UTC)


@pytest.fixture
def user(settings: Any) -> User:
    settings.BERTH_PRICE_PER_CORE_HOUR = Decimal(1)
    make_node(cores=Decimal(32), ram_mib=65_536)
    return make_user()


def close(user: User, month: date, now: datetime) -> None:
    with transaction.atomic():
        charging.close(accounts.lock(workspace_of(user).pk), month, now)


def settle(user: User, now: datetime) -> int:
    return charging.settle(workspace_of(user).pk, now)


def entered(user: User) -> list[tuple[str, str, Decimal]]:
    rows = LedgerEntry.objects.filter(workspace=workspace_of(user)).order_by("pk")
    return [(entry.kind, f"{entry.month:%m}", entry.amount) for entry in rows]


def correct(amount: Decimal, now: datetime) -> None:
    charge = LedgerEntry.objects.filter(kind="charge").earliest("pk")
    payments.correct(entry=charge, amount=amount, reason="It was slow.", by="x", now=now)


def differences(now: datetime) -> list[str]:
    return [str(finding) for finding in audit.examine(now).findings]


def test_a_reservation_that_is_over_is_charged_once(user: User) -> None:
    row = lived(user, NOW, 1.5).row

    assert (settle(user, NOW + 2 * HOUR), settle(user, NOW + 3 * HOUR)) == (1, 0)
    row.refresh_from_db()

    assert entered(user) == [("charge", "05", Decimal("1.00"))]
    assert row.settled_at == NOW + 2 * HOUR
    assert LedgerEntry.objects.get().key == f"reservation:{row.pk}:2026-05"


def test_the_days_of_an_entry_add_up_to_it(user: User) -> None:
    lived(user, NOW, 60)
    settle(user, NOW + 61 * HOUR)

    days = list(DailyCost.objects.order_by("day").values_list("day", "amount"))

    assert [day.day for day, _ in days] == [4, 5, 6]
    assert sum(amount for _, amount in days) == LedgerEntry.objects.get().amount == Decimal("30.00")


def test_what_runs_over_a_months_end_is_charged_in_both(user: User) -> None:
    life = Life.booked(user, LATE_IN_MAY, 6 * HOUR).runs(LATE_IN_MAY, timedelta(0))
    close(user, MAY, IN_JUNE)
    close(user, MAY, IN_JUNE + HOUR)

    assert entered(user) == [("charge", "05", Decimal("1.00"))]  # two hours of half a core

    life.ends(life.row.end)
    settle(user, life.row.end + SOON)

    assert entered(user)[1:] == [("charge", "06", Decimal("2.00"))]
    assert differences(IN_JULY) == []


@pytest.mark.parametrize("again", [0, 1, 3])
def test_an_end_that_is_noted_late_is_made_up_for_once(user: User, again: int) -> None:
    """Its node fell silent at 23:00; May was closed before that was known."""
    life = Life.booked(user, LATE_IN_MAY, 12 * HOUR).runs(LATE_IN_MAY, timedelta(0))
    close(user, MAY, IN_JUNE)
    life.fails(noted=IN_JUNE + HOUR, seen_last=LATE_IN_MAY + HOUR)
    for time in range(again):
        close(user, MAY, IN_JUNE + (2 + time) * HOUR)
    life.runs(IN_JUNE + 5 * HOUR, timedelta(0)).ends(IN_JUNE + 7 * HOUR)

    settle(user, IN_JUNE + 8 * HOUR)

    assert sum(amount for *_, amount in entered(user)) == Decimal("1.50")  # three hours of half a core
    assert differences(IN_JULY) == []


def test_what_never_serves_again_is_corrected(user: User) -> None:
    life = Life.booked(user, LATE_IN_MAY, 12 * HOUR).runs(LATE_IN_MAY, timedelta(0))
    close(user, MAY, IN_JUNE)
    life.fails(noted=IN_JUNE + HOUR, seen_last=LATE_IN_MAY + HOUR)
    life.ends(IN_JUNE + 2 * HOUR)

    settle(user, IN_JUNE + 3 * HOUR)
    settle(user, IN_JUNE + 4 * HOUR)

    assert entered(user) == [("charge", "05", Decimal("1.00")), ("correction", "06", Decimal("-0.50"))]
    assert differences(IN_JULY) == []


@pytest.mark.parametrize(("off", "recounted"), [("0.25", "-0.50"), ("0.75", "-0.25"), ("1.00", None)])
def test_what_a_correction_took_off_is_not_given_back_again(user: User, off: str, recounted: str | None) -> None:
    life = Life.booked(user, LATE_IN_MAY, 12 * HOUR).runs(LATE_IN_MAY, timedelta(0))
    close(user, MAY, IN_JUNE)
    life.fails(noted=IN_JUNE + HOUR, seen_last=LATE_IN_MAY + HOUR)
    correct(Decimal(off), IN_JUNE + HOUR)
    life.ends(IN_JUNE + 2 * HOUR)

    settle(user, IN_JUNE + 3 * HOUR)

    assert [amount for *_, amount in entered(user)][2:] == ([Decimal(recounted)] if recounted else [])
    assert differences(IN_JULY) == []
    assert as_of.bill(accounts.account_of(workspace_of(user).pk), IN_JULY).not_entered == 0


@pytest.mark.parametrize(("off", "june"), [("1.50", ["-0.50"]), ("2.00", [])])
def test_a_month_that_makes_up_for_one_gives_back_no_more_than_corrections_left(
    user: User, off: str, june: list[str]
) -> None:
    begin = LATE_IN_MAY - 2 * HOUR
    life = Life.booked(user, begin, 60 * HOUR).runs(begin, timedelta(0))
    close(user, MAY, IN_JUNE)
    life.fails(noted=IN_JUNE + HOUR, seen_last=begin + timedelta(minutes=30))
    correct(Decimal(off), IN_JUNE + HOUR)
    life.runs(IN_JUNE + 2 * HOUR, timedelta(0)).ends(IN_JUNE + 3 * HOUR)  # two started hours in all

    settle(user, IN_JUNE + 4 * HOUR)

    assert [amount for *_, amount in entered(user)] == [Decimal(2), -Decimal(off), *map(Decimal, june)]
    assert differences(IN_JULY) == []


def test_no_more_is_corrected_than_recounts_left_of_a_reservation(user: User) -> None:
    """The recount names the last month's charge; the first one's is not there to be given back whole."""
    life = Life.booked(user, LATE_IN_MAY, 744 * HOUR).runs(LATE_IN_MAY, timedelta(0))
    close(user, MAY, IN_JUNE)
    close(user, JUNE, IN_JULY)
    life.fails(noted=IN_JULY + HOUR, seen_last=LATE_IN_MAY + HOUR).ends(IN_JULY + 2 * HOUR)
    settle(user, IN_JULY + 3 * HOUR)
    assert sum(amount for *_, amount in entered(user)) == Decimal("0.50")

    with pytest.raises(payments.Refused, match=r"Only 0\.50 USD are left of this reservation"):
        correct(Decimal("0.51"), IN_JULY + 4 * HOUR)
    correct(Decimal("0.50"), IN_JULY + 4 * HOUR)

    assert differences(IN_JULY + 5 * HOUR) == []


def test_corrections_that_exceed_a_reservations_charges_are_named(user: User) -> None:
    row = lived(user, NOW, 1.5).row
    settle(user, NOW + 2 * HOUR)
    correct(Decimal(1), NOW + 3 * HOUR)
    assert differences(NOW + 4 * HOUR) == []
    with transaction.atomic():
        account, charge = accounts.lock(workspace_of(user).pk), LedgerEntry.objects.get(kind="charge")
        more = ledger.entry(
            account=account, kind=LedgerEntry.Kind.CORRECTION, month=MAY, amount=Decimal("-0.75"), key="x", text="x",
            by="x", now=NOW + 3 * HOUR, reservation=row, service=row.service, corrects=charge,
        )  # fmt: skip
        ledger.post([more])
        DailyCost.objects.create(entry=more, workspace_id=account.pk, day=NOW.date(), amount=more.amount)

    (sentence,) = differences(NOW + 4 * HOUR)

    assert sentence.endswith(f"the corrections of reservation {row.pk} exceed its charges by 0.75 USD")


def test_what_was_never_served_costs_nothing_and_is_settled(user: User) -> None:
    life = Life.booked(user, NOW, HOUR).ends(NOW + HOUR)

    settle(user, NOW + 2 * HOUR)

    assert entered(user) == []
    assert Reservation.objects.get(pk=life.row.pk).settled_at == NOW + 2 * HOUR


def test_a_month_that_is_not_over_is_not_closed(user: User) -> None:
    accounts.account_of(workspace_of(user).pk)
    with pytest.raises(ValueError, match="2026-05 is not over in UTC"):
        close(user, MAY, LATE_IN_MAY)


def test_a_crash_in_the_middle_leaves_nothing_and_the_next_round_enters_all(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    lived(user, NOW, 1)
    lived(user, NOW, 2)
    with monkeypatch.context() as broken:
        broken.setattr(DailyCost.objects, "bulk_create", _power_cut)
        with pytest.raises(OSError, match="power"):
            settle(user, NOW + 3 * HOUR)

    assert (entered(user), DailyCost.objects.count()) == ([], 0)
    assert settle(user, NOW + 3 * HOUR) == 2
    assert differences(NOW + 4 * HOUR) == []


def test_one_workspace_that_cannot_be_charged_keeps_no_other_one_waiting(user: User) -> None:
    broken, other = lived(user, NOW, 1).row, lived(make_user(), NOW, 1).row
    Reservation.objects.filter(pk=broken.pk).update(terms={})

    assert charging.settle_due(NOW + 2 * HOUR) == 1

    assert LedgerEntry.objects.get().reservation_id == other.pk


def test_kept_volumes_are_charged_at_the_months_end_for_the_time_they_were_there(user: User) -> None:
    make_storage()
    price: dict[str, Any] = {"per_core_hour": Decimal(0), "per_gib_hour": Decimal(0), "per_gb_month": Decimal(1)}
    actions.set_rate(workspace=None, start=NOW, end=None, by="x", now=NOW, **price)
    half = datetime(2026, 5, 16, 12, 0, tzinfo=UTC)  # the middle of May
    Life.booked(user, half, HOUR, storage=profile("C3"), storage_gb=10).runs(half, timedelta(0)).ends(half + HOUR)
    for _ in range(2):
        close(user, MAY, IN_JUNE)
        close(user, JUNE, IN_JULY)

    assert entered(user) == [("charge", "05", Decimal("5.00")), ("charge", "06", Decimal("10.00"))]
    assert differences(IN_JULY) == []


def _power_cut(rows: object) -> None:
    raise OSError("power")
