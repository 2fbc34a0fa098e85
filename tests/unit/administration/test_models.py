"""Every model in the admin: it is there, it is found and looked at in few queries, and shows no secret."""

import re
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.apps import apps
from django.contrib import admin
from django.db import connection
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext

from accounts.models import ApiToken, User
from administration.base import BerthAdmin, ReadOnlyAdmin
from administration.navigation import GROUPS
from compute.models import Node
from reservations.models import Reservation, Service
from tests.factories import make_user
from tests.unit.administration.conftest import desk_of
from tests.unit.administration.rows import ONE_OR_THREE, SECRETS, make_rows

pytestmark = pytest.mark.django_db
MODELS = sorted(admin.site._registry, key=lambda model: model._meta.label)
MOST_QUERIES = 40
PARTITIONED = "its key is two columns, which the admin cannot name; the charts of /monitor/ show it"
NOT_SHOWN = {
    "account.EmailConfirmation": "not used: confirmations are signed, not stored",
    "accounts.Farewell": "a mail that waits for its server, with the address of somebody who has left",
    "auth.Permission": "Django makes them; they are given on the pages of users and groups",
    "contenttypes.ContentType": "Django's own list of models",
    "sessions.Session": "a row's key is the session itself; usersessions shows who is logged in where",
    "socialaccount.SocialApp": "not used: the provider is in the settings alone",
    "socialaccount.SocialToken": "not used: no token of the provider is kept",
    **{
        f"compute.{name}": PARTITIONED
        for name in ("Sample", "ContainerSample", "NodeMinute", "NodeHour", "ContainerMinute", "ContainerHour")
    },
}
# What these pages may write; everything else is only looked at.
WRITTEN_BY_HAND = {
    "accounts.Membership",
    "accounts.User",
    "accounts.Workspace",
    "auth.Group",
    "compute.Gateway",
    "compute.Node",
    "compute.StorageServer",
    "reservations.Service",
    "reservations.ServiceVersion",
    "reservations.Size",
    "reservations.StorageProfile",
}


def where(model: Any, *more: object) -> str:
    return "/".join(["/admin", model._meta.app_label, model._meta.model_name, *map(str, more), ""])


def test_every_model_is_shown_or_has_its_reason() -> None:
    models = {model._meta.label for model in apps.get_models() if not model._meta.proxy}
    shown = {model._meta.label for model in MODELS}

    assert shown & set(NOT_SHOWN) == set()
    assert models - shown == set(NOT_SHOWN)


def test_every_model_that_is_shown_is_in_the_sidebar_and_has_our_page() -> None:
    listed = [entry.to for group in GROUPS for entry in group.entries if ":" not in entry.to]

    assert sorted(listed) == sorted(model._meta.label_lower for model in MODELS)
    assert [model for model, page in admin.site._registry.items() if not isinstance(page, BerthAdmin)] == []


def test_what_is_not_written_by_hand_is_read_only() -> None:
    writable = {model._meta.label for model in MODELS if not isinstance(admin.site._registry[model], ReadOnlyAdmin)}

    assert writable == WRITTEN_BY_HAND


def test_every_page_of_every_model_answers_and_shows_no_secret(desk: Client) -> None:
    """Lists, searches, filters, dates, a row, its history, the form for a new one."""
    make_rows(2)  # a filter with one choice is not shown
    secrets = hidden()
    for model in MODELS:
        row = model._default_manager.order_by("pk").last()
        assert row is not None, f"there is no {model.__name__} to look at"
        paths = [*lists(model), where(model, quoted(row), "change"), where(model, quoted(row), "history")]
        if model._meta.label in WRITTEN_BY_HAND - {"compute.Node"}:
            paths.append(where(model, "add"))
        for path in paths:
            answer = desk.get(path)
            assert answer.status_code == 200, path
            text = answer.content.decode()
            assert [name for name, secret in secrets.items() if secret in text] == [], path
            assert inline(text) == [], path


EXCLUDED = [(m, field) for m in MODELS for field in admin.site._registry[m].exclude or ()]


@pytest.mark.parametrize(("model", "field"), EXCLUDED, ids=lambda of: getattr(of, "__name__", of))
@pytest.mark.parametrize("lookup", ["", "__startswith", "__gt", "__isnull", "__secret__startswith"])
def test_a_field_that_is_hidden_is_not_read_by_filtering_either(
    lookup: str, model: Any, field: str, desk: Client
) -> None:
    assert desk.get(f"{where(model)}?{field}{lookup}=1").status_code == 400


def test_what_is_hidden_is_known_and_what_is_shown_is_filtered_by(desk: Client) -> None:
    assert {(ApiToken, "digest"), (Authenticator, "data"), (UserSession, "session_key")} <= set(EXCLUDED)
    assert desk.get(f"{where(UserSession)}?user__id__exact=1").status_code == 200
    assert desk.get(f"{where(User)}?password__startswith=a").status_code == 400


def test_the_way_to_a_row_is_told_as_the_sidebar_tells_it(desk: Client) -> None:
    make_rows(1)
    row = Node.objects.get()

    said = crumbs(desk.get(where(Node, row.pk, "change")).content.decode())
    services = crumbs(desk.get(where(Service)).content.decode())

    assert said == ["Machines", "Nodes", row.name]
    assert services == ["Catalogue", "Services"]


def test_fields_are_named_as_one_writes_them_and_the_search_has_a_label(desk: Client) -> None:
    make_rows(1)
    page = desk.get(where(Node, Node.objects.get().pk, "change")).content.decode()

    assert "Engine URL" in page
    assert "TLS expires at" in page
    assert re.search(r'<input[^>]*aria-label="Search nodes"', desk.get(where(Node)).content.decode())


def test_lists_and_rows_ask_as_often_for_fifty_rows_as_for_one(desk: Client) -> None:
    make_rows(1)
    few = {model: asked(desk, where(model)) for model in MODELS}
    rows = {
        model: asked(desk, where(model, quoted(model._default_manager.order_by("pk").last()), "change"))
        for model in MODELS
    }
    make_rows(49)

    for model in MODELS:
        if model not in ONE_OR_THREE:
            assert model._default_manager.count() >= 50, model
        assert asked(desk, where(model)) <= few[model] + 1, model  # one for the dates of a year instead of a day
        assert few[model] <= MOST_QUERIES, model
        assert rows[model] <= MOST_QUERIES, model


@pytest.mark.parametrize("model", [m for m in MODELS if m._meta.label not in WRITTEN_BY_HAND], ids=lambda m: m.__name__)
def test_what_the_portal_writes_is_written_by_nobody_else(model: Any, desk: Client) -> None:
    make_rows(1)
    row = model._default_manager.order_by("pk").last()
    before = list(model._default_manager.order_by("pk").values())

    assert desk.post(where(model, quoted(row), "change"), {"_save": "Save"}).status_code == 403
    assert desk.post(where(model, quoted(row), "delete"), {"post": "yes"}).status_code == 403
    if model.__name__ not in {"Rate", "Discount"}:  # these begin on a page of their own
        assert desk.post(where(model, "add"), {}).status_code == 403
        assert desk.get(where(model, "add")).status_code == 403

    after = list(model._default_manager.order_by("pk").values())
    assert after == before


def test_staff_without_permissions_see_nothing_of_it() -> None:
    make_rows(1)
    desk = desk_of(make_user("clerk", is_staff=True))

    start = desk.get("/admin/").content.decode()

    assert re.findall(r'href="(/admin/\w+/\w+/)"', start) == []
    for model in MODELS:
        row = model._default_manager.order_by("pk").last()
        for path in (where(model), where(model, quoted(row), "change"), where(model, quoted(row), "history")):
            assert desk.get(path).status_code == 403, path


def test_visitors_are_led_to_the_log_in_and_customers_are_refused() -> None:
    customer = desk_of(make_user("ada"))
    for model in MODELS:
        assert "/login/" in Client().get(where(model))["Location"]
        assert customer.get(where(model), follow=True).status_code == 403


# ---- what the tests above ask ---------------------------------------------------------------------------------------


def quoted(row: Any) -> str:
    return str(admin.utils.quote(row.pk))


def hidden() -> dict[str, str]:
    """Everything secret that there is now, by name."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT credentials FROM reservations_reservation")
        sealed = [str(row[0]) for row in cursor.fetchall()]
    secrets = {f"sealed {number}": text for number, text in enumerate(sealed)}
    for reservation in Reservation.objects.all():
        secrets |= {f"password of {reservation}": value for value in reservation.credentials.values()}
        secrets[f"claim of {reservation}"] = str(reservation.claim_token or "no claim at all")
    secrets |= {f"digest of {token}": token.digest for token in ApiToken.objects.all()}
    secrets |= {f"session {session.pk}": session.session_key for session in UserSession.objects.all()}
    secrets |= {f"password of {user}": user.password for user in User.objects.all()}
    assert Authenticator.objects.exists()
    assert any(value for value in secrets.values())
    return {**secrets, **SECRETS}


def inline(text: str) -> list[str]:
    """What the content security policy would refuse."""
    scripts = [tag for tag in re.findall(r"<script\b[^>]*>", text) if "src=" not in tag and "json" not in tag]
    return scripts + re.findall(r"<style\b|<[^<>]+\sstyle=|<[^<>]+\son\w+=", text)


def crumbs(text: str) -> list[str]:
    found = re.findall(r'<a href="[^"]*"\s+class="align-middle[^>]*>([^<]*)<', text)
    return [title.strip() for title in found]


def asked(desk: Client, path: str) -> int:
    with CaptureQueriesContext(connection) as queries:
        assert desk.get(path).status_code == 200, path
    return len(queries)


def lists(model: Any) -> list[str]:
    """The list; searched; by each of its filters; by its dates; a page that is not there."""
    page = admin.site._registry[model]
    found = [where(model), f"{where(model)}?q=7", f"{where(model)}?q=%00%27", f"{where(model)}?p=99999"]
    if page.date_hierarchy:
        found.append(f"{where(model)}?{page.date_hierarchy}__year=2026")
    request = RequestFactory().get(where(model))
    request.user = User.objects.get(username="boss")
    changes = page.get_changelist_instance(request)
    assert changes.filter_specs or not page.list_filter, model
    for spec in changes.filter_specs:
        choices = list(spec.choices(changes))
        found += [where(model) + choice["query_string"] for choice in choices[1:3] if "query_string" in choice]
    return found
