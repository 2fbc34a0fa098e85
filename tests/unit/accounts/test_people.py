"""Signing up, logging in, and what names may look like."""

from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client

from accounts.models import AuditEntry, Membership, User, Workspace
from accounts.validators import no_control_characters, username_validators, validate_time_zone
from tests.factories import PASSWORD, make_user

FORM = {"username": "Ada", "email": "ada@example.org", "password1": PASSWORD, "password2": PASSWORD}


@pytest.fixture(autouse=True)
def _plain_http(settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = False
    settings.ACCOUNT_RATE_LIMITS = {}
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"


def sign_up(**values: str) -> Any:
    return Client().post("/accounts/signup/", FORM | values)


@pytest.mark.django_db
def test_a_sign_up_makes_a_user_with_a_workspace_of_its_own() -> None:
    answer = sign_up()

    user = User.objects.get()
    assert answer.status_code == 302
    assert Membership.objects.get(user=user, role="owner").workspace == Workspace.objects.get(personal_of=user)
    assert AuditEntry.objects.filter(action="workspace.open").count() == 1


@pytest.mark.django_db
def test_nobody_signs_up_as_an_admin() -> None:
    sign_up(is_staff="on", is_superuser="on", is_active="on")

    user = User.objects.get()
    assert (user.is_staff, user.is_superuser) == (False, False)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"username": "ADA"}, "username"),
        ({"username": "a"}, "username"),
        ({"username": "-ada"}, "username"),
        ({"username": "a b"}, "username"),
        ({"username": "ad\u0430"}, "username"),
        ({"username": "x" * 41}, "username"),
        ({"username": "a\0b"}, "username"),
        ({"email": "nothing"}, "email"),
        ({"email": ""}, "email"),
        ({"password1": "12345678", "password2": "12345678"}, "password1"),
        ({"password2": "another password"}, "password2"),
    ],
)
def test_a_bad_sign_up_is_told_at_its_field(values: dict[str, str], field: str) -> None:
    make_user("ada")

    answer = sign_up(**{"username": "grace", "email": "grace@example.org"} | values)

    assert field in answer.context["form"].errors
    assert User.objects.count() == 1


@pytest.mark.django_db
def test_an_address_that_is_known_makes_no_second_user_whatever_its_case() -> None:
    make_user("ada")

    sign_up(username="grace", email="ADA@example.ORG")

    assert User.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("login", ["ada", "ADA", "ada@example.org", "ADA@Example.org"])
def test_logging_in_does_not_care_for_upper_and_lower_case(login: str, settings: Any) -> None:
    settings.ACCOUNT_EMAIL_VERIFICATION = "none"
    make_user("ada")
    client = Client()

    client.post("/accounts/login/", {"login": login, "password": PASSWORD})

    assert client.session.get("_auth_user_id")


@pytest.mark.django_db
def test_a_wrong_password_logs_nobody_in() -> None:
    make_user("ada")
    client = Client()

    client.post("/accounts/login/", {"login": "ada", "password": "wrong"})

    assert "_auth_user_id" not in client.session


@pytest.mark.parametrize("name", ["a", "", "-a", ".ab", "a b", "a\n", "ä1", "a/b", "a\0"])
def test_a_user_name_that_is_none(name: str) -> None:
    with pytest.raises(ValidationError):
        User(username=name).clean_fields(exclude=["password"])


@pytest.mark.parametrize("name", ["ab", "a.b", "A_b-c", "0day"])
def test_a_user_name_that_is_one(name: str) -> None:
    for validate in username_validators:
        validate(name)


@pytest.mark.parametrize("text", ["a\0", "a\n", "\x7f", "\u202e", "\u2028", "\ue000", "\ud800"])
def test_what_nobody_can_see_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        no_control_characters(text)


@pytest.mark.parametrize("text", ["", "my web server", "Grüße", "日本", "👩‍🔬", "a-b_c"])
def test_what_people_write_is_allowed(text: str) -> None:
    no_control_characters(text)


@pytest.mark.parametrize(
    ("zone", "good"), [("", True), ("Europe/Berlin", True), ("Mars/Olympus", False), ("../x", False)]
)
def test_only_zones_that_exist_are_zones(zone: str, good: bool) -> None:
    if good:
        validate_time_zone(zone)
    else:
        with pytest.raises(ValidationError, match="not a known time zone"):
            validate_time_zone(zone)
