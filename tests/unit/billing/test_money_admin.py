"""The admin's pages about money: rows are looked at, deeds are pages that call the actions."""

from decimal import Decimal
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone

from accounts.models import AuditEntry, User, Workspace
from billing import payments
from billing.accounts import account_of
from billing.models import Discount, Invoice, LedgerEntry, Payment, Rate
from tests.factories import HOUR, make_user, workspace_of
from tests.unit.billing.bills import adds_up, make_charge, make_invoice
from tests.unit.billing.test_payments import grant, pay, written

pytestmark = pytest.mark.django_db
MODELS = sorted(apps.get_app_config("billing").get_models(), key=lambda model: model.__name__)


@pytest.fixture(autouse=True)
def _without_second_factor(settings: Any) -> None:
    settings.BERTH_STAFF_MFA = False
    settings.SECURE_SSL_REDIRECT = False


@pytest.fixture
def boss() -> User:
    return make_user("boss", is_staff=True, is_superuser=True)


@pytest.fixture
def desk(boss: User) -> Client:
    return browser_of(boss)


@pytest.fixture
def workspace() -> Workspace:
    return workspace_of(make_user("alice"))


@pytest.fixture
def invoice(workspace: Workspace) -> Invoice:
    return make_invoice(workspace, "10.00", timezone.now() - HOUR)


def browser_of(user: User) -> Client:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def deed(row: Any, name: str) -> str:
    return f"/admin/billing/{row._meta.model_name}/{row.pk}/{name}/"


def everything(workspace: Workspace) -> None:
    """A row of most kinds."""
    now = timezone.now()
    charge = make_charge(workspace, "10.00", now)
    payments.correct(entry=charge, amount=Decimal(1), reason="x", by="test", now=now)
    pay(make_invoice(workspace, None, now), "2.00", received_on=now.date(), now=now)
    grant(workspace, "1.00", now=now)
    Rate.objects.create(currency="USD", during=(now + HOUR, None), per_core_hour=1)
    Discount.objects.create(workspace=workspace, during=(now + HOUR, None), percent=5, reason="x")


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_model_has_a_page_that_is_searched_and_looked_at(model: Any, desk: Client, workspace: Workspace) -> None:
    everything(workspace)
    where = f"/admin/billing/{model._meta.model_name}/"

    assert desk.get(where, {"q": "alice"} if admin.site._registry[model].search_fields else {}).status_code == 200
    for row in model.objects.all()[:1]:
        assert desk.get(f"{where}{row.pk}/change/").status_code == 200


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_no_row_is_changed_or_deleted_by_hand(model: Any, desk: Client, workspace: Workspace) -> None:
    everything(workspace)
    where = f"/admin/billing/{model._meta.model_name}/"
    before = list(model.objects.order_by("pk").values())

    for row in model.objects.all()[:1]:
        assert desk.post(f"{where}{row.pk}/change/", {"amount": "1"}).status_code == 403
        assert desk.post(f"{where}{row.pk}/delete/", {"post": "yes"}).status_code == 403
    if model not in {Rate, Discount}:
        assert desk.post(f"{where}add/", {}).status_code == 403

    assert list(model.objects.order_by("pk").values()) == before


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_a_list_asks_a_constant_number_of_questions(
    model: Any, desk: Client, workspace: Workspace, django_assert_max_num_queries: Any
) -> None:
    everything(workspace)
    with django_assert_max_num_queries(100) as few:
        desk.get(f"/admin/billing/{model._meta.model_name}/")
    for _ in range(3):
        other = workspace_of(make_user())
        make_invoice(other, "7.00", timezone.now())
        grant(other, "9.00")

    with django_assert_max_num_queries(len(few.captured_queries)):
        desk.get(f"/admin/billing/{model._meta.model_name}/")


# ---- deeds ----------------------------------------------------------------------------------------------------------


def test_a_payment_is_recorded_on_the_page_of_its_invoice(desk: Client, boss: User, invoice: Invoice) -> None:
    page = desk.get(f"/admin/billing/invoice/{invoice.pk}/change/").content.decode()
    assert deed(invoice, "payment") in page
    form = {"amount": "4.00", "method": "bank", "reference": "SEPA 1", "received_on": timezone.localdate().isoformat()}

    answer = desk.post(deed(invoice, "payment"), form, follow=True)

    assert "Recorded. 6.00 USD are open." in answer.content.decode()
    assert Payment.objects.get().recorded_by == boss
    assert AuditEntry.objects.get(action="payment.record").actor == boss


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("amount", "10.01", "Only 10.00 USD of"),
        ("amount", "-1", "more than zero"),
        ("reference", "", "required"),
        ("received_on", "9999-01-01", "in the future"),
        ("method", "stripe", "not one of the available choices"),
    ],
)
def test_a_payment_that_cannot_be_is_told_at_its_field(
    desk: Client, invoice: Invoice, field: str, value: str, sentence: str
) -> None:
    form = {"amount": "4.00", "method": "bank", "reference": "x", "received_on": timezone.localdate().isoformat()}
    before = written()

    answer = desk.post(deed(invoice, "payment"), form | {field: value})

    assert answer.status_code == 422
    assert sentence in " ".join(answer.context["form"].errors[field])
    assert written() == before


def test_a_payment_is_reversed_once(desk: Client, invoice: Invoice) -> None:
    payment = pay(invoice, "4.00", received_on=timezone.localdate(), now=timezone.now())

    first = desk.post(deed(payment, "reverse"), {"reason": "No funds"}, follow=True)
    again = desk.post(deed(payment, "reverse"), {"reason": "No funds"})

    assert "Reversed. 10.00 USD" in first.content.decode()
    assert deed(payment, "reverse") not in first.content.decode()
    assert again.status_code == 422
    assert "reversed already" in again.content.decode()


def test_credit_is_granted_once_for_one_opened_page_and_with_a_reason(desk: Client, workspace: Workspace) -> None:
    account = account_of(workspace.pk)
    once = desk.get(deed(account, "credit")).context["form"]["once"].value()
    form = {"amount": "5.00", "reason": "Sorry", "once": once}

    desk.post(deed(account, "credit"), form)
    again = desk.post(deed(account, "credit"), form)
    without = desk.post(deed(account, "credit"), form | {"reason": " ", "once": "other"})

    assert payments.available_credit(workspace.pk) == Decimal("5.00")
    assert "entered already" in again.content.decode()
    assert without.context["form"].errors["reason"]


def test_credit_is_taken_back_and_a_charge_corrected(desk: Client, workspace: Workspace) -> None:
    charge, credit = make_charge(workspace, "10.00"), grant(workspace, "5.00")

    desk.post(deed(credit, "take-back"), {"reason": "A mistake"})
    desk.post(deed(charge, "correct"), {"amount": "3.00", "reason": "Slow"})
    too_much = desk.post(deed(charge, "correct"), {"amount": "7.01", "reason": "Slow"})

    assert payments.available_credit(workspace.pk) == 0
    assert [row.amount for row in LedgerEntry.objects.filter(kind="correction")] == [Decimal("-3.00")]
    assert "Only 7.00 USD are left" in too_much.content.decode()
    assert adds_up(workspace)


def test_only_what_can_be_done_is_offered(desk: Client, workspace: Workspace) -> None:
    charge, credit = make_charge(workspace), grant(workspace)

    on_charge = desk.get(f"/admin/billing/ledgerentry/{charge.pk}/change/").content.decode()
    on_credit = desk.get(f"/admin/billing/ledgerentry/{credit.pk}/change/").content.decode()

    assert (deed(charge, "correct") in on_charge, deed(charge, "take-back") in on_charge) == (True, False)
    assert (deed(credit, "correct") in on_credit, deed(credit, "take-back") in on_credit) == (False, True)


def test_a_credit_limit_is_set_and_taken_away(desk: Client, workspace: Workspace) -> None:
    account = account_of(workspace.pk)

    desk.post(deed(account, "limit"), {"credit_limit": "200"})
    assert account_of(workspace.pk).credit_limit == 200
    refused = desk.post(deed(account, "limit"), {"credit_limit": "-1"})
    assert refused.context["form"].errors["credit_limit"]
    desk.post(deed(account, "limit"), {"credit_limit": ""})

    assert account_of(workspace.pk).credit_limit is None


def test_a_rate_is_begun_replaced_and_ended(desk: Client, boss: User) -> None:
    where, form = "/admin/billing/rate/add/", {"per_core_hour": "0.4", "per_gib_hour": "0", "per_gb_month": "0"}
    assert desk.get(where).status_code == 200

    first = desk.post(where, form | {"rounding": "hour"}, follow=True)
    overlapping = desk.post(where, form | {"rounding": "hour"})
    desk.post(where, form | {"rounding": "second", "replace": "on"})
    old, new = Rate.objects.order_by("pk")
    desk.post(deed(new, "end"), {"end": ""})

    assert "per core and hour, from" in first.content.decode()
    assert "Another rate holds at that time already" in overlapping.content.decode()
    assert old.during.upper == new.during.lower
    assert Rate.objects.get(pk=new.pk).during.upper is not None
    assert {row.actor for row in AuditEntry.objects.filter(action__startswith="rate.")} == {boss}


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("per_core_hour", "-1", "greater than or equal to 0"),
        ("per_core_hour", "10001", "less than or equal to 10000"),
        ("start", "2020-01-01T00:00", "cannot begin in the past"),
        ("workspace", "999999", "not one of the available choices"),
    ],
)
def test_a_rate_that_cannot_be_is_told_at_its_field(desk: Client, field: str, value: str, sentence: str) -> None:
    form = {"per_core_hour": "0.4", "per_gib_hour": "0", "per_gb_month": "0", "rounding": "hour"}

    answer = desk.post("/admin/billing/rate/add/", form | {field: value})

    assert sentence in " ".join(answer.context["form"].errors[field])
    assert not Rate.objects.exists()


def test_a_discount_is_given_and_taken_back_before_it_begins(desk: Client, workspace: Workspace) -> None:
    later = (timezone.now() + 48 * HOUR).strftime("%Y-%m-%dT%H:%M")
    form = {"workspace": workspace.pk, "percent": "15", "reason": "School", "start": later}
    desk.post("/admin/billing/discount/add/", form)
    discount = Discount.objects.get()

    answer = desk.post(deed(discount, "take-back"), {}, follow=True)

    assert answer.status_code == 200
    assert not Discount.objects.exists()


# ---- who may --------------------------------------------------------------------------------------------------------

DEEDS = [
    (model_admin.model, each.name)
    for model_admin in admin.site._registry.values()
    for each in getattr(model_admin, "deeds", [])
]


@pytest.mark.parametrize(("model", "name"), DEEDS, ids=[f"{model.__name__} {name}" for model, name in DEEDS])
def test_staff_who_may_only_look_can_do_nothing(model: Any, name: str, workspace: Workspace) -> None:
    everything(workspace)
    clerk = make_user("clerk", is_staff=True)
    looks = Permission.objects.filter(content_type__app_label="billing", codename__startswith="view_")
    clerk.user_permissions.set(looks)
    row = model.objects.order_by("pk").first()
    desk, before = browser_of(clerk), written()

    page = desk.get(f"/admin/billing/{model._meta.model_name}/{row.pk}/change/")

    assert page.status_code == 200
    assert deed(row, name) not in page.content.decode()
    assert desk.get(deed(row, name)).status_code == 403
    assert desk.post(deed(row, name), {"amount": "1", "reason": "x"}).status_code == 403
    assert written() == before


@pytest.mark.parametrize("pk", ["999999", "nonsense", "9" * 30])
def test_a_deed_of_a_row_that_is_not_there_is_not_there(desk: Client, pk: str) -> None:
    assert desk.get(f"/admin/billing/invoice/{pk}/payment/").status_code == 404
