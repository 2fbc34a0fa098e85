"""What a month has cost and will; the mails on budgets; what may be afforded."""

import smtplib
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core import mail
from django.core.mail import EmailMessage
from django.db import transaction
from django.utils import timezone

from accounts.models import Membership, Role, User
from billing import accounts, actions, affording, charging, months, payments, spending
from billing.models import BillingAccount, BudgetNotice
from compute.models import StorageServer, Volume
from reservations import actions as booking
from reservations import extending
from reservations.actions import CannotAfford
from reservations.models import Reservation, WorkspaceVolume
from tests.factories import HOUR, NOW, make_node, make_storage, make_user, workspace_of
from tests.unit.billing.lives import Life, lived

pytestmark = pytest.mark.django_db
MAY = date(2026, 5, 1)
LAST_DAY = datetime(2026, 5, 31, 23, 0, tzinfo=UTC)


@pytest.fixture
def user(settings: Any) -> User:
    settings.BERTH_PRICE_PER_CORE_HOUR = Decimal(2)  # half a core for an hour: 1.00
    make_node(cores=Decimal(32), ram_mib=65_536)
    return make_user("ada")


def account(user: User) -> BillingAccount:
    return accounts.account_of(workspace_of(user).pk)


def budget(user: User, amount: str | None, *, hard_stop: bool = False) -> None:
    value = None if amount is None else Decimal(amount)
    actions.set_spending(workspace=workspace_of(user), monthly_budget=value, hard_stop=hard_stop, by=user)


def at(hours: float) -> datetime:
    return NOW + hours * HOUR


# ---- the month ---------------------------------------------------------------------------------------------


def test_a_month_is_what_is_charged_what_is_served_and_what_is_to_come(user: User) -> None:
    lived(user, NOW, 2)
    charging.settle(workspace_of(user).pk, at(3))
    Life.booked(user, at(3), 10 * HOUR).runs(at(3), timedelta(0))
    Life.booked(user, at(3), 4 * HOUR, start=at(20))

    found = spending.spending(account(user), MAY, at(6.5))

    assert (found.charged, found.accrued, found.to_come) == (Decimal(2), Decimal(4), Decimal(10))
    assert (found.spent, found.forecast) == (Decimal(6), Decimal(16))


def test_only_the_part_of_a_booking_that_is_in_the_month_counts_for_it(user: User) -> None:
    Life.booked(user, LAST_DAY, 10 * HOUR).runs(LAST_DAY, timedelta(0))
    now = LAST_DAY + timedelta(minutes=5)

    may, june = (spending.spending(account(user), month, now) for month in (MAY, date(2026, 6, 1)))

    assert (may.spent, may.forecast) == (Decimal(1), Decimal(1))
    assert (june.spent, june.forecast) == (Decimal(0), Decimal(9))


# ---- mails -------------------------------------------------------------------------------------------------


def test_what_was_spent_in_the_last_minute_of_a_month_is_told_of(user: User) -> None:
    budget(user, "2")
    Life.booked(user, LAST_DAY, 3 * HOUR).runs(LAST_DAY, timedelta(0))
    assert spending.note_budgets(LAST_DAY - HOUR) == 0

    spending.note_budgets(LAST_DAY + HOUR + timedelta(seconds=10))

    assert [(n.month, n.percent) for n in BudgetNotice.objects.order_by("month", "percent")] == [
        (MAY, 50),
        (date(2026, 6, 1), 50),
    ]


def test_one_workspace_that_cannot_be_computed_keeps_no_other_from_its_mails(user: User) -> None:
    broken = make_user("eve")
    budget(broken, "1")
    Life.booked(broken, NOW, 3 * HOUR).runs(NOW, timedelta(0))
    Reservation.objects.update(terms={})
    budget(user, "1")
    Life.booked(user, NOW, 3 * HOUR).runs(NOW, timedelta(0))

    spending.note_budgets(at(1.5))

    assert {notice.account_id for notice in BudgetNotice.objects.all()} == {workspace_of(user).pk}


def test_each_step_of_a_budget_is_mailed_once(user: User) -> None:
    budget(user, "10")
    Life.booked(user, NOW, 24 * HOUR).runs(NOW, timedelta(0))
    for hour in range(1, 14):
        for _ in range(2):
            spending.note_budgets(at(hour - 0.5))

    subjects = [message.subject for message in mail.outbox]

    assert subjects == [f"[Berth] {step} % of the budget for May 2026 is spent" for step in (50, 80, 100)]
    assert mail.outbox[0].to == ["ada@example.org"]
    assert "5.00 USD" in mail.outbox[0].body or "$5.00" in mail.outbox[0].body


def test_of_steps_that_are_passed_at_once_the_highest_is_mailed(user: User) -> None:
    budget(user, "10")
    lived(user, NOW, 9)

    assert [spending.note_budgets(at(10)) for _ in range(3)] == [1, 0, 0]
    assert mail.outbox[0].subject.startswith("[Berth] 80 %")
    assert BudgetNotice.objects.filter(sent_at=None).count() == 0


def test_while_the_mail_server_is_away_it_is_tried_again_but_not_for_ever(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget(user, "10")
    lived(user, NOW, 5)
    with monkeypatch.context() as away:
        away.setattr(EmailMessage, "send", _away)
        assert [spending.note_budgets(at(hour)) for hour in (6, 7, 30)] == [0, 0, 0]

    assert [spending.note_budgets(at(hour)) for hour in (31, 32)] == [1, 0]

    BudgetNotice.objects.update(sent_at=None)
    assert spending.note_budgets(at(24 * 3)) == 0  # it would be old news


def test_a_budget_that_is_raised_in_mid_month_is_told_of_anew(user: User) -> None:
    budget(user, "10")
    lived(user, NOW, 8)
    spending.note_budgets(at(9))
    budget(user, "100")
    assert spending.note_budgets(at(10)) == 0

    lived(user, at(10), 44)
    spending.note_budgets(at(60))

    assert [message.subject[8:12] for message in mail.outbox] == ["80 %", "50 %"]


def test_the_next_month_begins_at_nothing(user: User) -> None:
    budget(user, "10")
    lived(user, NOW, 10)
    spending.note_budgets(at(11))

    assert spending.note_budgets(datetime(2026, 6, 2, tzinfo=UTC)) == 0
    assert BudgetNotice.objects.values_list("month", flat=True).distinct().get() == MAY


def test_mails_go_to_the_accounts_address_or_to_its_owners(user: User) -> None:
    other = make_user("bob")
    Membership.objects.create(workspace=workspace_of(user), user=other, role=Role.OWNER)
    Membership.objects.create(workspace=workspace_of(user), user=make_user("eve"), role=Role.MANAGER)
    assert spending.recipients(account(user)) == ["ada@example.org", "bob@example.org"]

    other.is_active = False
    other.save()
    assert spending.recipients(account(user)) == ["ada@example.org"]

    actions.set_recipient(workspace=workspace_of(user), by=user, email="books@example.org")
    assert spending.recipients(account(user)) == ["books@example.org"]


# ---- what may be afforded ----------------------------------------------------------------------------------


def test_without_a_hard_stop_a_budget_refuses_nothing(user: User) -> None:
    budget(user, "1")

    assert Life.booked(user, NOW, 5 * HOUR).row.pk


def test_a_hard_stop_counts_what_is_booked_until_it_is_over_and_then_what_it_cost(user: User) -> None:
    budget(user, "10", hard_stop=True)
    life = Life.booked(user, NOW, 8 * HOUR)
    with pytest.raises(CannotAfford, match=r"2\.00 .*of the budget of .*10\.00.* for ada is left"):
        Life.booked(user, NOW, 3 * HOUR)

    life.runs(NOW, timedelta(0)).ends(at(2))

    assert Life.booked(user, at(3), 8 * HOUR).row.pk
    with pytest.raises(CannotAfford):
        Life.booked(user, at(3), HOUR)


def test_what_is_charged_already_and_not_settled_is_not_counted_twice(user: User) -> None:
    budget(user, "10", hard_stop=True)
    Life.booked(user, LAST_DAY, 9 * HOUR).runs(LAST_DAY, timedelta(0))
    before = affording.commitments(account(user), LAST_DAY)
    now = LAST_DAY + 2 * HOUR
    charging.close(accounts.lock(workspace_of(user).pk), MAY, now)

    after = affording.commitments(account(user), now)

    assert (dict(before.by_month), before.held) == ({MAY: Decimal(1), date(2026, 6, 1): Decimal(8)}, Decimal(9))
    assert ({m: a for m, a in after.by_month.items() if a}, after.held) == (dict(before.by_month), Decimal(8))


def test_a_booking_over_the_months_end_needs_both_budgets(user: User) -> None:
    budget(user, "10", hard_stop=True)
    lived(user, NOW, 10)

    with pytest.raises(CannotAfford, match="May 2026"):
        Life.booked(user, LAST_DAY, 2 * HOUR)
    assert Life.booked(user, LAST_DAY, 10 * HOUR, start=LAST_DAY + HOUR).row.pk


def test_an_extension_is_asked_about_with_its_own_hold_left_out(user: User) -> None:
    budget(user, "10", hard_stop=True)
    row = Life.booked(user, NOW, 8 * HOUR).row

    with pytest.raises(CannotAfford):
        extending.extend(reservation=row, length=3 * HOUR, by=user, now=at(1))
    assert extending.extend(reservation=row, length=2 * HOUR, by=user, now=at(1)).price == Decimal(10)


def test_an_extension_over_a_closed_month_pays_only_for_what_it_adds(user: User) -> None:
    """May has four of the ten hours. They are charged, invoiced later, and must not count a second time."""
    budget(user, "10", hard_stop=True)
    actions.set_credit_limit(workspace=workspace_of(user), credit_limit=Decimal(12), by="x")
    begin = LAST_DAY - 3 * HOUR
    row = Life.booked(user, begin, 10 * HOUR).runs(begin, timedelta(0)).row
    june = LAST_DAY + 2 * HOUR
    with transaction.atomic():
        charging.close(accounts.lock(workspace_of(user).pk), MAY, june)
    budget(user, "7", hard_stop=True)  # May alone is not above it, June would be with two more

    assert extending.extend(reservation=row, length=HOUR, by=user, now=june).price == Decimal(11)
    with pytest.raises(CannotAfford, match="June 2026"):
        extending.extend(reservation=row, length=HOUR, by=user, now=june)
    budget(user, "3", hard_stop=False)  # less than May has had, which is over
    extending.extend(reservation=row, length=HOUR, by=user, now=june)
    with pytest.raises(CannotAfford, match=r"This costs \$1\.00, and \$0\.00 of the limit of \$12\.00"):
        extending.extend(reservation=row, length=HOUR, by=user, now=june)


def test_a_kept_volume_counts_with_what_this_month_will_cost(user: User) -> None:
    now = timezone.now()
    prices: dict[str, Any] = {"per_core_hour": Decimal(2), "per_gb_month": Decimal(10)}
    actions.set_rate(workspace=None, start=now, end=None, by="x", now=now, **prices)
    make_storage()
    image = Volume.objects.create(
        size_gb=10, kept=True, server=StorageServer.objects.get(), formatted_at=now + timedelta(seconds=1)
    )
    WorkspaceVolume.objects.create(workspace=workspace_of(user), name="kept", volume=image)

    held = affording.commitments(account(user), now + HOUR).held

    start, end = months.stretch(months.month_of(now, account(user).zone), account(user).zone)
    assert held == pytest.approx(Decimal(100) * Decimal((end - now) / (end - start)), abs=Decimal("0.02"))


def test_prepaid_credit_pays_for_the_tax_too(user: User, settings: Any) -> None:
    settings.BERTH_TAX_PERCENT = Decimal(20)
    actions.set_credit_limit(workspace=workspace_of(user), credit_limit=Decimal(0), by="x")
    with pytest.raises(CannotAfford, match=r"This costs .*1\.20.*, and .*0\.00.* of the prepaid credit of ada is left"):
        Life.booked(user, NOW, HOUR)
    payments.grant_credit(workspace=workspace_of(user), amount=Decimal("12.00"), reason="Paid.", by="x", now=NOW)

    life = Life.booked(user, NOW, 10 * HOUR)

    with pytest.raises(CannotAfford):
        Life.booked(user, NOW, HOUR)
    life.runs(NOW, timedelta(0)).ends(at(4))
    charging.settle(workspace_of(user).pk, at(5))
    assert Life.booked(user, at(5), 6 * HOUR).row.pk


def test_a_limit_says_how_much_may_be_owed(user: User) -> None:
    actions.set_credit_limit(workspace=workspace_of(user), credit_limit=Decimal(5), by="x")
    Life.booked(user, NOW, 3 * HOUR)

    with pytest.raises(CannotAfford, match=r"2\.00.* of the limit of .*5\.00"):
        Life.booked(user, NOW, 3 * HOUR)
    assert Reservation.objects.count() == 1
    assert booking.CannotAfford.code == "budget"


# ---- accounts ----------------------------------------------------------------------------------------------


def test_an_account_is_made_with_the_installations_values(user: User, settings: Any) -> None:
    settings.BERTH_CREDIT_LIMIT = Decimal(50)
    settings.BERTH_BILLING_TIME_ZONE = "Europe/Berlin"

    made = account(user)

    assert (made.currency, made.credit_limit, made.zone.key) == ("USD", Decimal(50), "Europe/Berlin")
    assert account(user).pk == made.pk
    assert BillingAccount.objects.count() == 1


def _away(message: EmailMessage) -> None:
    raise smtplib.SMTPServerDisconnected("away")
