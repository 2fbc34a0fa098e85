"""The calendar: a booking is in its week and its month, leads to its page, and is in the feed for other calendars."""

from collections.abc import Callable

import requests
from playwright.sync_api import Page, expect

from tests.browser import pages
from tests.live import Customer

SignUp = Callable[[Page], Customer]


def fetch(address: str) -> requests.Response:
    """As another calendar does: nobody is logged in."""
    with requests.Session() as session:
        session.trust_env = False
        return session.get(address, timeout=10)


def test_a_booking_is_in_its_week_and_month_and_in_the_feed(page: Page, sign_up_in: SignUp) -> None:
    sign_up_in(page)
    path = pages.book(page, "nginx", name="course of May")

    page.goto("/reservations/")
    page.get_by_role("link", name="Calendar", exact=True).click()
    bar = page.locator(f".calendar a[href='{path}']").first
    expect(bar).to_contain_text("course of May")
    title = page.locator("h1").inner_text()
    page.get_by_role("link", name="The week after").click()
    expect(page.locator("h1")).not_to_have_text(title)
    page.get_by_role("link", name="The week before").click()
    expect(page.locator("h1")).to_have_text(title)
    page.get_by_role("link", name="Month", exact=True).click()
    # Its words may be wider than its bar; they lead there as well, and not to a booking of the hour behind them.
    page.locator(f".calendar a[href='{path}'] text").first.click()
    page.wait_for_url(f"**{path}")

    page.goto("/reservations/calendar/")
    page.get_by_role("link", name="Subscribe").click()
    page.get_by_role("button", name="Make an address").click()
    first = page.input_value("#feed-address")
    answer = fetch(first)
    assert answer.headers["Content-Type"].startswith("text/calendar")
    assert "SUMMARY:course of May (nginx)" in answer.text
    assert path in answer.text

    page.get_by_role("button", name="New address").click()
    expect(page.locator("main")).to_contain_text("the old one stops to answer")
    second = page.input_value("#feed-address")
    assert fetch(first).status_code == 404
    assert "course of May" in fetch(second).text

    page.get_by_role("button", name="Remove the address").click()
    expect(page.locator("#feed-address")).to_have_count(0)
    assert fetch(second).status_code == 404
    pages.delete(page, path)


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
