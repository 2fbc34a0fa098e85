"""API tokens: who makes them, for what and for how long, and what is seen of them."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError
from django.test import Client
from django.utils import timezone

from accounts import actions
from accounts.models import ApiToken, AuditEntry, User
from tests.factories import PASSWORD, make_token, make_user
from tests.unit.accounts.conftest import log_in

pytestmark = pytest.mark.django_db
FORM = {"name": "laptop", "scope": "all", "days": "90"}


@pytest.fixture
def ada() -> User:
    return make_user("ada")


@pytest.fixture
def browser(ada: User) -> Client:
    """Logged in, and confirmed a moment ago."""
    client = Client()
    log_in(client, ada)
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    return client


def test_there_are_none_at_first(browser: Client) -> None:
    page = browser.get("/accounts/tokens/").content.decode()

    assert "No tokens" in page
    assert "/accounts/tokens/new/" in page


def test_a_token_is_shown_once_and_works(browser: Client, ada: User) -> None:
    answer = browser.post("/accounts/tokens/new/", FORM)
    secret = answer.context["secret"]

    assert secret in answer.content.decode()
    assert "no-store" in answer["Cache-Control"]
    token = ApiToken.objects.get(user=ada)
    assert token.digest == ApiToken.digest_of(secret)
    assert token.scopes == ["read", "write"]
    assert token.expires_at
    assert timedelta(days=89) < token.expires_at - timezone.now() <= timedelta(days=90)
    page = browser.get("/accounts/tokens/").content.decode()
    assert "laptop" in page
    assert token.hint in page
    assert secret not in page
    assert ApiToken.objects.find(secret, timezone.now()) == token


def test_making_one_asks_for_the_password_again(ada: User) -> None:
    client = Client()
    log_in(client, ada)

    for answer in (client.get("/accounts/tokens/new/"), client.post("/accounts/tokens/new/", FORM)):
        assert answer["Location"].startswith("/accounts/reauthenticate/")
    assert not ApiToken.objects.exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "x" * 81),
        ("name", "a\x07"),
        ("days", "3660"),
        ("days", ""),
        ("days", "0"),
        ("scope", "root"),
    ],
)
def test_what_is_wrong_is_told_at_its_field(field: str, value: str, browser: Client) -> None:
    answer = browser.post("/accounts/tokens/new/", FORM | {field: value})

    assert field in answer.context["form"].errors
    assert not ApiToken.objects.exists()


def test_one_that_only_reads(browser: Client) -> None:
    browser.post("/accounts/tokens/new/", FORM | {"scope": "read"})

    assert ApiToken.objects.get().scopes == ["read"]


def test_revoking_it_takes_a_question_and_is_noted(browser: Client, ada: User) -> None:
    secret = make_token(ada)
    token = ApiToken.objects.get()
    path = f"/accounts/tokens/{token.pk}/revoke/"

    assert "cannot be brought back" in browser.get(path).content.decode()
    assert ApiToken.objects.find(secret, timezone.now())
    browser.post(path)

    assert ApiToken.objects.find(secret, timezone.now()) is None
    assert "revoked" in browser.get("/accounts/tokens/").content.decode()
    assert browser.post(path).status_code == 404
    (row,) = AuditEntry.objects.filter(action="token.revoke")
    assert (row.actor, row.target) == (ada, f"user:{ada.pk}")


def test_somebody_elses_token_is_not_there(browser: Client) -> None:
    secret = make_token(make_user("eve"))
    token = ApiToken.objects.get()

    for answer in (
        browser.get(f"/accounts/tokens/{token.pk}/revoke/"),
        browser.post(f"/accounts/tokens/{token.pk}/revoke/"),
    ):
        assert answer.status_code == 404
    assert token.hint not in browser.get("/accounts/tokens/").content.decode()
    assert ApiToken.objects.find(secret, timezone.now())


def test_making_one_is_noted_with_what_it_may(browser: Client, ada: User) -> None:
    browser.post("/accounts/tokens/new/", FORM | {"scope": "read"})

    (row,) = AuditEntry.objects.filter(action="token.create")
    token = ApiToken.objects.get()
    assert token.expires_at
    assert row.data == {
        "token": token.hint,
        "name": "laptop",
        "scopes": ["read"],
        "expires_at": token.expires_at.isoformat(),
    }


def create(user: User, **values: Any) -> tuple[ApiToken, str]:
    defaults = {"name": "x", "scopes": ["read"], "lifetime": timedelta(days=1), "now": timezone.now(), "by": "test"}
    return actions.create_token(user=user, **(defaults | values))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values",
    [
        {"lifetime": timedelta(days=365, seconds=1)},
        {"lifetime": timedelta(0)},
        {"scopes": []},
        {"scopes": ["root"]},
        {"scopes": ["read", "root"]},
    ],
)
def test_too_long_or_for_nothing_is_refused(values: dict[str, Any], ada: User) -> None:
    with pytest.raises(actions.BadToken):
        create(ada, **values)
    assert not ApiToken.objects.exists()


def test_nobody_has_more_than_fifty(ada: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "MOST_TOKENS", 2)
    now = timezone.now()
    make_token(ada, expires_at=now - timedelta(days=1))
    make_token(ada, revoked_at=now)
    make_token(make_user("eve"))
    create(ada)
    create(ada)

    with pytest.raises(actions.BadToken, match="Revoke one"):
        create(ada)


def test_the_database_takes_no_token_without_a_scope(ada: User) -> None:
    with pytest.raises(IntegrityError, match="token_has_a_scope"):
        make_token(ada, scopes=[])


def test_a_token_from_before_there_were_scopes_may_everything(ada: User) -> None:
    make_token(ada)

    assert ApiToken.objects.get().may == "read and write"


def command(*words: str) -> ApiToken:
    call_command("create_token", "ada", *words)
    return ApiToken.objects.get()


@pytest.mark.parametrize(
    ("words", "scopes", "days"),
    [
        ([], ["read", "write"], 90),
        (["--scope", "read"], ["read"], 90),
        (["--scope", "write", "--scope", "read", "--days", "365"], ["read", "write"], 365),
        (["--never"], ["read", "write"], None),
    ],
)
def test_the_command_makes_what_it_is_told(
    words: list[str], scopes: list[str], days: int | None, ada: User, capsys: pytest.CaptureFixture[str]
) -> None:
    token = command(*words)

    assert token.scopes == scopes
    assert (token.expires_at and round((token.expires_at - timezone.now()) / timedelta(days=1))) == days
    assert ApiToken.digest_of(capsys.readouterr().out.strip()) == token.digest


@pytest.mark.parametrize("words", [["--days", "366"], ["--scope", "root"], ["--days", "3", "--never"]])
def test_the_command_refuses_more(words: list[str], ada: User) -> None:
    with pytest.raises(CommandError):
        command(*words)
    assert not ApiToken.objects.exists()
