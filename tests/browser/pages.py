"""What a customer does on the pages, in as few words as they need for it."""

import re
import secrets

from playwright.sync_api import Error, Page, expect

from tests.live import wait_for

STARTED_MS = 30_000


def fill_in(page: Page, service: str, *, size: str = "tiny", name: str = "") -> None:
    """The booking form, as far as the price."""
    page.goto(f"/reservations/new/?service={service}")
    page.locator(f"label:has(input[name=service][value={service}])").click()
    page.locator(f"label:has(input[name=size][value={size}])").click()
    page.fill("input[name=name]", name)


def press_reserve(page: Page) -> None:
    """Once nobody asks for the price any more: a new one may move the button away under the pointer."""
    page.wait_for_load_state("networkidle")
    page.click("#reserve")


def reserve(page: Page) -> str:
    """Send the form; the path of the reservation's page."""
    press_reserve(page)
    page.wait_for_url(re.compile(r"/reservations/\d+/$"))
    return re.sub(r"^https?://[^/]+", "", page.url)


def book(page: Page, service: str, *, size: str = "tiny", name: str = "") -> str:
    fill_in(page, service, size=size, name=name)
    return reserve(page)


def expect_running(page: Page) -> None:
    """Until the page itself says so."""
    expect(page.locator(".state-card .state")).to_have_text("running", timeout=STARTED_MS)


def delete(page: Page, path: str) -> None:
    page.goto(path)
    page.click("#delete-link")
    page.wait_for_url("**/delete/")
    page.click("button:has-text('Delete reservation')")
    page.wait_for_url("**/reservations/")


def expect_refused(page: Page, url: str) -> None:
    """Until nobody answers there any more. Each time another address, which is in no cache."""

    def refused() -> bool:
        try:
            page.goto(f"{url}?{secrets.token_hex(4)}", timeout=3000)
        except Error as problem:
            return (
                "ERR_CONNECTION" in problem.message or "ERR_TIMED_OUT" in problem.message or "Timeout" in str(problem)
            )
        return False

    wait_for(refused, seconds=20)
