"""The main job in a browser: sign up, book, watch it start, open it through the gateway, delete it, refused."""

import re
import socket
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser import pages
from tests.live import Customer

SignUp = Callable[[Page], Customer]
NewPage = Callable[..., Page]


def test_sign_up_book_open_delete_refused(page: Page, sign_up_in: SignUp) -> None:
    sign_up_in(page)
    pages.fill_in(page, "nginx", name="my page")
    expect(page.locator("#quote .price")).to_be_visible()
    path = pages.reserve(page)
    page.evaluate("window.neverReloaded = true")

    pages.expect_running(page)

    assert page.evaluate("window.neverReloaded") is True
    expect(page.locator("h1")).to_have_text("my page")
    with page.context.expect_page() as opened:
        page.click("a[id^=open-]")
    tab = opened.value
    tab.wait_for_load_state()
    assert "nginx" in tab.content().lower()
    address = tab.url

    pages.delete(page, path)

    expect(page.locator("main")).to_contain_text("is being taken down")
    pages.expect_refused(tab, address)
    expect(page.locator(".row-item")).to_have_count(0, timeout=20_000)
    page.goto("/reservations/?show=past")
    expect(page.locator(".row-item", has_text="my page")).to_contain_text("ended")


def test_credentials_are_shown_and_work(page: Page, sign_up_in: SignUp) -> None:
    sign_up_in(page)
    path = pages.book(page, "redis")
    pages.expect_running(page)

    page.click("#reveal-button")
    password = page.locator("#credentials dd code").inner_text()
    host, port = page.locator(".endpoint-address").inner_text().split(":")

    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(f"AUTH {password}\r\n".encode())
        assert connection.recv(100) == b"+OK\r\n"
    # It refreshes itself while it runs, and must not close what the reader has opened.
    expect(page.locator("#credentials dd code")).to_be_visible()
    pages.delete(page, path)


def test_without_javascript(new_page: NewPage, sign_up_in: SignUp) -> None:
    page = new_page(javascript=False, expected=404)  # nginx has no icon
    sign_up_in(page)

    path = pages.book(page, "nginx", name="plain")
    pages.expect_running(page)  # the page asks for itself every few seconds

    page.goto("/reservations/")
    expect(page.locator(".row-item")).to_have_count(1)
    expect(page.locator(".row-item")).to_contain_text("plain")
    address = page.locator(".row-item .address a").get_attribute("href")
    assert address is not None
    page.goto(address)
    assert "nginx" in page.content().lower()

    pages.delete(page, path)
    pages.expect_refused(page, address)


def test_what_is_wrong_is_said_at_its_field_and_the_rest_is_kept(new_page: NewPage, sign_up_in: SignUp) -> None:
    page = new_page(expected=422)
    sign_up_in(page)
    pages.fill_in(page, "redis", size="medium", name="kept text")
    page.fill("#id_start", "2020-01-01T10:00")
    page.select_option("select[name=duration]", "120")

    pages.press_reserve(page)

    expect(page.locator("#id_start_error")).to_have_text("The start is in the past.")
    assert page.input_value("input[name=name]") == "kept text"
    assert page.input_value("#id_start") == "2020-01-01T10:00"
    assert page.input_value("select[name=duration]") == "120"
    assert page.is_checked("input[name=service][value=redis]")
    assert page.is_checked("input[name=size][value=medium]")
    page.fill("#id_start", "")
    path = pages.reserve(page)
    pages.delete(page, path)


def test_a_service_that_is_not_available_cannot_be_chosen(page: Page, sign_up_in: SignUp) -> None:
    sign_up_in(page)

    page.goto("/reservations/new/")

    assert page.is_disabled("input[name=service][value=jenkins]")
    expect(page.locator("label:has(input[value=jenkins])")).to_contain_text("not in the private registry")


def test_anothers_reservation_does_not_exist(new_page: NewPage, sign_up_in: SignUp) -> None:
    owner, stranger, nobody = new_page(), new_page(expected=404), new_page()
    sign_up_in(owner)
    path = pages.book(owner, "nginx")
    sign_up_in(stranger)

    for part in ("", "state/", "delete/"):
        answer = stranger.goto(path + part)
        assert answer is not None
        assert answer.status == 404
    nobody.goto(path)
    assert "/accounts/login/" in nobody.url
    pages.delete(owner, path)


@pytest.mark.parametrize("username", ["UPPER", "upper"])
def test_a_name_is_taken_whatever_its_case(page: Page, sign_up_in: SignUp, username: str) -> None:
    customer = sign_up_in(page)
    page.context.clear_cookies()
    page.goto("/accounts/signup/")
    taken = customer.username.upper() if username.isupper() else customer.username
    page.fill("input[name=username]", taken)
    page.fill("input[name=email]", "other-" + customer.email)
    page.fill("input[name=password1]", customer.password)
    page.fill("input[name=password2]", customer.password)

    page.click("form:has(input[name=password2]) [type=submit]")

    expect(page.locator("#id_username_error")).to_be_visible()
    assert page.input_value("input[name=username]") == taken
    assert re.search(r"/accounts/signup/", page.url)
