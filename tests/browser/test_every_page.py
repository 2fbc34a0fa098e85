"""What holds on every page of a customer: nothing that axe-core finds, no scrolling sideways, not too heavy."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from lab.stack.layout import REPO
from portal.routes import Access, routes
from tests.browser import pages
from tests.live import Api, Customer, RunningStack

SignUp = Callable[[Page], Customer]
NewPage = Callable[..., Page]

AXE: Path = REPO / "node_modules/axe-core/axe.min.js"
OF_OTHERS = {"api/docs"}  # Swagger's own page, whose colours are not ours
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
VISITED = ("/", "/help/", "/help/nginx/", "/accounts/login/", "/accounts/signup/", "/accounts/password/reset/")
WIDTHS = (360, 2560)
HEAVIEST_BYTES = 300_000
NO_PAGE = (".csv", ".json", ".ics", ".html", "/csv", "/pdf", "/series", "/download/", "healthz", "readyz", "metrics")


def addresses(reservation: str) -> Iterator[str]:
    """Every page that a customer may open, with the reservation in its address."""
    for route in routes():
        path = route.path.replace("reservations/<int:pk>/", f"reservations/{reservation}/")
        shown = route.access in {Access.EVERYBODY, Access.MEMBER} or (route.access == Access.OWNER and "<" not in path)
        if route.path in OF_OTHERS:
            continue
        if "GET" in route.methods and shown and "<" not in path and not route.is_api and not path.endswith(NO_PAGE):
            yield f"/{path}"


def is_page(page: Page, path: str) -> bool:
    """Open it; whether it is a page: what is swapped into another, or leads elsewhere, is none."""
    answer = page.goto(path)
    if answer is None or not answer.ok or "text/html" not in answer.headers.get("content-type", ""):
        return False
    return "<html" in answer.text()[:2000] and page.url.split("?")[0].endswith(path)


def violations(page: Page) -> list[str]:
    page.evaluate(AXE.read_text())  # by the debugger: the page's own policy lets no script in
    options = json.dumps({"runOnly": RULES, "resultTypes": ["violations"]})
    found: list[dict[str, Any]] = page.evaluate(f"axe.run(document, {options}).then((r) => r.violations)")
    return [f"{one['id']}: {one['help']}: {node['html'][:200]}" for one in found for node in one["nodes"]]


def too_wide(page: Page) -> int:
    """By how many pixels it scrolls sideways."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def faults_of(page: Page) -> Iterator[str]:
    """In light and dark, narrow and wide."""
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        page.wait_for_load_state("networkidle")
        yield from (f"{theme}: {text}" for text in violations(page))
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        if over := too_wide(page):
            yield f"scrolls sideways by {over} pixels at {width}"


def test_no_page_of_a_customer_has_a_fault(
    new_page: NewPage, sign_up_in: SignUp, new_api: Callable[..., Api], stack: RunningStack
) -> None:
    first = new_page(expected=404)  # of addresses that lead on what this customer has not
    customer = sign_up_in(first)
    path = pages.book(first, "redis", name="every page")
    number = path.strip("/").split("/")[-1]
    looked, faults = 0, []
    try:
        pages.expect_running(first)
        for address in addresses(number):
            if not is_page(first, address):
                continue
            looked += 1
            faults += [f"{address} {fault}" for fault in faults_of(first)]
            first.set_viewport_size({"width": 1280, "height": 900})
    finally:
        new_api(customer.username).delete(f"/reservations/{number}")

    assert looked >= 25, "the pages were not found"
    assert not faults, "\n".join(faults)


def test_no_page_of_a_visitor_has_a_fault(new_page: NewPage) -> None:
    visitor = new_page(expected=404)
    faults = []
    for address in (
        "/",
        "/help/",
        "/help/nginx/",
        "/accounts/login/",
        "/accounts/signup/",
        "/accounts/password/reset/",
    ):
        assert is_page(visitor, address), address
        faults += [f"{address} {fault}" for fault in faults_of(visitor)]
        visitor.set_viewport_size({"width": 1280, "height": 900})
    visitor.goto("/there-is-no-such-page")
    faults += [f"404 {fault}" for fault in faults_of(visitor)]

    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("address", ["/", "/accounts/login/"])
def test_the_first_load_of_an_open_page_is_light(address: str, new_page: NewPage) -> None:
    assert weight(new_page(), address) <= HEAVIEST_BYTES


def test_the_first_load_of_a_customers_pages_is_light(new_page: NewPage, sign_up_in: SignUp) -> None:
    """Each in a browser that has nothing in its cache."""
    page = new_page()
    sign_up_in(page)
    path = pages.book(page, "nginx")
    pages.expect_running(page)
    cookies = page.context.cookies()
    for address in ("/reservations/", "/reservations/new/", path, "/billing/"):
        fresh = new_page()
        fresh.context.add_cookies(cookies)  # type: ignore[arg-type]  # what one gives the other takes
        assert weight(fresh, address) <= HEAVIEST_BYTES, address
    pages.delete(page, path)


def weight(page: Page, address: str) -> int:
    """Bytes that came over the wire, headers included, until nothing more came."""
    came: list[float] = []
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.on("Network.loadingFinished", lambda event: came.append(event["encodedDataLength"]))
    page.goto(address)
    page.wait_for_load_state("networkidle")
    assert came
    return int(sum(came))
