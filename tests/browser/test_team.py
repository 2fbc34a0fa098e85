"""The team: an owner invites by mail, the invited signs up and books, a manager extends it, and the quota refuses."""

import re
import secrets
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.browser import pages
from tests.live import Customer, RunningStack, wait_for

SignUp = Callable[[Page], Customer]
NewPage = Callable[..., Page]
INVITATION = re.compile(r"/workspaces/join/[\w-]+/")
CONFIRMATION = re.compile(r"/accounts/confirm-email/[^\s/]+/")


def link_in_mail(stack: RunningStack, address: str, wanted: re.Pattern[str]) -> str:
    """Of the mail to this address that has such a link."""

    def found() -> str:
        for mail in Path(stack.env["BERTH_MAIL"].removeprefix("file:")).iterdir():
            text = mail.read_text().replace("=\n", "")
            if f"To: {address}" in text and (link := wanted.search(text)):
                return link.group(0)
        return ""

    return wait_for(found, seconds=20)


def invite(page: Page, address: str, role: str = "member") -> None:
    page.click("a:has-text('Invite')")
    page.fill("input[name=email]", address)
    page.check(f"input[name=role][value={role}]")
    page.click("button:has-text('Send invitation')")
    expect(page.locator("main")).to_contain_text(f"An invitation was sent to {address}")


def come(page: Page, stack: RunningStack, address: str) -> Customer:
    """Follows the link of the mail, signs up with the address, confirms it and joins."""
    name = f"b{secrets.token_hex(5)}"
    customer = Customer(name, address, secrets.token_urlsafe(12))
    page.goto(link_in_mail(stack, address, INVITATION))
    page.click("main a:has-text('Sign up')")
    page.fill("input[name=username]", customer.username)
    page.fill("input[name=email]", customer.email)
    page.fill("input[name=password1]", customer.password)
    page.fill("input[name=password2]", customer.password)
    page.click("form:has(input[name=password2]) [type=submit]")
    expect(page.locator("main")).to_contain_text("no confirmed address")
    page.goto(link_in_mail(stack, address, CONFIRMATION))
    page.click("main form [type=submit]")
    page.click("button:has-text('Join')")
    page.wait_for_url(re.compile(r"/workspaces/\d+/$"))
    return customer


def test_the_team_invites_books_extends_and_is_refused_by_its_quota(
    page: Page, new_page: NewPage, sign_up_in: SignUp, stack: RunningStack
) -> None:
    sign_up_in(page)
    name, suffix = f"Crew {secrets.token_hex(3)}", secrets.token_hex(4)
    page.goto("/workspaces/")
    page.click("main a:has-text('New workspace')")
    page.fill("input[name=name]", name)
    page.click("button:has-text('Create workspace')")
    expect(page.locator("h1")).to_have_text(name)
    home = re.sub(r"^https?://[^/]+", "", page.url)
    with stack.database() as database:  # as an admin does
        number = home.strip("/").split("/")[-1]
        database.execute("UPDATE accounts_workspace SET max_reservations = 1 WHERE id = %s", [number])

    # A member and a manager are invited, and come by the mail's link.
    addresses = {role: f"{role}-{suffix}@example.org" for role in ("member", "manager")}
    for role, address in addresses.items():
        page.goto(home)
        invite(page, address, role)
    member_page, manager_page = new_page(), new_page()
    member = come(member_page, stack, addresses["member"])
    come(manager_page, stack, addresses["manager"])

    # The member books for the workspace.
    path = pages.book(member_page, "nginx", name="our site")
    pages.expect_running(member_page)
    expect(member_page.locator("main")).to_contain_text(f"{name} · {member.username}")

    # The manager sees it and lets it end later.
    manager_page.goto(path)
    expect(manager_page.locator("#delete-link")).to_be_visible()
    before = manager_page.locator(".facts").first.inner_text()
    manager_page.click("#extend-link")
    manager_page.click("main form button[type=submit]")
    manager_page.wait_for_url(re.compile(rf"{path}$"))
    expect(manager_page.locator("main")).to_contain_text("was extended")
    assert manager_page.locator(".facts").first.inner_text() != before

    # One reservation is the whole quota: the next is refused, whoever books it.
    manager_page.goto(home)
    expect(manager_page.locator("main")).to_contain_text("1 of 1 in use")
    refused = new_page(expected=422)
    refused.context.add_cookies(manager_page.context.cookies())  # type: ignore[arg-type]  # what it gave is what it takes
    pages.fill_in(refused, "nginx")
    pages.press_reserve(refused)
    expect(refused.locator("main")).to_contain_text(f"Over the quota of {name}")

    # Who is removed sees nothing of it any more.
    cookies = member_page.context.cookies()
    member_page.goto("about:blank")  # an open page would ask on and be told that there is no such thing
    page.goto(home)
    page.click(f"a:has-text('Remove {member.username}')")
    page.click("button:has-text('Remove')")
    expect(page.locator("main")).to_contain_text(f"{member.username} is out of {name}")
    gone = new_page(expected=404)
    gone.context.add_cookies(cookies)  # type: ignore[arg-type]
    answer = gone.goto(path)
    assert answer is not None
    assert answer.status == 404
    pages.delete(page, path)


def test_switching_needs_no_script_and_no_mouse(new_page: NewPage, sign_up_in: SignUp) -> None:
    page = new_page(javascript=False, width=360)
    customer = sign_up_in(page)
    page.goto("/workspaces/new/")
    page.fill("input[name=name]", "Lab")
    page.press("input[name=name]", "Enter")
    expect(page.locator("h1")).to_have_text("Lab")

    page.goto("/reservations/new/")
    page.focus(".workspace-button")
    page.keyboard.press("Enter")
    page.focus(f".menu-list button:has-text('{customer.username}')")
    page.keyboard.press("Enter")

    page.wait_for_url("**/reservations/new/")
    expect(page.locator("main")).to_contain_text(f"What you book from now on is for {customer.username}")
    expect(page.locator("#booking-for option[selected]")).to_have_text(customer.username)
