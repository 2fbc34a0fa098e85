"""A change is on the screen although the page itself asks for nothing."""

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.browser import pages
from tests.live import Customer, RunningStack


def test_a_state_is_painted_when_it_changes_while_the_portal_answers_nothing(
    page: Page, sign_up_in: Callable[[Page], Customer], stack: RunningStack
) -> None:
    sign_up_in(page)
    path = pages.book(page, "nginx")
    pages.expect_running(page)
    number = path.strip("/").split("/")[-1]
    page.route("**/state/", lambda route: route.fulfill(status=204))  # nothing new by asking

    stack.run_manage("end_reservation", number, "--reason", "The room is needed.")

    expect(page.locator(".state-card .state")).to_have_text("ended", timeout=20_000)
