"""The content security policy in a real browser: what our pages need is allowed, and what is injected is not."""

import os
import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, Response, expect

from tests.browser import pages
from tests.live import Customer, RunningStack, wait_for

SignUp = Callable[[Page], Customer]
NewPage = Callable[..., Page]

OPEN_TO_ALL = ["/", "/accounts/login/", "/accounts/signup/", "/accounts/password/reset/", "/api/docs"]
OF_MEMBERS = [
    "/reservations/",
    "/reservations/new/",
    "/billing/",
    "/accounts/email/",
    "/accounts/password/change/",
    "/accounts/mfa/",
    "/accounts/mfa/totp/activate/",
    "/accounts/mfa/webauthn/add/",
    "/accounts/sessions/",
    "/accounts/tokens/",
]
OF_THE_ADMIN = [
    "/admin/",
    "/admin/accounts/user/",
    "/admin/accounts/user/add/",
    "/admin/accounts/auditentry/",
    "/admin/billing/rate/add/",
    "/admin/compute/node/",
    "/admin/reservations/reservation/",
    "/admin/reservations/service/add/",
    "/admin/monitoring/incident/",
]
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
    window.violations.push(`${event.effectiveDirective} ${event.blockedURI} ${event.sourceFile || ""}`);
});
"""


@pytest.fixture
def watched(page: Page) -> Iterator[Page]:
    """A page that notes what the policy forbids; the console is watched by `page` itself."""
    page.add_init_script(WATCH)
    yield page
    assert violations(page) == []


def violations(page: Page) -> list[str]:
    found: list[str] = page.evaluate("window.violations")
    return found


def check(page: Page, path: str) -> None:
    """The page, with all that it loads: nothing was forbidden, and nothing came from elsewhere."""
    asked: list[str] = []

    def note(answer: Response) -> None:
        asked.append(answer.url)

    page.on("response", note)
    answer = page.goto(path)
    page.wait_for_load_state("networkidle")
    page.remove_listener("response", note)
    assert answer is not None
    assert answer.ok, path
    assert "script-src 'self';" in answer.headers["content-security-policy"]
    assert violations(page) == [], path
    base = re.match(r"https?://[^/]+", page.url)
    assert base
    ours = (base.group(), "data:", os.path.dirname(live_address(page)) or base.group())
    assert [url for url in asked if not url.startswith(ours)] == [], path


def live_address(page: Page) -> str:
    """Where the page hears of changes: our own process, at a port of its own on the machine of the tests."""
    found = page.locator('meta[name="berth-live"]')
    return str(found.get_attribute("content")) if found.count() else ""


def test_open_pages_need_nothing_that_is_forbidden(watched: Page) -> None:
    for path in OPEN_TO_ALL:
        check(watched, path)


def test_members_pages_need_nothing_that_is_forbidden(watched: Page, sign_up_in: SignUp) -> None:
    sign_up_in(watched)
    for path in OF_MEMBERS:
        check(watched, path)


def test_the_admin_and_the_monitor_need_nothing_that_is_forbidden(
    watched: Page, sign_up_in: SignUp, stack: RunningStack
) -> None:
    person = sign_up_in(watched)
    watched.goto("/accounts/mfa/totp/activate/")
    give_factor(stack, person)

    for path in ("/monitor/", *OF_THE_ADMIN):
        check(watched, path)

    watched.goto("/admin/accounts/user/")  # rows are chosen, an action is offered, the filters come as a sheet
    watched.locator("#result_list tbody input.action-select").first.check()
    expect(watched.locator("#changelist-actions")).to_contain_text("1 of")
    watched.locator("a:visible", has_text="Filters").click()
    expect(watched.locator("#changelist-filter")).to_be_visible()
    watched.goto("/admin/accounts/membership/add/")  # a field that asks the server while one types
    watched.locator(".field-workspace .select2-selection").click()
    expect(watched.locator(".select2-results__option").first).to_be_visible()
    watched.goto("/admin/accounts/workspace/")  # rows below another are added
    watched.locator("#result_list tbody th a, #result_list tbody td a").first.click()
    watched.wait_for_url("**/change/")
    expect(watched.locator(".add-row").first).to_be_visible()
    before = watched.locator(".form-row:not(.template)").count()
    watched.locator(".add-row").first.click()
    expect(watched.locator(".form-row:not(.template)")).to_have_count(before + 1)


def test_the_admin_is_dark_and_light_as_everything_else(watched: Page, sign_up_in: SignUp, stack: RunningStack) -> None:
    give_factor(stack, sign_up_in(watched))
    watched.goto("/admin/")

    watched.locator("#nav-sidebar .cursor-pointer", has=watched.get_by_text("@")).last.click()
    watched.get_by_text("Dark", exact=True).click()

    expect(watched.locator("html.dark")).to_be_attached()
    watched.goto("/reservations/")
    assert watched.evaluate("document.documentElement.dataset.bsTheme") == "dark"
    watched.goto("/admin/")
    expect(watched.locator("html.dark")).to_be_attached()


def test_markup_that_gets_into_the_admin_runs_nothing(
    new_page: NewPage, sign_up_in: SignUp, stack: RunningStack
) -> None:
    """Alpine reads attributes; its build for strict policies gives them no way to the window."""
    page = new_page(errors=("Alpine", "CSP Parser", "prohibited", "Undefined variable", "Content Security Policy"))
    page.add_init_script(WATCH)
    give_factor(stack, sign_up_in(page))
    page.goto("/admin/")
    page.wait_for_load_state("networkidle")

    page.evaluate("""() => {
        const at = (html) => document.querySelector("#content").insertAdjacentHTML("beforeend", html);
        at('<p id="alive" x-data="{said: 1 + 1}" x-text="said"></p>');
        at('<p x-data="{}" x-init="window.injected = 1"></p>');
        at('<p x-data="{}" x-init="$el.ownerDocument.defaultView.injected = 2"></p>');
        at(`<p x-data="{}" x-init="constructor.constructor('window.injected = 3')()"></p>`);
        at(`<p x-data="{}" x-html="'<img src=x onerror=window.injected=4>'"></p>`);
    }""")

    expect(page.locator("#alive")).to_have_text("2")  # so Alpine has read what was put in
    assert page.evaluate("window.injected") is None


def give_factor(stack: RunningStack, person: Customer) -> None:
    """Make somebody staff, whose session was opened with a second factor."""
    script = f"""
import time
from importlib import import_module
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.contrib.sessions.models import Session
from accounts.models import User
user = User.objects.get(username={person.username!r})
User.objects.filter(pk=user.pk).update(is_staff=True, is_superuser=True)
factor = Authenticator.objects.create(user=user, type="totp", data={{"secret": "x"}})
store = import_module(settings.SESSION_ENGINE).SessionStore
for row in Session.objects.all():
    if row.get_decoded().get("_auth_user_id") == str(user.pk):
        session = store(row.session_key)
        proof = {{"method": "mfa", "type": "totp", "id": factor.pk, "at": time.time(), "reauthenticated": True}}
        session["account_authentication_methods"] = [*session.get("account_authentication_methods", []), proof]
        session["account_authentication_methods_user"] = str(user.pk)
        session.save()
"""
    stack.run_manage("shell", "-c", script)


def test_htmx_the_form_and_the_theme_work_under_it(watched: Page, sign_up_in: SignUp) -> None:
    sign_up_in(watched)
    pages.fill_in(watched, "nginx", name="under a policy")
    expect(watched.locator("#quote .price")).to_be_visible()
    watched.locator("label:has(input[name=storage][value=C3])").click()
    expect(watched.locator("[data-when^='storage=']").first).to_be_attached()
    watched.locator("label:has(input[name=storage][value=C1])").click()

    path = pages.reserve(watched)
    pages.expect_running(watched)
    watched.locator("[data-theme-toggle]").first.click()

    assert watched.evaluate("document.documentElement.dataset.bsTheme") in {"dark", "light"}
    assert violations(watched) == []
    pages.delete(watched, path)


def test_the_documents_page_shows_the_api_and_asks_it(watched: Page) -> None:
    check(watched, "/api/docs")

    expect(watched.locator(".opblock-summary", has_text="/api/v1/reservations").first).to_be_visible()
    watched.locator(".opblock-summary", has_text="/api/v1/sizes").click()
    expect(watched.locator(".responses-table").first).to_contain_text("application/problem+json")


def test_what_is_injected_does_nothing(new_page: NewPage, sign_up_in: SignUp) -> None:
    page = new_page(expected=404, errors=("Content Security Policy",))
    page.add_init_script(WATCH)
    sign_up_in(page)
    page.goto("/reservations/")

    page.evaluate("""() => {
        const at = (html) => document.querySelector("main").insertAdjacentHTML("beforeend", html);
        at('<img src="/nothing.png" onerror="window.injected = 1">');
        at('<p id="styled" style="position: fixed">x</p>');
        const inline = document.createElement("script");
        inline.textContent = "window.injected = 2";
        document.body.append(inline);
        const foreign = document.createElement("script");
        foreign.src = "https://evil.example/x.js";
        document.body.append(foreign);
        const form = document.createElement("form");
        form.action = "https://evil.example/";
        document.body.append(form);
        form.submit();
    }""")
    wait_for(lambda: page.evaluate("window.violations.length") >= 5, seconds=15)  # waiting inside the page is an eval

    kinds = {line.split()[0] for line in violations(page)}
    assert {"script-src-elem", "script-src-attr", "style-src-attr", "form-action"} <= kinds
    assert page.evaluate("window.injected") is None
    assert page.evaluate("getComputedStyle(document.querySelector('#styled')).position") == "static"
