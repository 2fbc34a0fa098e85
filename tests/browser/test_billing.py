"""Money in a browser: book, end, read the receipt and the month; and the pages on a telephone and without scripts."""

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.browser import pages
from tests.live import Customer, wait_for

SignUp = Callable[[Page], Customer]
NewPage = Callable[..., Page]
TOO_WIDE = """
() => document.documentElement.scrollWidth <= document.documentElement.clientWidth ? [] :
    [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1)
        .slice(0, 5).map(e => e.outerHTML.slice(0, 120))
"""
MONEY = r"\$\d+\.\d\d"


def _until_it_says(page: Page, path: str, words: str) -> None:
    """These pages do not refresh themselves: ask again, as a reader does."""

    def says() -> bool:
        page.goto(path)
        return words in page.locator("main").inner_text()

    wait_for(says, seconds=40)


def test_book_end_receipt_month(page: Page, sign_up_in: SignUp, screenshot: Callable[[Page, str], object]) -> None:
    sign_up_in(page)
    page.goto("/billing/")
    expect(page.locator("main")).to_contain_text("Nothing to pay yet")

    pages.fill_in(page, "nginx", name="my course")
    expect(page.locator("#quote .price strong")).to_have_text(re.compile(f"^{MONEY}$"))
    expect(page.locator("#quote")).to_contain_text("per started hour")
    price = page.locator("#quote .price strong").inner_text()
    path = pages.reserve(page)
    pages.expect_running(page)

    page.click("#receipt-link")
    expect(page.locator("h1")).to_contain_text("so far")
    expect(page.locator(".spans tbody tr").last).to_contain_text("still going on")
    receipt = re.sub(r"^https?://[^/]+", "", page.url)
    page.goto("/billing/")
    expect(page.locator(".money-list tbody tr")).to_contain_text("so far")

    pages.delete(page, path)
    _until_it_says(page, receipt, "charge\t")

    expect(page.locator("h1")).not_to_contain_text("so far")
    expect(page.locator(".spans tbody")).to_contain_text("Released early")
    expect(page.locator(".spans tfoot")).to_contain_text(price)
    screenshot(page, "receipt")
    page.goto("/billing/")
    expect(page.locator(".money-list tbody tr")).to_contain_text("my course")
    expect(page.locator(".money-list tbody tr")).to_contain_text(price)
    expect(page.locator(".chart-services")).to_contain_text("nginx")
    expect(page.locator(".chart-plot .bar-spent")).to_have_count(1)
    page.locator(".chart-table summary").first.click()
    expect(page.locator(".chart-table tbody").first).to_contain_text(price)
    screenshot(page, "month")
    page.click(".switch a:has-text('Ledger')")
    expect(page.locator(".ledger tbody tr")).to_contain_text("my course")


def test_a_budget_that_is_spent_stops_bookings_and_says_what_to_do(new_page: NewPage, sign_up_in: SignUp) -> None:
    page = new_page(expected=422)
    sign_up_in(page)
    page.goto("/billing/account/")
    page.check("input[name=hard_stop]")
    page.click("button:has-text('Save the budget')")
    expect(page.locator("#id_hard_stop_error")).to_contain_text("Set a budget first")
    page.fill("input[name=monthly_budget]", "0.01")
    page.check("input[name=hard_stop]")
    page.click("button:has-text('Save the budget')")
    expect(page.locator("main")).to_contain_text("The budget holds from now on.")

    pages.fill_in(page, "nginx")

    expect(page.locator("#quote .note")).to_contain_text("of the budget of $0.01")
    expect(page.locator("#quote .note a").last).to_have_attribute("href", "/billing/account/")
    with page.expect_response(lambda answer: answer.status == 422):
        pages.press_reserve(page)
    expect(page.locator("[role=alert]:not([hidden])").first).to_contain_text("of the budget of $0.01")


def test_money_on_a_telephone_and_without_scripts(new_page: NewPage, sign_up_in: SignUp) -> None:
    page = new_page(javascript=False, width=360, height=700)
    sign_up_in(page)
    path = pages.book(page, "nginx", name="x" * 60)
    pages.expect_running(page)
    receipt = path.replace("/reservations/", "/billing/receipts/")

    for place in ("/billing/", "/billing/ledger/", "/billing/ledger/?q=x", "/billing/account/", receipt):
        answer = page.goto(place)
        assert answer is not None
        assert answer.ok, place
        assert page.evaluate(TOO_WIDE) == [], f"{place} is wider than the screen"
    page.goto("/billing/")
    page.click("button:has-text('Show')")
    expect(page.locator(".money-list tbody tr")).to_have_count(1)
    pages.delete(page, path)
