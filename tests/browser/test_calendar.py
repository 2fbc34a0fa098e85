"""The calendar: what was booked from the week's picture is in it."""

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.browser import pages
from tests.live import Customer

SignUp = Callable[[Page], Customer]


def test_a_free_hour_of_the_weeks_picture_is_the_start(page: Page, sign_up_in: SignUp) -> None:
    sign_up_in(page)
    pages.fill_in(page, "nginx", name="later")
    hour = page.locator("button[data-cell]").nth(30)

    hour.click()

    start = page.input_value("#id_start")
    assert start[14:] == "00"
    path = pages.reserve(page)
    expect(page.locator(".state-card .state")).to_have_text("booked")
    page.goto(f"/reservations/calendar/?day={start[:10]}")
    expect(page.locator(f".calendar a[href='{path}']").first).to_contain_text("later")
    pages.delete(page, path)
