"""A real Chromium (Debian's) in front of the running portal."""

import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.live import Customer, RunningStack

_ARGUMENTS = [
    "--no-sandbox",  # the tests run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_WAIT_MS = 15_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "browser" in item.path.parts:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for the whole suite."""
    program = shutil.which("chromium")
    if program is None:
        pytest.fail("chromium is not installed: run script/test browser", pytrace=False)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=_ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def new_page(browser: Browser, stack: RunningStack) -> Iterator[Callable[..., Page]]:
    """Opens a page in a context of its own (no cookies). At the end, an error that any page reported fails the test.

    `new_page(javascript=False)` is a browser without scripts; `new_page(width=390)` has a telephone's width.
    `new_page(expected=422)` may get that status: the browser writes every refused page to the console.
    `new_page(errors=("Refused to",))` may write errors with these words.
    """
    problems: list[str] = []
    contexts = []

    def on_console(message: ConsoleMessage, expected: int, errors: tuple[str, ...]) -> None:
        if message.text.startswith("htmx:sendAbort"):  # the page was left before an answer came: no error of anybody's
            if problems and problems[-1].startswith("console: htmx:afterRequest"):  # its first half
                problems.pop()
            return
        known = (*errors, f"status of {expected} ") if expected else errors
        if message.type == "error" and not any(words in message.text for words in known):
            problems.append(f"console: {message.text} ({message.location.get('url')})")

    def on_error(text: str, errors: tuple[str, ...]) -> None:
        if not any(words in text for words in errors):
            problems.append(f"script: {text}")

    def open_page(
        *,
        javascript: bool = True,
        width: int = 1280,
        height: int = 900,
        expected: int = 0,
        errors: tuple[str, ...] = (),
    ) -> Page:
        context = browser.new_context(
            base_url=stack.base_url,
            java_script_enabled=javascript,
            viewport={"width": width, "height": height},
        )
        contexts.append(context)
        context.set_default_timeout(_WAIT_MS)
        page = context.new_page()
        page.on("console", lambda message: on_console(message, expected, errors))
        page.on("pageerror", lambda error: on_error(str(error), errors))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not problems, "the browser reported errors:\n" + "\n".join(problems)


@pytest.fixture
def page(new_page: Callable[..., Page]) -> Page:
    """A fresh page; console errors and errors of scripts fail the test."""
    return new_page()


@pytest.fixture
def log_in() -> Callable[[Page, Customer], None]:
    """Logs a customer in through the log-in page."""

    def do(page: Page, customer: Customer) -> None:
        page.goto("/accounts/login/")
        page.fill("input[name=login]", customer.username)
        page.fill("input[name=password]", customer.password)
        page.locator("form:has(input[name=password]) [type=submit]").click()
        page.wait_for_url(lambda address: "/accounts/login" not in address)

    return do


@pytest.fixture
def sign_up_in() -> Callable[[Page], Customer]:
    """Signs somebody up through the sign-up page, who is logged in then."""

    def do(page: Page) -> Customer:
        name = f"b{secrets.token_hex(5)}"
        customer = Customer(name, f"{name}@example.org", secrets.token_urlsafe(12))
        page.goto("/accounts/signup/")
        page.fill("input[name=username]", customer.username)
        page.fill("input[name=email]", customer.email)
        page.fill("input[name=password1]", customer.password)
        page.fill("input[name=password2]", customer.password)
        page.click("form:has(input[name=password2]) [type=submit]")
        page.wait_for_url(lambda address: "/accounts/signup" not in address)
        return customer

    return do


@pytest.fixture
def screenshot(request: pytest.FixtureRequest, stack: RunningStack) -> Callable[[Page, str], Path]:
    """Keeps a picture of the whole page under the stack's logs, named for the test: `screenshot(page, "form")`."""
    folder = stack.log / "screenshots"

    def take(page: Page, name: str) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / (re.sub(r"[^\w.-]+", "-", f"{request.node.name}-{name}") + ".png")
        page.screenshot(path=path, full_page=True)
        return path

    return take
