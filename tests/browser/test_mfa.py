"""A second step at log-in, with an app and with a passkey, and a token made by hand."""

import base64
import hashlib
import hmac
import re
import secrets
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Page, expect

from tests.live import Customer, RunningStack, wait_for

NewPage = Callable[..., Page]
SignUp = Callable[[Page], Customer]
AUTHENTICATOR = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


@pytest.fixture
def home(stack: RunningStack) -> str:
    """The portal by a name: passkeys belong to one, and browsers give none to an address of digits."""
    return stack.base_url.replace("127.0.0.1", "localhost")


def fresh_code(secret: str) -> str:
    """What an app shows now. Waits for the next one when this is nearly over."""
    wait_for(lambda: time.time() % 30 < 25, seconds=10)
    digest = hmac.new(base64.b32decode(secret), struct.pack(">Q", int(time.time()) // 30), hashlib.sha1).digest()
    place = digest[-1] & 15
    return f"{(struct.unpack('>I', digest[place : place + 4])[0] & 0x7FFFFFFF) % 1_000_000:06}"


def confirm_address(page: Page, home: str, customer: Customer, stack: RunningStack) -> None:
    """By the link in the mail that came after the sign-up."""
    folder = Path(stack.env["BERTH_MAIL"].removeprefix("file:"))

    def link() -> str:
        for mail in folder.iterdir():
            text = mail.read_text().replace("=\n", "")
            if customer.email in text and (found := re.search(r"(/accounts/confirm-email/\S+)", text)):
                return found.group(1)
        return ""

    page.goto(home + wait_for(link, seconds=10))
    page.click("main form [type=submit]")
    page.wait_for_load_state()


def sign_up(page: Page, home: str, customer: Customer) -> None:
    page.goto(f"{home}/accounts/signup/")
    for name, value in (("username", customer.username), ("email", customer.email)):
        page.fill(f"input[name={name}]", value)
    for name in ("password1", "password2"):
        page.fill(f"input[name={name}]", customer.password)
    page.click("form:has(input[name=password2]) [type=submit]")
    page.wait_for_url(lambda address: "/accounts/signup" not in address)


def type_password(page: Page, home: str, customer: Customer) -> None:
    page.goto(f"{home}/accounts/login/")
    page.fill("input[name=login]", customer.username)
    page.fill("input[name=password]", customer.password)
    page.click("form:has(input[name=password]) [type=submit]")


def confirm_password(page: Page, customer: Customer) -> None:
    page.wait_for_url("**/accounts/reauthenticate/**")
    page.fill("input[name=password]", customer.password)
    page.click("main form [type=submit]")


def log_out(page: Page) -> None:
    page.click(".menu-button")
    page.click("button:has-text('Log out')")
    expect(page.locator("header >> text=Log in")).to_be_visible()


@pytest.fixture
def customer() -> Customer:
    name = f"m{secrets.token_hex(5)}"
    return Customer(name, f"{name}@example.org", secrets.token_urlsafe(12))


@pytest.fixture
def member(new_page: NewPage, customer: Customer, home: str, stack: RunningStack) -> Page:
    """The page of somebody who signed up, confirmed the address and is asked for nothing for a while."""
    page = new_page()
    sign_up(page, home, customer)
    confirm_address(page, home, customer, stack)
    return page


def set_up_app(page: Page, home: str, customer: Customer) -> tuple[str, list[str]]:
    """The app's secret and the recovery codes."""
    page.goto(f"{home}/accounts/mfa/")
    page.click("a:has-text('Set up an app')")
    confirm_password(page, customer)
    page.wait_for_url("**/totp/activate/")
    expect(page.locator("svg.qr")).to_be_visible()
    secret = (page.locator("#totp-secret").text_content() or "").strip()
    page.fill("input[name=code]", fresh_code(secret))
    page.click("main form [type=submit]")
    page.wait_for_url("**/recovery-codes/")
    return secret, page.locator("#recovery-codes li").all_inner_texts()


def test_an_app_as_the_second_step(
    member: Page, new_page: NewPage, customer: Customer, home: str, screenshot: Callable[[Page, str], Path]
) -> None:
    secret, codes = set_up_app(member, home, customer)
    assert len(set(codes)) == 10
    screenshot(member, "codes")
    member.reload()
    expect(member.locator("main")).not_to_contain_text(codes[0])
    log_out(member)

    type_password(member, home, customer)
    member.wait_for_url("**/mfa/authenticate/**")
    screenshot(member, "second-step")
    member.fill("input[name=code]", "12")
    member.click("form:has(input[name=code]) [type=submit]")
    expect(member.locator(".field-errors")).to_contain_text("not right")
    member.fill("input[name=code]", fresh_code(secret))
    member.click("form:has(input[name=code]) [type=submit]")
    member.wait_for_url("**/reservations/**")

    elsewhere = new_page()
    type_password(elsewhere, home, customer)
    elsewhere.wait_for_url("**/mfa/authenticate/**")
    elsewhere.fill("input[name=code]", codes[0])
    elsewhere.click("form:has(input[name=code]) [type=submit]")
    elsewhere.wait_for_url("**/reservations/**")

    member.goto(f"{home}/accounts/sessions/")
    expect(member.locator("tbody tr")).to_have_count(2)
    member.click("button:has-text('Log the others out')")
    expect(member.locator("tbody tr")).to_have_count(1)
    elsewhere.goto(f"{home}/reservations/")
    assert "/accounts/login/" in elsewhere.url


def test_a_passkey_instead_of_the_password(member: Page, customer: Customer, home: str) -> None:
    browser = member.context.new_cdp_session(member)
    browser.send("WebAuthn.enable")
    key = browser.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})["authenticatorId"]
    member.goto(f"{home}/accounts/mfa/")
    member.click("a:has-text('Add a passkey')")
    confirm_password(member, customer)
    member.wait_for_url("**/webauthn/add/")
    member.fill("input[name=name]", "my laptop")
    member.click("#mfa_webauthn_add")
    member.wait_for_url("**/recovery-codes/")
    member.goto(f"{home}/accounts/mfa/webauthn/")
    expect(member.locator("tbody")).to_contain_text("my laptop")
    log_out(member)

    member.goto(f"{home}/accounts/login/")
    member.click("#passkey_login")
    member.wait_for_url("**/reservations/**")
    log_out(member)

    type_password(member, home, customer)
    member.click("#mfa_webauthn_authenticate")
    member.wait_for_url("**/reservations/**")
    log_out(member)

    browser.send("WebAuthn.removeVirtualAuthenticator", {"authenticatorId": key})
    browser.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR | {"isUserVerified": False}})
    member.goto(f"{home}/accounts/login/")
    member.click("#passkey_login")
    expect(member.locator("[data-passkey-error]")).to_contain_text("cancelled")
    assert "/accounts/login/" in member.url


def test_passkeys_say_why_they_cannot_be_used_at_an_address_of_digits(page: Page) -> None:
    page.goto("/accounts/login/")
    page.click("#passkey_login")

    expect(page.locator("[data-passkey-error]")).to_contain_text("Passkeys belong to a name")


def test_a_token_of_ones_own(member: Page, customer: Customer, home: str, stack: RunningStack) -> None:
    member.goto(f"{home}/accounts/tokens/")
    member.click("main a:has-text('New token')")
    confirm_password(member, customer)
    member.wait_for_url("**/tokens/new/")
    member.fill("input[name=name]", "script")
    member.check("input[name=scope][value=read]")
    member.click("main form [type=submit]")
    secret = (member.locator("#token-secret").text_content() or "").strip()

    def ask(method: str) -> int:
        headers = {"Authorization": f"Bearer {secret}"}
        address = f"{stack.base_url}/api/v1/reservations"
        return requests.request(method, address, headers=headers, timeout=10).status_code

    assert [ask("GET"), ask("POST")] == [200, 403]
    member.click("text=I have saved it")
    expect(member.locator("main")).to_contain_text("script")
    expect(member.locator("main")).not_to_contain_text(secret)
    member.click("main a:has-text('Revoke')")
    member.click("button:has-text('Revoke it')")
    expect(member.locator(".messages")).to_contain_text("is revoked")
    assert ask("GET") == 401


@pytest.mark.parametrize("width", [390, 1440])
def test_the_pages_of_an_account_fit_the_screen(
    width: int, new_page: NewPage, sign_up_in: SignUp, screenshot: Callable[[Page, str], Path]
) -> None:
    page = new_page(width=width)
    sign_up_in(page)
    for path in ("mfa", "mfa/webauthn", "tokens", "sessions"):
        answer = page.goto(f"/accounts/{path}/")
        assert answer is not None
        assert answer.ok
        assert page.evaluate("() => document.documentElement.scrollWidth <= document.documentElement.clientWidth"), path
        screenshot(page, path.replace("/", "-"))
