"""The full cloud: nothing fits, so one joins the waiting list, gets an offer when somebody ends, and books it."""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser import pages
from tests.live import Api, Customer, RunningStack

SignUp = Callable[[Page], Customer]
OFFERED_MS = 30_000


_LEND_ONE_MORE = """
UPDATE compute_node node SET ram_mib = 256 + held.ram_mib, cores = 0.25 + held.cores
FROM (
    SELECT n.id, coalesce(max(s.ram_mib), 0) AS ram_mib, coalesce(max(s.cores), 0) AS cores
    FROM compute_node n LEFT JOIN compute_loadstep s ON s.node_id = n.id GROUP BY n.id
) held
WHERE held.id = node.id AND node.state <> 'removed'
"""


@pytest.fixture
def full_cloud(stack: RunningStack, new_api: Callable[..., Api]) -> Iterator[Callable[[], None]]:
    """Each node lends what one tiny reservation takes, and somebody has them all; ends one of these at each call."""
    with stack.database() as database:
        lent = database.execute("SELECT id, ram_mib, cores FROM compute_node WHERE state <> 'removed'").fetchall()
        holder, held = new_api(), []
        wish = {"service": "nginx", "size": "tiny", "hours": 2}
        try:
            # What other tests have booked may be there still: each node lends that, and one more.
            database.execute(_LEND_ONE_MORE)
            for _ in lent:
                held.append(holder.post("/reservations", wish)["id"])
            yield lambda: holder.delete(f"/reservations/{held.pop()}")
        finally:
            for number in held:
                holder.delete(f"/reservations/{number}")
            for row in lent:
                change = "UPDATE compute_node SET ram_mib = %s, cores = %s WHERE id = %s"
                database.execute(change, [row[1], row[2], row[0]])


@pytest.mark.parametrize("javascript", [True, False], ids=["with scripts", "without"])
def test_the_full_cloud_waiting_list_offer_booking(
    javascript: bool, new_page: Callable[..., Page], sign_up_in: SignUp, full_cloud: Callable[[], None]
) -> None:
    page = new_page(javascript=javascript, expected=422)
    sign_up_in(page)
    pages.fill_in(page, "nginx", name="my wish")
    if not javascript:
        page.click("#reserve")
    expect(page.locator("main")).to_contain_text("No resources available")

    page.locator("button", has_text="Join the waiting list").first.click()

    page.wait_for_url("**/reservations/waiting/")
    expect(page.locator(".row-item")).to_contain_text("1st of 1 in line")
    expect(page.locator(".row-item")).to_contain_text("No resources available", timeout=OFFERED_MS)
    full_cloud()
    take = page.get_by_role("button", name="Take it")  # the page looks by itself
    expect(take).to_be_visible(timeout=OFFERED_MS)
    take.click()

    page.wait_for_url(re.compile(r"/reservations/\d+/$"))
    pages.expect_running(page)
    expect(page.locator("h1")).to_have_text("my wish")
    path = re.sub(r"^https?://[^/]+", "", page.url)
    page.goto("/reservations/waiting/")
    expect(page.locator("main")).to_contain_text("Nothing is waiting")
    pages.delete(page, path)


def test_an_offer_is_left_to_the_next_in_line(
    new_page: Callable[..., Page], sign_up_in: SignUp, full_cloud: Callable[[], None]
) -> None:
    first, second = new_page(), new_page(width=390)
    for page in (first, second):
        sign_up_in(page)
        pages.fill_in(page, "nginx")
        page.locator("button", has_text="Join the waiting list").first.click()
        page.wait_for_url("**/reservations/waiting/")
    expect(second.locator(".row-item")).to_contain_text("2nd of 2 in line")

    full_cloud()
    first.get_by_role("button", name="Let the next have it").click(timeout=OFFERED_MS)

    expect(first.locator(".row-item")).to_contain_text("in line")
    take = second.get_by_role("button", name="Take it")
    expect(take).to_be_visible(timeout=OFFERED_MS)
    take.click()
    second.wait_for_url(re.compile(r"/reservations/\d+/$"))
    pages.expect_running(second)
    pages.delete(second, re.sub(r"^https?://[^/]+", "", second.url))
    first.get_by_role("button", name="Leave the").first.click()
    expect(first.locator("main")).to_contain_text("is not in the waiting list any more")
