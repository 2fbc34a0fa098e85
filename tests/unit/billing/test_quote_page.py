"""What the booking form says of a price while somebody is choosing."""

from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import User
from billing import actions
from billing.models import BillingAccount
from reservations.models import Reservation
from tests.factories import make_node, make_profiles, make_service, make_storage, make_user, workspace_of

pytestmark = pytest.mark.django_db
FORM = {"service": "nginx", "size": "small", "duration": "60", "storage": "C1", "name": "", "start": ""}


@pytest.fixture
def owner() -> User:
    make_node("one")
    make_profiles()
    make_service()
    return make_user("ada")


def quoted(browser: Any, owner: User, **form: str) -> str:
    page = browser(owner).post("/reservations/quote/", FORM | form).content.decode()
    return " ".join(page.split())


def _rate(**prices: str) -> None:
    values = {"per_core_hour": "0.50", "per_gib_hour": "0", "per_gb_month": "0", **prices}
    rounding = values.pop("rounding", "hour")
    decimals: dict[str, Any] = {name: Decimal(value) for name, value in values.items()}
    actions.set_rate(workspace=None, start=None, end=None, by="x", now=timezone.now(), rounding=rounding, **decimals)


def test_the_price_in_all_and_per_hour(owner: User, browser: Any) -> None:
    page = quoted(browser, owner, duration="120")

    assert "<strong>$0.50</strong> <span>for 2 h</span>" in page
    assert "$0.25 per started hour for the cores; RAM is included." in page
    assert "There is room" in page
    assert not any(word in page for word in ("discount", "With", "budget", "kept volume"))


def test_what_is_priced_is_named(owner: User, browser: Any) -> None:
    _rate(per_gib_hour="0.10", per_gb_month="1", rounding="second")

    page = quoted(browser, owner)

    assert "per hour, counted by the second, for cores and RAM; storage is paid by the month and in the sum." in page


def test_a_kept_volume_has_its_price_by_the_month(owner: User, browser: Any) -> None:
    make_storage()
    _rate(per_gb_month="0.25")

    assert "$2.50 a month, until you delete it" in quoted(browser, owner, storage="C3", storage_gb="10")


def test_tax_discount_and_budget(owner: User, browser: Any, settings: Any) -> None:
    settings.BERTH_TAX_PERCENT, settings.BERTH_TAX_LABEL = Decimal(20), "VAT"
    workspace = workspace_of(owner)
    actions.set_spending(workspace=workspace, monthly_budget=Decimal(10), hard_stop=False, by="x")
    actions.set_discount(
        workspace=workspace, percent=Decimal(20), reason="x", start=None, end=None, by="x", now=timezone.now()
    )

    page = quoted(browser, owner)

    assert "<strong>$0.20</strong>" in page
    assert "<dt>With 20 % VAT</dt> <dd> $0.24 </dd>" in page
    assert "20 %, taken off" in page
    assert "$10.00 of $10.00" in page


@pytest.mark.parametrize(
    "limit", [{"monthly_budget": Decimal("0.10"), "hard_stop": True}, {"credit_limit": Decimal(0)}]
)
def test_what_cannot_be_afforded_says_what_to_do(limit: dict[str, Any], owner: User, browser: Any) -> None:
    quoted(browser, owner)  # the account is there
    BillingAccount.objects.filter(workspace=workspace_of(owner)).update(**limit)

    page = quoted(browser, owner)
    booked = browser(owner).post("/reservations/new/", FORM)

    assert "This costs $0.25" in page
    assert 'href="/billing/account/"' in page
    assert booked.status_code == 422
    assert "This costs $0.25" in booked.content.decode()
    assert not Reservation.objects.exists()
