"""A reservation's page while it runs: its log, its charts, who may connect; nothing that is typed is lost."""

import re
from collections.abc import Callable
from pathlib import Path

import requests
from playwright.sync_api import Page, expect

from tests.browser import pages
from tests.live import Customer

SignUp = Callable[[Page], Customer]
NewPage = Callable[..., Page]
READ_MS = 45_000  # until the first readings of a container that has just started


def ask_for(page: Page, word: str) -> None:
    """One request through the gateway for a page that does not exist."""
    address = page.locator("a[id^=open-]").get_attribute("href")
    with requests.Session() as session:
        session.trust_env = False
        assert session.get(f"{address}{word}", timeout=5).status_code == 404


def test_the_log_is_there_followed_searched_and_downloaded_and_the_charts_are_drawn(
    page: Page, sign_up_in: SignUp
) -> None:
    sign_up_in(page)
    path = pages.book(page, "nginx")
    pages.expect_running(page)
    expect(page.locator("#plots")).to_contain_text("Nothing was read in this time.")  # it has just begun
    ask_for(page, "first-word")

    page.locator("#log-view").scroll_into_view_if_needed()
    page.locator(".log-form").scroll_into_view_if_needed()
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.locator(".log")).to_contain_text("GET /first-word")

    page.get_by_label("Follow").check()
    expect(page.locator("#log-more")).to_be_visible()
    ask_for(page, "second-word")
    expect(page.locator(".log")).to_contain_text("GET /second-word")
    expect(page.locator(".log")).to_contain_text("GET /first-word")

    page.get_by_label("Follow").uncheck()
    page.fill("#log-search", "second-word")
    page.press("#log-search", "Enter")
    expect(page.locator(".log-said")).to_contain_text("have “second-word”.")
    expect(page.locator(".log")).not_to_contain_text("first-word")

    # Its buttons are there for the next time, too.
    page.fill("#log-search", "")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.locator(".log")).to_contain_text("GET /first-word")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download").click()
    assert re.fullmatch(r"nginx-\d+-\d{8}-\d{6}\.log", waiting.value.suggested_filename)
    text = Path(waiting.value.path()).read_text()
    assert "GET /first-word" in text
    assert "GET /second-word" in text

    expect(page.locator("#plots canvas").first).to_be_visible(timeout=READ_MS)
    pages.delete(page, path)


def test_the_log_comes_by_itself_to_who_scrolls_there(page: Page, sign_up_in: SignUp) -> None:
    sign_up_in(page)
    path = pages.book(page, "nginx")
    pages.expect_running(page)
    expect(page.locator("#charts")).to_be_visible()  # they come with a log that is asked for anew

    page.locator("#log").scroll_into_view_if_needed()

    expect(page.locator("#log-view .log-line", has_text="nginx").first).to_be_visible()
    pages.delete(page, path)


def test_the_log_without_javascript(new_page: NewPage, sign_up_in: SignUp) -> None:
    page = new_page(javascript=False)
    sign_up_in(page)
    path = pages.book(page, "nginx")
    pages.expect_running(page)
    ask_for(page, "plain-word")

    page.get_by_role("link", name="on a page of its own").click()
    page.fill("#log-search", "plain-word")
    page.get_by_role("button", name="Show", exact=True).click()

    expect(page.locator(".log")).to_contain_text("GET /plain-word")
    assert page.input_value("#log-search") == "plain-word"
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download").click()
    assert "GET /plain-word" in Path(waiting.value.path()).read_text()
    pages.delete(page, path)


def test_who_may_connect_is_typed_while_the_page_goes_on(new_page: NewPage, sign_up_in: SignUp) -> None:
    page = new_page(expected=422)
    sign_up_in(page)
    path = pages.book(page, "nginx")
    page.locator("details[id^=allow-] summary").click()
    sources = page.locator("textarea[name^=sources-]")
    sources.fill("203.0.113.7\nnonsense")

    pages.expect_running(page)  # the page becomes another one around it

    expect(sources).to_have_value("203.0.113.7\nnonsense")
    expect(sources).to_be_focused()
    save = page.get_by_role("button", name="Save", exact=True)
    save.click()
    expect(page.locator(".invalid-feedback")).to_contain_text("“nonsense” is no address or network")
    expect(sources).to_have_value("203.0.113.7\nnonsense")
    sources.fill("203.0.113.7")
    save.click()
    expect(page.locator(".saved")).to_contain_text("the gateway has it")
    expect(page.locator("details[id^=allow-] summary")).to_contain_text("203.0.113.7")
    sources.fill("")
    save.click()
    expect(page.locator("details[id^=allow-] summary")).to_contain_text("everybody")
    expect(page.locator(".saved")).to_be_visible()
    ask_for(page, "let-in")
    pages.delete(page, path)


def test_restart_rename_and_the_help_are_in_the_menu(page: Page, sign_up_in: SignUp) -> None:
    sign_up_in(page)
    page.goto("/reservations/new/?service=nginx")
    help_link = page.get_by_role("link", name="How to use nginx")
    expect(help_link).to_be_visible()
    expect(page.get_by_role("link", name="How to use Redis")).to_be_hidden()
    assert help_link.get_attribute("href") == "/help/nginx/"
    path = pages.book(page, "nginx")
    pages.expect_running(page)

    page.locator("#more-deeds summary").click()
    assert page.locator("#help-link").get_attribute("href") == "/help/nginx/"
    page.click("#restart-button")
    expect(page.locator("#reservation-state")).to_contain_text("Restart")
    pages.expect_running(page)
    page.locator("#more-deeds summary").click()
    page.click("#rename-link")
    page.fill("input[name=name]", "another <b>name</b>")
    page.locator("main form[method=post] [type=submit]").first.click()
    expect(page.locator("h1")).to_have_text("another <b>name</b>")
    pages.delete(page, path)
