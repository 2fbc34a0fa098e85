"""The monitor's pages in a browser: they refresh themselves and disturb nobody, and their charts are drawn."""

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.live import Customer, RunningStack

NewPage = Callable[..., Page]
LogIn = Callable[[Page, Customer], None]
REFRESH_MS = 30_000


def as_admin(page: Page, log_in: LogIn, stack: RunningStack) -> Page:
    log_in(page, Customer("admin", "", stack.stack.layout.admin_password.read_text().strip()))
    return page


def wait_for_a_refresh(page: Page, part: str) -> None:
    with page.expect_response(lambda answer: answer.request.headers.get("hx-target") == part, timeout=REFRESH_MS):
        pass
    page.wait_for_timeout(300)  # until it is swapped in


def test_a_refresh_leaves_focus_scroll_and_open_parts_alone(page: Page, log_in: LogIn, stack: RunningStack) -> None:
    as_admin(page, log_in, stack).goto("/monitor/")
    page.locator("#images summary").click()
    page.locator("a.machine-link").first.focus()
    page.evaluate("window.scrollTo({ top: 120, behavior: 'instant' }); window.before = document.activeElement")
    scrolled = page.evaluate("scrollY")

    wait_for_a_refresh(page, "monitor")

    assert page.evaluate("document.activeElement === window.before")
    assert page.evaluate("scrollY") == scrolled
    expect(page.locator("#images")).to_have_attribute("open", "")


def test_what_is_typed_narrows_the_list_and_stays(page: Page, log_in: LogIn, stack: RunningStack) -> None:
    as_admin(page, log_in, stack).goto("/monitor/containers/")
    page.fill("#q", "nobody-has-this-name")
    expect(page.locator("#containers")).to_contain_text("No container is like that.")

    wait_for_a_refresh(page, "containers")

    expect(page.locator("#q")).to_have_value("nobody-has-this-name")
    expect(page.locator("#q")).to_be_focused()
    expect(page.locator("#containers")).to_contain_text("No container is like that.")


def test_a_node_has_its_charts_and_fits_a_telephone(new_page: NewPage, log_in: LogIn, stack: RunningStack) -> None:
    page = as_admin(new_page(width=360, height=700), log_in, stack)
    page.goto("/monitor/")
    page.locator("a.machine-link").first.click()
    expect(page.locator(".plot")).to_have_count(6)

    page.locator(".spans-switch a", has_text="24 hours").click()

    page.wait_for_url("**span=24h")
    expect(page.locator(".plot")).to_have_count(6)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_no_list_is_cut_on_a_telephone_however_long_the_names(
    new_page: NewPage, log_in: LogIn, stack: RunningStack
) -> None:
    page = as_admin(new_page(width=360, height=700), log_in, stack)
    for address in ("/monitor/", "/monitor/containers/", "/monitor/drift/", "/monitor/events/"):
        page.goto(address)
        page.evaluate(
            """document.querySelectorAll(".stack td").forEach((cell) => {
              const parts = [...cell.querySelectorAll("a, span, div")];
              const isLine = (one) => one.textContent && !one.children.length && !one.closest(".state, .kind");
              const line = parts.find(isLine);
              if (line) line.textContent = "Department of Computer Science, " + "x".repeat(60);
            })"""
        )
        cut = "(wrap) => wrap.querySelector('.stack') && wrap.scrollWidth > wrap.clientWidth"
        assert page.evaluate(f"[...document.querySelectorAll('.table-wrap')].filter({cut}).length") == 0, address
        here = page.locator(".monitor-nav [aria-current]").bounding_box()
        assert here, address
        assert 0 <= here["x"] < here["x"] + here["width"] <= 360, address
