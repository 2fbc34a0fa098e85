"""Where Stripe tells what was paid: what is forged, old, replayed, strange or too large changes nothing."""

import hashlib
import hmac
import json
import logging
import os
import subprocess
import sys
import time
from decimal import Decimal
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client

from accounts.models import Membership, Role, User
from billing import payments
from billing.models import Invoice, Payment
from billing.providers import ProviderSilent
from billing.stripe_checkout import from_units, to_units
from portal.env import ROOT
from tests.factories import make_user, workspace_of
from tests.unit.billing.bills import adds_up, make_invoice
from tests.unit.billing.test_payments import pay, written

pytestmark = pytest.mark.django_db
SECRET = "whsec_of_the_tests"
ADDRESS = "/billing/webhooks/stripe"


@pytest.fixture(autouse=True)
def _switched_on(settings: Any) -> None:
    settings.BERTH_STRIPE_SECRET_KEY = "sk_test_x"
    settings.BERTH_STRIPE_WEBHOOK_SECRET = SECRET
    settings.SECURE_SSL_REDIRECT = False


@pytest.fixture
def owner() -> User:
    return make_user()


@pytest.fixture
def invoice(owner: User) -> Invoice:
    return make_invoice(workspace_of(owner), "10.00", tax="1.90")


def event(invoice: Invoice, settings: Any, kind: str = "payment_intent.succeeded", **values: Any) -> bytes:
    intent = {
        "object": "payment_intent",
        "id": "pi_1",
        "amount_received": 1190,
        "currency": "usd",
        "metadata": {"berth": settings.BERTH_BASE_URL, "invoice": invoice.number},
        **values,
    }
    return json.dumps(
        {"object": "event", "type": kind, "created": int(time.time()), "data": {"object": intent}}
    ).encode()


def signature(body: bytes, secret: str = SECRET, age_s: int = 0) -> str:
    at = int(time.time()) - age_s
    return f"t={at},v1={hmac.new(secret.encode(), b'%d.%s' % (at, body), hashlib.sha256).hexdigest()}"


def send(body: bytes, header: str | None = None) -> HttpResponse:
    client = Client(enforce_csrf_checks=True)
    headers = {"Stripe-Signature": signature(body) if header is None else header}
    return client.post(ADDRESS, body, content_type="application/json", headers=headers)  # type: ignore[return-value]


def test_a_paid_event_is_a_payment(invoice: Invoice, settings: Any) -> None:
    answer = send(event(invoice, settings))

    assert (answer.status_code, answer.content) == (200, b"noted")
    payment = Payment.objects.get()
    assert (payment.amount, payment.method, payment.reference) == (Decimal("11.90"), "stripe", "pi_1")
    assert payments.open_amount(invoice) == 0


def test_a_replayed_event_changes_nothing(invoice: Invoice, settings: Any) -> None:
    body = event(invoice, settings)
    header = signature(body)
    send(body, header)
    before = written()

    answer = send(body, header)

    assert (answer.status_code, answer.content) == (200, b"known already")
    assert written() == before


@pytest.mark.parametrize(
    "header",
    [
        lambda body: "",
        lambda body: "nonsense",
        lambda body: "t=,v1=",
        lambda body: signature(body, "whsec_of_somebody_else"),
        lambda body: signature(body + b" "),
        lambda body: signature(body, age_s=301),
        lambda body: signature(body).replace("v1=", "v0="),
        lambda body: signature(body).replace("t=", "t=9"),
    ],
    ids=["none", "nonsense", "empty", "another secret", "another body", "too old", "another scheme", "another time"],
)
def test_a_forged_or_old_event_is_refused(invoice: Invoice, settings: Any, header: Any) -> None:
    body = event(invoice, settings)
    before = written()

    answer = send(body, header(body))

    assert answer.status_code == 400
    assert written() == before


def test_an_event_that_is_no_text_is_refused(invoice: Invoice) -> None:
    assert send(b"\xff\xfe").status_code == 400


@pytest.mark.parametrize(
    ("kind", "metadata"),
    [
        ("checkout.session.completed", None),
        ("payment_intent.payment_failed", None),
        ("customer.created", {}),
        ("payment_intent.succeeded", {}),
        ("payment_intent.succeeded", {"berth": "https://another.example.org", "invoice": "INV-1999-0001"}),
    ],
)
def test_events_that_are_none_of_ours_are_ignored(
    invoice: Invoice, settings: Any, kind: str, metadata: dict[str, str] | None
) -> None:
    values = {} if metadata is None else {"metadata": metadata}
    before = written()

    answer = send(event(invoice, settings, kind, **values))

    assert (answer.status_code, answer.content) == (200, b"ignored")
    assert written() == before


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"currency": "eur"}, b"is in USD, not in EUR"),
        ({"amount_received": 0}, b"more than zero"),
        ({"id": "pi_" + "x" * 200}, b"at most 100"),
    ],
)
def test_money_that_does_not_fit_is_told_and_not_entered(
    invoice: Invoice, settings: Any, values: dict[str, Any], sentence: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    before = written()

    answer = send(event(invoice, settings, **values))

    assert answer.status_code == 409
    assert sentence in answer.content
    assert written() == before
    assert [row.levelno for row in caplog.records if row.name == "billing.webhooks"] == [logging.ERROR]


def test_money_for_an_invoice_that_is_not_there_is_told(
    invoice: Invoice, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    invoice.number = "INV-1999-0001"

    assert send(event(invoice, settings)).status_code == 409
    assert "INV-1999-0001" in caplog.text


def test_money_for_our_invoice_from_another_address_is_told_and_sent_again(
    invoice: Invoice, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Paid on a page that was made before BERTH_BASE_URL was changed."""
    body = event(invoice, settings)
    today, settings.BERTH_BASE_URL = settings.BERTH_BASE_URL, "https://moved.example.org"
    before = written()

    answer = send(body)

    assert (answer.status_code, invoice.number in answer.content.decode()) == (409, True)
    assert written() == before
    assert [row.levelno for row in caplog.records if row.name == "billing.webhooks"] == [logging.ERROR]
    settings.BERTH_BASE_URL = today
    assert send(body).content == b"noted"


def test_what_a_customer_paid_by_bank_meanwhile_becomes_credit(invoice: Invoice, settings: Any) -> None:
    pay(invoice, "11.90")

    assert send(event(invoice, settings)).content == b"noted"
    assert send(event(invoice, settings)).content == b"known already"

    assert payments.available_credit(invoice.workspace_id) == Decimal("11.90")
    assert adds_up(invoice.workspace)


def test_a_large_body_is_not_read(invoice: Invoice) -> None:
    assert send(b" " * (256 * 1024 + 1)).status_code == 413


def test_only_post_is_answered() -> None:
    assert Client().get(ADDRESS).status_code == 405


def test_switched_off_it_does_not_exist(invoice: Invoice, settings: Any) -> None:
    settings.BERTH_STRIPE_SECRET_KEY = ""

    assert send(event(invoice, settings)).status_code == 404
    assert not Payment.objects.exists()


# ---- amounts as Stripe counts them ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amount", "currency", "units"), [("11.90", "USD", 1190), ("500.00", "JPY", 500), ("1.23", "KWD", 1230)]
)
def test_amounts_are_counted_in_the_currency_s_smallest_unit(amount: str, currency: str, units: int) -> None:
    assert to_units(Decimal(amount), currency) == units
    assert from_units(units, currency) == Decimal(amount)


def test_a_part_of_the_smallest_coin_is_told() -> None:
    with pytest.raises(ProviderSilent, match="no smaller coins"):
        to_units(Decimal("500.50"), "JPY")


# ---- the button -----------------------------------------------------------------------------------------------------


def press(user: User, invoice: Invoice) -> int:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client.post(f"/billing/invoices/{invoice.pk}/pay/").status_code


def test_only_owners_and_managers_may_pay(invoice: Invoice) -> None:
    member, stranger = make_user(), make_user()
    Membership.objects.create(workspace=invoice.workspace, user=member, role=Role.MEMBER)

    assert press(member, invoice) == 403
    assert press(stranger, invoice) == 404


def test_switched_off_nobody_pays_by_card(owner: User, invoice: Invoice, settings: Any) -> None:
    settings.BERTH_STRIPE_SECRET_KEY = ""

    assert press(owner, invoice) == 404


def invoice_page(user: User, invoice: Invoice, query: str = "") -> str:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client.get(f"/billing/invoices/{invoice.number}/{query}").content.decode()


def test_the_button_is_for_those_who_may_pay_while_something_is_open(
    owner: User, invoice: Invoice, settings: Any
) -> None:
    member, button = make_user(), f"/billing/invoices/{invoice.pk}/pay/"
    Membership.objects.create(workspace=invoice.workspace, user=member, role=Role.MEMBER)

    assert button in invoice_page(owner, invoice)
    assert button not in invoice_page(member, invoice)
    assert "is being confirmed" in invoice_page(owner, invoice, "?paid=1")
    settings.BERTH_STRIPE_SECRET_KEY = ""
    assert button not in invoice_page(owner, invoice)
    settings.BERTH_STRIPE_SECRET_KEY = "sk_test_x"
    pay(invoice, "11.90")
    assert button not in invoice_page(owner, invoice)


def test_a_key_without_the_webhook_s_secret_stops_the_start() -> None:
    environment = {**os.environ, "BERTH_STRIPE_SECRET_KEY": "sk_test_x", "BERTH_STRIPE_WEBHOOK_SECRET": ""}

    ended = subprocess.run(
        [sys.executable, "manage.py", "check"], cwd=ROOT, env=environment, capture_output=True, text=True
    )

    assert ended.returncode != 0
    assert "BERTH_STRIPE_WEBHOOK_SECRET is needed" in ended.stderr
