"""Every page on a telephone and in the dark, and coming and going."""

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.browser import pages
from tests.live import Customer, RunningStack

SignUp = Callable[[Page], Customer]
NewPage = Callable[..., Page]
LogIn = Callable[[Page, Customer], None]
PUBLIC = ("/", "/accounts/login/", "/accounts/signup/", "/accounts/password/reset/")
OWN = (
    "/reservations/",
    "/reservations/?show=past",
    "/reservations/new/",
    "/billing/",
    "/accounts/email/",
    "/accounts/password/change/",
)
_TOO_WIDE = """
() => document.documentElement.scrollWidth <= document.documentElement.clientWidth ? [] :
    [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1)
        .slice(0, 5).map(e => e.outerHTML.slice(0, 120))
"""


def _expect_no_sideways_scroll(page: Page, path: str) -> None:
    answer = page.goto(path)
    assert answer is not None
    assert answer.ok, f"{path}: {answer.status}"
    assert page.evaluate(_TOO_WIDE) == [], f"{path} is wider than the screen"


def test_nothing_scrolls_sideways_on_a_telephone(new_page: NewPage, sign_up_in: SignUp) -> None:
    page = new_page(width=360, height=700)
    for path in PUBLIC:
        _expect_no_sideways_scroll(page, path)
    sign_up_in(page)
    for path in OWN:
        _expect_no_sideways_scroll(page, path)
    path = pages.book(page, "redis", name="x" * 60)
    pages.expect_running(page)
    for place in (path, f"{path}delete/", "/reservations/"):
        _expect_no_sideways_scroll(page, place)
    pages.delete(page, path)


def test_log_out_and_in_again(page: Page, sign_up_in: SignUp, log_in: LogIn) -> None:
    customer = sign_up_in(page)
    page.goto("/reservations/")
    page.click(".menu-button")
    page.click("button:has-text('Log out')")
    page.wait_for_url(lambda address: "/reservations" not in address)
    page.goto("/reservations/")
    assert "/accounts/login/" in page.url

    page.fill("input[name=login]", customer.username)
    page.fill("input[name=password]", "not this one")
    page.click("form:has(input[name=password]) [type=submit]")
    expect(page.locator("[role=alert]:not([hidden])")).to_be_visible()
    assert page.input_value("input[name=login]") == customer.username

    log_in(page, customer)
    page.goto("/reservations/")
    expect(page.locator("h1")).to_have_text("Reservations")


def test_dark_by_the_system_and_by_choice(page: Page) -> None:
    page.emulate_media(color_scheme="light")
    page.goto("/")
    light = _brightness(page)
    page.emulate_media(color_scheme="dark")
    page.reload()
    assert _brightness(page) < 80 < 175 < light

    page.click("[data-theme-toggle]")
    assert _brightness(page) == light
    page.reload()
    assert _brightness(page) == light


def _brightness(page: Page) -> float:
    """Of the page's background, 0 to 255; painted, since colours may be given in any notation."""
    red, green, blue = page.evaluate("""
        () => {
            const canvas = document.createElement("canvas").getContext("2d");
            canvas.fillStyle = getComputedStyle(document.body).backgroundColor;
            canvas.fillRect(0, 0, 1, 1);
            return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
        }
    """)
    return float(red + green + blue) / 3


def test_staff_see_the_machines_and_customers_do_not(
    new_page: NewPage, sign_up_in: SignUp, log_in: LogIn, stack: RunningStack
) -> None:
    staff, customer, visitor = new_page(), new_page(expected=404), new_page(expected=403)
    password = stack.stack.layout.admin_password.read_text().strip()
    log_in(staff, Customer("admin", "", password))
    for path in ("/monitor/", "/admin/", "/admin/reservations/reservation/", "/admin/compute/node/"):
        answer = staff.goto(path)
        assert answer is not None
        assert answer.ok, path
    staff.goto("/monitor/")
    expect(staff.locator("main")).to_contain_text("node1")

    sign_up_in(customer)
    answer = customer.goto("/monitor/")
    assert answer is not None
    assert answer.status == 404

    sign_up_in(visitor)
    answer = visitor.goto("/admin/")
    assert answer is not None
    assert answer.status == 403
