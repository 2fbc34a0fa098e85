"""Every address of the portal, asked by its owner, by another tenant, by nobody in particular and by staff.

The addresses come from the URL table. One that portal/routes.py does not name fails here with its path.
"""

import json
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.urls import clear_url_caches, path

from accounts.models import User
from portal import urls
from portal.routes import ACCESS, ADMIN, METHODS, Access, Route, routes
from reservations.models import Reservation, WorkspaceVolume
from tests.factories import make_user, profile
from tests.unit.portal.doors import BOOKING, CANARY, Ground, address, make_ground, text_of

pytestmark = pytest.mark.django_db
ROUTES = routes()
PAGES = [route for route in ROUTES if not route.is_api]
OF_API = [route for route in ROUTES if route.is_api and route.access is not Access.NOBODY]
OF_ADMIN = [route for route in ROUTES if route.path.startswith(ADMIN)]
OUR_PAGES = [route for route in PAGES if route not in OF_ADMIN]
CASES = [(route, method) for route in [*OUR_PAGES, *OF_API] for method in route.methods or ("GET",)]
NOTHING_THERE = {"admin/r/<path:content_type_id>/<path:object_id>/", "admin/<url>"}  # 404 for staff, too
SIGNED = {"billing/webhooks/stripe"}  # by a machine, which has no token of a page (tests/unit/billing/test_webhook.py)
BY_LINK = {"accounts/notifications/stop/<str:token>/"}  # the link in a mail is the proof
# 404 for everybody who would be let in
SWITCHED_OFF = SIGNED | {"billing/invoices/<int:pk>/pay/", "accounts/sso/start/", "accounts/sso/callback/"}
NOT_NOW = {"api/v1/reservations/<int:pk>/restart"}  # of one that does not run: 409, with the sentence why
BEFORE_LOG_IN = {"/admin/login/", "/admin/"}
LEAD_OUT = {"admin/login/", "admin/logout/"}
NOT_GIVEN = {403, 405}  # the admin offers no such deed on these rows, to nobody
INCOMPLETE = 422  # a form of the admin about money, of which nothing was filled in


def named(route: Route) -> str:
    return f"/{route.path}"


@pytest.fixture
def ground(owner: User, other: User, staff: User) -> Ground:
    return make_ground(owner, other, staff)


def to_log_in(answer: Any) -> bool:
    """Sent to the log-in page. The admin's own sends on to it, and a log-out of the admin is sent to the admin."""
    return answer.status_code == 302 and answer["Location"].split("?")[0] in {"/accounts/login/", *BEFORE_LOG_IN}


def untouched(ground: Ground) -> bool:
    row = Reservation.objects.get(pk=ground.reservation.pk)
    volume = WorkspaceVolume.objects.select_related("volume").get(pk=ground.volume.pk).volume
    return (row.state, row.wish, volume.state) == ("booked", "run", "detached")


# ---- the table --------------------------------------------------------------------------------------------


def test_every_address_is_somebodys() -> None:
    forgotten = [named(route) for route in ROUTES if route.access is None]

    assert not forgotten, f"say in portal/routes.py whom these are for: {', '.join(forgotten)}"


def test_of_every_address_the_methods_are_known() -> None:
    unknown = [named(route) for route in ROUTES if not route.methods]

    assert not unknown, f"say which methods these answer (require_GET and such): {', '.join(unknown)}"


def test_the_table_names_no_address_that_is_gone() -> None:
    assert sorted((set(ACCESS) | set(METHODS)) - {route.path for route in ROUTES}) == []


@pytest.fixture
def a_new_page() -> Iterator[None]:
    urls.urlpatterns.append(path("new-page/<int:pk>/", lambda request, pk: None))  # type: ignore[arg-type,return-value]
    clear_url_caches()
    yield
    urls.urlpatterns.pop()
    clear_url_caches()


@pytest.mark.usefixtures("a_new_page")
def test_a_new_address_is_found_and_stands_out() -> None:
    (found,) = [route for route in routes() if route.path == "new-page/<int:pk>/"]

    assert (found.access, found.methods, found.answers) == (None, (), {})
    with pytest.raises(CommandError, match="/new-page/<int:pk>/"):
        call_command("routes", "--check")


def test_the_document_is_of_todays_table() -> None:
    call_command("routes", "--check")


def test_the_command_tells_programs_every_address() -> None:
    out = StringIO()
    call_command("routes", "--json", stdout=out)

    rows = {row["path"]: row for row in json.loads(out.getvalue())}

    assert len(rows) == len(ROUTES)
    assert rows["/reservations/<int:pk>/"]["methods"] == ["GET"]
    assert rows["/reservations/<int:pk>/"]["answers"]["another tenant"] == "404"
    assert rows["/admin/"]["access"] == "staff"


# ---- who may what -----------------------------------------------------------------------------------------


def expect(route: Route, method: str, who: str, answer: Any) -> None:
    """The answer is what the table says."""
    word = route.answers[{"other": "another tenant"}.get(who, who)]
    status = answer.status_code
    if word == "log-in":
        assert to_log_in(answer), status
    elif word in {"401", "404"}:
        assert status == int(word)
    elif word == "403":  # by way of the admin's log-in, which sends on to the portal's
        assert status == 403 or to_log_in(answer), status
    elif word == "sent on":
        assert status == 302, status
    elif route.path in NOTHING_THERE | SWITCHED_OFF:
        assert status == 404
    elif route.path in NOT_NOW:
        assert status == 409
    elif route.path.startswith(ADMIN):
        assert status < 400 or status in NOT_GIVEN | {404, INCOMPLETE}, status
        assert not answer.headers.get("Location", "").startswith("/accounts/") or route.path in LEAD_OUT
    else:
        assert status < 400, (status, answer.content[:300])
        # A guest's page is sent on when there is nothing to confirm; any other is answered itself.
        assert not to_log_in(answer) or route.access in {Access.GUEST, Access.EVERYBODY}


@pytest.mark.parametrize(("route", "method"), CASES, ids=[f"{method} {named(route)}" for route, method in CASES])
def test_everybody_gets_what_the_table_says(route: Route, method: str, ground: Ground) -> None:
    ask_as_each(route, method, ground)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("part", sorted({route.path.rsplit("<", 1)[0] for route in OF_ADMIN}))
def test_the_admin_is_for_staff(part: str, method: str, ground: Ground) -> None:
    for route in OF_ADMIN:
        if route.path.rsplit("<", 1)[0] == part:
            ask_as_each(route, method, ground)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_the_api_has_nothing_at_its_root(method: str, api: Any) -> None:
    assert api(method, "/").status_code == 404


def ask_as_each(route: Route, method: str, ground: Ground) -> None:
    assert route.access is not None
    for who in ("anonymous", "other", "staff", "owner"):  # the owner last, who may change what is there
        answer = ground.visit(route, method, who)
        expect(route, method, who, answer)
        if who == "owner" or (who == "staff" and route.access is Access.STAFF):
            continue
        assert CANARY not in text_of(answer), f"{who} reads what the owner has"
        assert untouched(ground), f"{who} changed what the owner has"


@pytest.mark.parametrize("page", ["", "accounts/user/", "reservations/reservation/", "reservations/service/"])
def test_staff_see_the_admins_pages(page: str, ground: Ground) -> None:
    assert ground.browser("staff").get(f"/admin/{page}").status_code == 200


@pytest.mark.parametrize("who", ["owner", "other"])
def test_customers_are_refused_by_the_admin_in_the_end(who: str, ground: Ground) -> None:
    assert ground.browser(who).get("/admin/reservations/reservation/", follow=True).status_code == 403


def test_an_account_that_was_closed_is_nobody_in_particular(ground: Ground) -> None:
    browser = ground.browser("owner")
    User.objects.filter(pk=ground.owner.pk).update(is_active=False)

    assert to_log_in(browser.get(f"/reservations/{ground.reservation.pk}/"))


# ---- what is somebody else's, in a body -------------------------------------------------------------------


def test_somebody_elses_volume_cannot_be_booked_on_the_page(ground: Ground) -> None:
    profile("C3")
    form = BOOKING | {"storage": "C3", "volume": str(ground.volume.pk)}

    answers = [ground.browser("other").post(f"/reservations/{page}/", form) for page in ("new", "quote")]

    assert [answer.status_code for answer in answers] == [422, 200]
    for answer in answers:
        assert answer.context["form"].errors["volume"] == ["There is no such volume in this workspace."]
        assert CANARY not in answer.content.decode()
    assert Reservation.objects.count() == 1


@pytest.mark.parametrize("how", ["name", "number"])
def test_somebody_elses_volume_cannot_be_booked_through_the_api(how: str, ground: Ground, api: Any) -> None:
    from tests.factories import make_token

    volume = ground.volume.name if how == "name" else str(ground.volume.pk)
    body = {"service": "nginx", "hours": 1, "storage": "C3", "volume": volume}

    answer = api("POST", "/reservations", body, token=make_token(ground.other))

    assert answer.status_code == 422
    assert answer.json()["errors"] == {"volume": "There is no such volume in this workspace."}
    assert Reservation.objects.count() == 1


def test_the_key_of_somebody_elses_booking_is_another_key(ground: Ground, api: Any) -> None:
    from tests.factories import make_token

    body, key = {"service": "nginx", "hours": 1, "name": CANARY}, {"Idempotency-Key": "the same"}
    first = api("POST", "/reservations", body, **key).json()

    again = api("POST", "/reservations", body, token=make_token(ground.other), **key).json()

    assert again["id"] != first["id"]
    assert Reservation.objects.get(pk=again["id"]).workspace.personal_of == ground.other


def test_a_member_of_two_workspaces_sees_both_and_nobody_elses(ground: Ground) -> None:
    from accounts.models import Membership

    member = make_user("bob")
    Membership.objects.create(workspace=ground.reservation.workspace, user=member)
    ground.other = member

    assert ground.browser("other").get(f"/reservations/{ground.reservation.pk}/").status_code == 200


# ---- methods ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["anonymous", "staff", "owner"])
@pytest.mark.parametrize("pages", [OUR_PAGES, OF_ADMIN], ids=["ours", "the admin"])
def test_no_page_changes_anything_without_its_token(pages: list[Route], who: str, ground: Ground) -> None:
    browser = ground.browser(who, enforce_csrf_checks=True)
    for route in (route for route in pages if route.path not in SIGNED | BY_LINK):
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            answer = browser.generic(method, address(route, ground))

            assert answer.status_code in {403, 405}, f"{method} {named(route)}"
    assert untouched(ground)


def test_a_page_that_is_sent_with_its_token_is_taken(ground: Ground) -> None:
    browser = ground.browser("owner", enforce_csrf_checks=True)
    where = f"/reservations/{ground.reservation.pk}/delete/"
    token = browser.get(where).context["csrf_token"]

    assert browser.post(where, {"csrfmiddlewaretoken": str(token)}).status_code == 302
    assert not untouched(ground)


@pytest.mark.parametrize("route", OF_API, ids=named)
def test_a_browsers_session_opens_nothing_of_the_api(route: Route, ground: Ground) -> None:
    """The API needs no CSRF token because cookies are nothing to it."""
    browser = ground.browser("owner", enforce_csrf_checks=True)
    for method in route.methods:
        answer = browser.generic(method, address(route, ground), "{}", "application/json")

        assert answer.status_code == (200 if route.access is Access.EVERYBODY else 401)
        assert untouched(ground)


@pytest.mark.parametrize("route", OF_API, ids=named)
def test_the_api_names_the_methods_that_it_answers(route: Route, ground: Ground) -> None:
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "NONSENSE"} - set(route.methods):
        answer = ground.visit(route, method, "owner")

        assert answer.status_code == 405
        assert answer["Content-Type"] == "application/problem+json"
        assert answer.json()["code"] == "method_not_allowed"
        assert set(answer["Allow"].split(", ")) == set(route.methods)


@pytest.mark.parametrize("route", OUR_PAGES, ids=named)
def test_a_page_refuses_the_methods_that_it_does_not_answer(route: Route, ground: Ground) -> None:
    for method in {"POST", "PATCH", "DELETE", "NONSENSE"} - set(route.methods):
        answer = ground.visit(route, method, "owner")

        # allauth's views look at the person before the method.
        assert answer.status_code == 405 or (route.path.startswith("accounts/") and answer.status_code < 500)


@pytest.mark.parametrize("route", [*OUR_PAGES, *OF_API], ids=named)
def test_head_is_get_without_the_body_and_options_tell_nothing(route: Route, ground: Ground) -> None:
    options = ground.visit(route, "OPTIONS", "owner")
    head = ground.visit(route, "HEAD", "owner")
    get = ground.visit(route, "GET", "owner")

    assert options.status_code in {200, 302, 403, 404, 405}
    assert CANARY not in text_of(options)
    assert text_of(head) == ""
    assert head.status_code == get.status_code or route.path.startswith("accounts/")


def test_what_is_not_in_the_api_is_a_problem_too(api: Any) -> None:
    for method in ("GET", "POST", "DELETE"):
        answer = api(method, "/nothing/here")

        assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")
        assert answer.json()["code"] == "not_found"
