"""An admin's morning: is the fleet well, what is on a node, could it be emptied, what drifted, and the report."""

import csv
import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from lab import Lab
from tests.live import Api, Customer, RunningStack, wait_for

MACHINES_MS = 60_000  # a look at all machines, on a machine that is busy with other tests
NAT = ["iptables", "-w", "5", "-t", "nat"]


@pytest.fixture
def admin(stack: RunningStack, page: Page, sign_up_in: Callable[[Page], Customer]) -> Page:
    """A browser in which somebody is logged in who may do everything."""
    person = sign_up_in(page)
    with stack.database() as database:
        database.execute(
            "UPDATE accounts_user SET is_staff = true, is_superuser = true WHERE username = %s", [person.username]
        )
    return page


@pytest.fixture
def number(api: Api) -> Iterator[int]:
    """Of a reservation that runs."""
    booked = int(api.post("/reservations", {"service": "nginx", "size": "tiny", "hours": 1})["id"])
    wait_for(lambda: api.get(f"/reservations/{booked}")["state"] == "running")
    yield booked
    api.delete(f"/reservations/{booked}")


@pytest.fixture
def flush(stack: RunningStack, lab: Lab) -> Iterator[Callable[[], None]]:
    """Lets the timetable rest, so that no round mends it, and takes the rules from the gateway."""

    def do() -> None:
        stack.stop("beat")
        lab.exec("gateway", [*NAT, "-F", "BERTH-DNAT"])

    yield do
    stack.start("beat")
    stack.wait_ready()


def test_fleet_node_drain_preview_drift_mended_and_report_downloaded(
    admin: Page, lab: Lab, api: Api, number: int, flush: Callable[[], None]
) -> None:
    node = str(api.get(f"/reservations/{number}")["node"])

    admin.goto("/monitor/")
    expect(admin.locator("article.machine", has_text="node1")).to_be_visible()
    expect(admin.locator("article.machine", has_text="node2")).to_be_visible()

    admin.get_by_role("link", name=node, exact=True).first.click()
    admin.wait_for_url(f"**/monitor/nodes/{node}/")
    expect(admin.locator(".uplot canvas").first).to_be_visible()  # its charts are drawn
    expect(admin.get_by_text(f"berth-{number}-1-main").first).to_be_visible(timeout=MACHINES_MS)

    admin.get_by_role("link", name=re.compile("^Drain")).click()
    admin.wait_for_url("**/drain/")
    expect(admin.get_by_role("heading", name=f"Drain {node}?")).to_be_visible()
    expect(admin.locator("main")).to_contain_text(f"#{number}")
    admin.get_by_role("link", name="Leave it as it is").click()
    admin.wait_for_url(f"**/monitor/nodes/{node}/")

    flush()
    admin.get_by_role("link", name="Drift", exact=True).click()
    admin.get_by_role("button", name="Look now").click()
    expect(admin.locator("#drift-progress")).to_have_count(0, timeout=MACHINES_MS)
    missing = admin.locator("tr", has_text="lacks the rule").first
    expect(missing).to_contain_text("BERTH-DNAT")
    missing.get_by_role("button", name="Mend").click()
    expect(admin.locator("main")).to_contain_text("Applied the rules of")
    assert "-j DNAT" in lab.exec("gateway", [*NAT, "-S", "BERTH-DNAT"]).stdout

    admin.get_by_role("link", name="Reports", exact=True).click()
    with admin.expect_download() as waiting:
        admin.get_by_role("link", name="CSV", exact=True).click()
    with waiting.value.path().open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.reader(file))
    assert any(node in row for row in rows), rows
