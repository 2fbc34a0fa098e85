"""The end of a booking: warned a day, an hour and ten minutes before, extended, and over when its time is."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from lab import Lab
from tests.browser import pages
from tests.faults import windows
from tests.integration.desk import Desk
from tests.live import Api, Customer, RunningStack, wait_for

SignUp = Callable[[Page], Customer]
TOLD_MS = 45_000  # a round every 10 s, on a machine that has other things to do
SOON = timedelta(seconds=8)  # after that the end is as near as is warned of


@pytest.fixture
def desk(stack: RunningStack, lab: Lab, api: Api) -> Desk:
    """Moves the booking's window; books nothing."""
    return Desk(stack, lab, api, "nobody")


def mails_to(customer: Customer, stack: RunningStack) -> list[str]:
    folder = Path(stack.env["BERTH_MAIL"].removeprefix("file:"))
    texts = [path.read_text() for path in folder.iterdir()]
    return [text for text in texts if f"To: {customer.email}" in text and "Message-ID: <news." in text]


def test_the_end_of_a_booking_warnings_extend_expire(
    page: Page, sign_up_in: SignUp, desk: Desk, stack: RunningStack, screenshot: Callable[[Page, str], Path]
) -> None:
    customer = sign_up_in(page)
    path = pages.book(page, "nginx", name="my work")
    pages.expect_running(page)
    number = int(path.strip("/").split("/")[-1])
    page.goto("/accounts/notifications/")
    expect(page.locator(".news-item")).to_contain_text(f"my work (#{number}) runs")

    # The page stays open: each warning comes to it by itself, and as a mail.
    for before, words in ((24, "24 hours"), (1, "1 hour"), (1 / 6, "10 minutes")):
        windows.end_at(desk, number, windows.now(desk) + timedelta(hours=before) + SOON)
        expect(page.locator(".news-toast")).to_contain_text(f"ends in {words}", timeout=TOLD_MS)
        expect(page.locator("#bell")).to_contain_text("unread")
    screenshot(page, "told")
    wait_for(lambda: len(mails_to(customer, stack)) == 3, seconds=45)
    assert any("ends in 10 minutes" in mail for mail in mails_to(customer, stack))

    page.goto("/accounts/notifications/?show=unread")
    page.locator(".news-title", has_text="ends in 10 minutes").click()
    page.wait_for_url(f"**{path}extend/")
    page.locator("form:has([name=minutes]) [type=submit]").click()
    page.wait_for_url(f"**{path}")
    [[end]] = desk.sql('SELECT "end" FROM reservations_reservation WHERE id = %s', number)
    assert end > datetime.now(UTC) + timedelta(minutes=15)

    windows.end_at(desk, number, windows.now(desk) + SOON)  # its time passes
    expect(page.locator(".state-card .state")).to_have_text("ended", timeout=TOLD_MS)
    page.goto("/accounts/notifications/")
    titles = page.locator(".news-title").all_inner_texts()
    told = [re.sub(r".*\) |^Unread:\s*", "", title.strip()).removeprefix("Unread:").strip() for title in titles]
    assert told == ["has ended", "ends in 10 minutes", "ends in 1 hour", "ends in 24 hours", "runs"]
    assert len(mails_to(customer, stack)) == 3


def test_without_javascript_news_are_read_and_mails_are_ended(
    new_page: Callable[..., Page], sign_up_in: SignUp
) -> None:
    page = new_page(javascript=False)
    sign_up_in(page)
    path = pages.book(page, "nginx", name="plain")
    pages.expect_running(page)

    page.goto("/accounts/notifications/")
    expect(page.locator(".news-item.is-unread")).to_have_count(1)
    page.get_by_role("button", name="Mark all as read").click()
    expect(page.locator(".news-item.is-unread")).to_have_count(0)

    page.goto("/accounts/notifications/choices/")
    page.get_by_label("By mail: A reservation failed").uncheck()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_label("By mail: A reservation failed")).not_to_be_checked()
    expect(page.get_by_label("In the page: A reservation failed")).to_be_checked()
    pages.delete(page, path)
