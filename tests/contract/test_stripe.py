"""Stripe's library and signed events, against localstripe with the Checkout page of tests/stripe_stand_in.py."""

import logging
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import requests
from django.test import Client
from django.utils import timezone
from pytest_django.live_server_helper import LiveServer

from accounts.models import User
from billing import payments, providers
from billing.models import Invoice, LedgerEntry, Payment
from billing.providers import ProviderSilent
from portal.env import ROOT
from tests.factories import make_user, workspace_of
from tests.live import wait_for
from tests.unit.billing.bills import adds_up, make_invoice

pytestmark = pytest.mark.django_db(transaction=True)
SECRET = "whsec_of_the_tests"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def answers(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def stripe(live_server: LiveServer, settings: Any) -> Iterator[str]:
    """The stand-in, which tells the portal of this test what was paid; the portal is switched on for it."""
    port = free_port()
    webhook = f"{live_server.url}/billing/webhooks/stripe"
    program = [sys.executable, "-m", "tests.stripe_stand_in", str(port), webhook, SECRET]
    running = subprocess.Popen(program, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    settings.BERTH_STRIPE_SECRET_KEY = "sk_test_of_the_tests"
    settings.BERTH_STRIPE_WEBHOOK_SECRET = SECRET
    settings.BERTH_STRIPE_API = f"http://127.0.0.1:{port}"
    settings.BERTH_BASE_URL = live_server.url
    settings.SECURE_SSL_REDIRECT = False
    try:
        wait_for(lambda: answers(port), seconds=30)
        yield settings.BERTH_STRIPE_API
    finally:
        running.terminate()
        running.wait(timeout=10)


@pytest.fixture
def owner(live_server: LiveServer) -> User:
    return make_user()


@pytest.fixture
def invoice(owner: User) -> Invoice:
    return make_invoice(workspace_of(owner), "10.00", now=timezone.now() - timedelta(hours=1), tax="1.90")


def to_page(owner: User, invoice: Invoice) -> str:
    """Press the button; the address to which the page leads."""
    client = Client()
    client.force_login(owner, backend="django.contrib.auth.backends.ModelBackend")
    answer = client.post(f"/billing/invoices/{invoice.pk}/pay/")
    assert answer.status_code == 200, answer
    found = re.search(r'http-equiv="refresh" content="0;url=([^"]+)"', answer.content.decode())
    assert found
    return found[1]


def pay_at(page: str) -> str:
    """Pay there; where the customer is sent afterwards (nobody follows)."""
    answer = requests.post(page, allow_redirects=False, timeout=10)
    assert answer.status_code == 303
    return answer.headers["Location"]


def test_an_invoice_is_paid_by_card(stripe: str, owner: User, invoice: Invoice) -> None:
    page = to_page(owner, invoice)
    assert page.startswith(stripe)
    assert "1190 usd" in requests.get(page, timeout=10).text
    assert payments.open_amount(invoice) == Decimal("11.90")  # nothing is paid by looking at it

    assert pay_at(page).endswith(f"/billing/invoices/{invoice.number}/?paid=1")

    wait_for(lambda: Payment.objects.exists(), seconds=20)
    payment = Payment.objects.get()
    assert (payment.method, payment.amount, payment.invoice) == ("stripe", Decimal("11.90"), invoice)
    assert payment.reference.startswith("pi_")
    assert payment.entry.by == "Stripe"
    assert payments.open_amount(invoice) == 0


def test_what_was_paid_twice_is_credit(stripe: str, owner: User, invoice: Invoice) -> None:
    page = to_page(owner, invoice)

    pay_at(page)
    pay_at(page)

    wait_for(lambda: LedgerEntry.objects.filter(kind="credit").exists(), seconds=20)
    assert payments.available_credit(invoice.workspace_id) == Decimal("11.90")
    assert adds_up(invoice.workspace)


def test_what_was_paid_by_bank_meanwhile_is_credit(stripe: str, owner: User, invoice: Invoice) -> None:
    page = to_page(owner, invoice)
    payments.record_payment(
        invoice=invoice,
        amount=Decimal("10.00"),
        method="bank",
        reference="SEPA",
        received_on=timezone.now().date(),
        by="test",
        now=timezone.now(),
    )

    pay_at(page)

    wait_for(lambda: Payment.objects.filter(method="stripe").exists(), seconds=20)
    assert Payment.objects.get(method="stripe").amount == Decimal("1.90")
    assert payments.available_credit(invoice.workspace_id) == Decimal("10.00")


def test_a_wrong_key_is_told_and_nothing_is_paid(stripe: str, owner: User, invoice: Invoice, settings: Any) -> None:
    settings.BERTH_STRIPE_SECRET_KEY = "not a key"
    logging.disable(logging.WARNING)
    client = Client()
    client.force_login(owner, backend="django.contrib.auth.backends.ModelBackend")

    try:
        answer = client.post(f"/billing/invoices/{invoice.pk}/pay/", follow=True)
    finally:
        logging.disable(logging.NOTSET)

    assert b"Nothing was paid" in answer.content


def test_silence_of_stripe_is_told(owner: User, invoice: Invoice, settings: Any) -> None:
    settings.BERTH_STRIPE_SECRET_KEY = "sk_test_x"
    settings.BERTH_STRIPE_WEBHOOK_SECRET = SECRET
    settings.BERTH_STRIPE_API = f"http://127.0.0.1:{free_port()}"
    provider = providers.active()
    assert provider

    with pytest.raises(ProviderSilent, match="try again later"):
        provider.checkout(
            invoice=invoice, amount=Decimal(1), email="", paid_url="http://x", back_url="http://x", now=timezone.now()
        )
