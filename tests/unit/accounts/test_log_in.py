"""Logging in is hard for those who guess, and tells them nothing."""

from typing import Any

import pytest
from django.core import mail
from django.test import Client

from accounts.models import AuditEntry
from tests.factories import PASSWORD, make_user
from tests.unit.accounts.conftest import log_in

pytestmark = pytest.mark.django_db
LIMIT = {"login": "3/m/ip"}


def knock(*, seen_from: str, says: str = "", login: str = "nobody") -> int:
    headers = {"X-Forwarded-For": says} if says else {}
    form = {"login": login, "password": "wrong"}
    return Client(REMOTE_ADDR=seen_from).post("/accounts/login/", form, headers=headers).status_code


# ---- rate limits and proxies ------------------------------------------------------------------------------


def test_without_a_proxy_what_a_caller_says_of_its_address_counts_for_nothing(settings: Any) -> None:
    settings.ACCOUNT_RATE_LIMITS = LIMIT

    answers = [knock(seen_from="192.0.2.1", says=f"198.51.100.{n}") for n in range(5)]

    assert answers == [200, 200, 200, 429, 429]
    assert knock(seen_from="192.0.2.2") == 200


def test_behind_one_proxy_the_address_that_it_added_counts(settings: Any) -> None:
    settings.ACCOUNT_RATE_LIMITS = LIMIT
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = 1

    answers = [knock(seen_from="10.0.0.1", says=f"203.0.113.{n}, 192.0.2.1") for n in range(5)]

    assert answers == [200, 200, 200, 429, 429]
    assert knock(seen_from="10.0.0.1", says="192.0.2.1, 192.0.2.2") == 200


def test_behind_two_proxies_the_second_last_counts(settings: Any) -> None:
    settings.ACCOUNT_RATE_LIMITS = LIMIT
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = 2

    answers = [knock(seen_from="10.0.0.1", says=f"203.0.113.{n}, 192.0.2.1, 10.0.0.2") for n in range(4)]

    assert answers == [200, 200, 200, 429]


def test_one_account_cannot_be_guessed_at_from_many_addresses(settings: Any) -> None:
    settings.ACCOUNT_RATE_LIMITS = {"login_failed": "10/m/ip,5/300s/key"}
    make_user("ada")

    for n in range(5):
        knock(seen_from=f"192.0.2.{n}", login="ada")
    client = Client(REMOTE_ADDR="192.0.2.99")
    client.post("/accounts/login/", {"login": "ada", "password": PASSWORD})

    assert "_auth_user_id" not in client.session


# ---- who has an account -----------------------------------------------------------------------------------


def told(path: str, form: dict[str, str]) -> tuple[int, str, str]:
    """Status, place and sentences of the answer, without what somebody typed."""
    answer = Client().post(path, form)
    errors = str(answer.context["form"].errors) if answer.status_code == 200 else ""
    return answer.status_code, answer.get("Location", ""), errors


def test_a_wrong_password_and_nobodys_name_look_alike() -> None:
    make_user("ada")

    right, wrong = (told("/accounts/login/", {"login": name, "password": "wrong"}) for name in ("ada", "nobody"))

    assert right == wrong
    assert "not correct" in right[2]


def test_a_wrong_password_and_nobodys_name_take_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many password hashes, which are nearly all of the time that it takes."""
    from django.contrib.auth.hashers import MD5PasswordHasher

    make_user("ada")
    hashed: list[str] = []
    encode = MD5PasswordHasher.encode

    def counted(*args: Any) -> str:
        hashed.append("once")
        return encode(*args)

    monkeypatch.setattr(MD5PasswordHasher, "encode", counted)
    counts = []
    for login in ("ada", "nobody", "ada@example.org", "nobody@example.org"):
        hashed.clear()
        told("/accounts/login/", {"login": login, "password": "wrong"})
        counts.append(len(hashed))

    assert counts[0] == counts[1] > 0
    assert counts[2] == counts[3] > 0


def test_a_new_password_can_be_asked_for_anybody() -> None:
    make_user("ada")

    answers = [told("/accounts/password/reset/", {"email": f"{name}@example.org"}) for name in ("ada", "nobody")]

    assert answers[0] == answers[1] == (302, "/accounts/password/reset/done/", "")
    assert [sent.to for sent in mail.outbox] == [["ada@example.org"], ["nobody@example.org"]]


def test_signing_up_with_a_known_address_looks_as_with_a_new_one(settings: Any) -> None:
    settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"
    make_user("ada")
    form = {"username": "grace", "password1": PASSWORD, "password2": PASSWORD}

    known = told("/accounts/signup/", form | {"email": "ada@example.org"})
    new = told("/accounts/signup/", form | {"email": "grace@example.org"})

    assert known == new
    assert known[0] == 302


# ---- sessions ---------------------------------------------------------------------------------------------


def test_logging_in_changes_the_session() -> None:
    user, client = make_user("ada"), Client()
    client.get("/accounts/login/")
    session = client.session
    session["planted"] = "by somebody else"
    session.save()
    before = session.session_key
    client.cookies["sessionid"] = str(before)

    log_in(client, user)

    assert client.session.session_key != before
    planted = Client()
    planted.cookies["sessionid"] = str(before)
    assert planted.get("/reservations/").status_code == 302


def test_a_new_password_logs_the_others_out_and_is_noted() -> None:
    user, here, elsewhere = make_user("ada"), Client(), Client()
    log_in(here, user)
    log_in(elsewhere, user)
    new = "another horse battery"

    here.post("/accounts/password/change/", {"oldpassword": PASSWORD, "password1": new, "password2": new})

    assert here.get("/reservations/").status_code == 200
    assert elsewhere.get("/reservations/").status_code == 302
    assert AuditEntry.objects.filter(action="password.change", actor=user).count() == 1


def test_sessions_are_listed_and_the_others_ended() -> None:
    user = make_user("ada")
    here = Client(HTTP_USER_AGENT="Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
    there = Client(HTTP_USER_AGENT="curl/8", REMOTE_ADDR="192.0.2.7")
    stranger = Client()
    log_in(here, user)
    log_in(there, user)
    log_in(stranger, make_user("eve"))

    page = here.get("/accounts/sessions/").content.decode()
    here.post("/accounts/sessions/")

    assert "Firefox on Linux" in page
    assert "curl/8" in page
    assert "192.0.2.7" in page
    assert [client.get("/reservations/").status_code for client in (here, there, stranger)] == [200, 302, 200]
