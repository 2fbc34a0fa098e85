"""The list: it follows what happens by itself, keeps what is ticked, and does one deed to many."""

import re
from collections.abc import Callable

from playwright.sync_api import Locator, Page, expect

from tests.browser import pages
from tests.live import Customer, RunningStack

SignUp = Callable[[Page], Customer]
SEEN_MS = 20_000


def book_two(page: Page) -> list[str]:
    """Two copies, which run; their paths, as the list has them."""
    pages.fill_in(page, "nginx", name="pair")
    page.fill("input[name=copies]", "2")
    pages.press_reserve(page)
    page.wait_for_url(re.compile(r"/reservations/$"))
    expect(running(page)).to_have_count(2, timeout=pages.STARTED_MS)
    return [str(link.get_attribute("href")) for link in page.locator(".row-title").all()]


def running(page: Page) -> Locator:
    return page.locator(".row-item .state", has_text="running")


def test_the_list_follows_by_itself_and_keeps_ticks_and_focus(
    page: Page, sign_up_in: SignUp, stack: RunningStack
) -> None:
    sign_up_in(page)
    paths = book_two(page)
    page.evaluate("window.neverReloaded = true")
    # By its own clock it asks too late for what follows.
    expect(page.locator("#reservation-list")).to_have_attribute("hx-trigger", "every 15s")
    tick = page.locator("input[name=pick]").first
    tick.check()
    tick.focus()
    stopped = paths[-1].strip("/").split("/")[-1]

    other = page.context.new_page()
    other.goto(paths[-1])
    other.click("#stop-button")
    expect(other.locator(".state-card .state")).to_have_text("stopped", timeout=SEEN_MS)
    other.close()
    page.bring_to_front()

    row = page.locator(f"[data-key=row-{stopped}]")
    expect(row.locator(".state")).to_have_text("stopped", timeout=3_000)
    expect(row.locator(".row-where")).to_contain_text("from", timeout=3_000)  # all of it, and not its word alone
    expect(tick).to_be_checked()
    expect(tick).to_be_focused()
    expect(page.locator("[data-picked-text]")).to_have_text("1 chosen")
    assert page.evaluate("window.neverReloaded") is True
    delete_all(page)


def test_one_deed_on_many_says_what_it_does_to_each_and_what_it_did(page: Page, sign_up_in: SignUp) -> None:
    sign_up_in(page)
    paths = book_two(page)
    page.goto(paths[0])
    page.click("#stop-button")
    expect(page.locator(".state-card .state")).to_have_text("stopped", timeout=SEEN_MS)
    page.goto("/reservations/")

    page.check("#pick-all")
    page.locator("[data-picked-deed][value=stop]").click()
    expect(page.locator("h1")).to_have_text("Stop 1 of 2 reservations?")
    expect(page.locator(".plan .is-not")).to_contain_text("Is left as it is. It is stopped already")
    page.get_by_role("button", name="Stop it").click()
    expect(page.locator("main")).to_contain_text("is being stopped.")
    expect(page.locator(".row-item .state", has_text="stopped")).to_have_count(2, timeout=SEEN_MS)

    page.check("#pick-all")
    page.locator("[data-picked-deed][value=extend]").click()
    page.select_option("#minutes", "120")  # looks what fits: what is done is what was chosen last
    page.wait_for_url(re.compile(r"minutes=120"))
    expect(page.locator(".plan-text").first).to_contain_text("more and ends")
    page.get_by_role("button", name="Extend these 2").click()
    expect(page.locator("main")).to_contain_text("2 reservations were extended.")
    delete_all(page)


def test_without_javascript_ticks_and_filters_work(new_page: Callable[..., Page], sign_up_in: SignUp) -> None:
    page = new_page(javascript=False)
    sign_up_in(page)
    page.goto("/reservations/new/?service=nginx")
    page.locator("label:has(input[name=size][value=tiny])").click()
    page.fill("input[name=copies]", "2")
    page.fill("input[name=name]", "plain")
    page.click("#reserve")
    page.wait_for_url(re.compile(r"/reservations/$"))

    page.locator("#list-more summary").click()
    page.select_option("select[name=service]", "redis")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.locator("main")).to_contain_text("Nothing fits this filter")
    page.locator("main .nothing a").click()
    page.fill("#list-q", "plain 2")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.locator(".row-item")).to_have_count(1)
    page.goto("/reservations/")

    page.locator("[data-picked-deed][value=delete]").click()
    expect(page.locator("main")).to_contain_text("Tick the reservations first")
    for box in page.locator("input[name=pick]").all():
        box.check()
    page.locator("[data-picked-deed][value=delete]").click()
    page.get_by_role("button", name="Delete these 2").click()
    expect(page.locator("main")).to_contain_text("2 reservations are being taken down.")


def delete_all(page: Page) -> None:
    """What is in the list, as whoever has many does."""
    page.goto("/reservations/")
    page.check("#pick-all")
    page.locator("[data-picked-deed][value=delete]").click()
    page.locator("main .actions button").click()
    expect(page.locator("main")).to_contain_text("being taken down")
