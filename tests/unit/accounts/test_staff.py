"""Staff and the machine room: not without a second factor in this very session."""

import os
import subprocess
import sys
from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from accounts.staff import CONFIRM, SET_UP
from portal.env import ROOT
from tests.factories import make_user
from tests.unit.accounts.conftest import code, give_app, log_in

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]
ROOMS = ["/admin/", "/admin/accounts/user/", "/admin/jsi18n/", "/monitor/", "/monitor/?x=1"]


@pytest.fixture(autouse=True)
def _required(settings: Any) -> None:
    settings.BERTH_STAFF_MFA = True


@pytest.fixture
def staff() -> User:
    return make_user("root", is_staff=True, is_superuser=True)


def in_session(user: User) -> Client:
    """Logged in with the password alone."""
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def with_factor(user: User) -> Client:
    """Logged in as people do, with password and code."""
    client = Client()
    log_in(client, user)
    client.post("/accounts/mfa/authenticate/", {"code": code()})
    return client


@pytest.mark.parametrize("room", ROOMS)
def test_staff_without_a_second_factor_are_led_to_set_one_up(room: str, staff: User) -> None:
    answer = in_session(staff).get(room, follow=True)

    assert answer.redirect_chain[0] == ("/accounts/mfa/", 302)
    assert SET_UP in answer.content.decode()


@pytest.mark.parametrize("room", ROOMS)
def test_a_session_that_was_opened_without_it_is_asked_for_it(room: str, staff: User) -> None:
    client = in_session(staff)
    give_app(staff)

    answer = client.get(room, follow=True)

    assert answer.redirect_chain[0][0].startswith("/accounts/mfa/reauthenticate/?next=")
    assert CONFIRM in answer.content.decode()
    confirmed = client.post(answer.request["PATH_INFO"], {"code": code(), "next": room}, follow=True)
    assert confirmed.redirect_chain[-1][0] == room
    assert confirmed.status_code == 200


def test_a_password_typed_again_is_no_second_factor(staff: User) -> None:
    from tests.factories import PASSWORD

    client = in_session(staff)
    give_app(staff)

    client.post("/accounts/reauthenticate/", {"password": PASSWORD})

    assert client.get("/monitor/").status_code == 302


@pytest.mark.parametrize("room", ROOMS)
def test_who_logged_in_with_it_goes_in(room: str, staff: User) -> None:
    give_app(staff)

    assert with_factor(staff).get(room).status_code == 200


def test_a_factor_that_was_removed_meanwhile_counts_no_more(staff: User) -> None:
    factor = give_app(staff)
    client = with_factor(staff)

    factor.delete()
    assert client.get("/admin/")["Location"] == "/accounts/mfa/"
    give_app(staff)
    assert client.get("/admin/")["Location"].startswith("/accounts/mfa/reauthenticate/")


def test_somebody_elses_factor_does_not_count(staff: User) -> None:
    customer = make_user("ada")
    give_app(customer)
    client = with_factor(customer)
    give_app(staff)

    client.force_login(staff, backend="django.contrib.auth.backends.ModelBackend")

    assert client.get("/monitor/").status_code == 302


def test_recovery_codes_alone_are_no_second_factor(staff: User) -> None:
    from allauth.mfa.models import Authenticator
    from allauth.mfa.utils import encrypt

    Authenticator.objects.create(user=staff, type="recovery_codes", data={"seed": encrypt("ab"), "used_mask": 0})

    assert in_session(staff).get("/monitor/")["Location"] == "/accounts/mfa/"


def test_a_key_is_asked_for_where_there_is_no_app(staff: User) -> None:
    from allauth.mfa.models import Authenticator

    Authenticator.objects.create(user=staff, type="webauthn", data={"name": "key", "credential": {}})

    answer = in_session(staff).get("/monitor/")

    assert answer["Location"] == "/accounts/mfa/webauthn/reauthenticate/?next=%2Fmonitor%2F"


def test_nothing_is_done_for_staff_before_they_confirm(staff: User) -> None:
    client = in_session(staff)
    give_app(staff)
    other = make_user("ada")

    answer = client.post(f"/admin/accounts/user/{other.pk}/delete/", {"post": "yes"})

    assert answer["Location"].endswith("?next=%2Fadmin%2F")
    assert User.objects.filter(pk=other.pk).exists()


def test_their_own_pages_stay_open_to_staff(staff: User) -> None:
    client = in_session(staff)

    for path in ("/reservations/", "/accounts/mfa/", "/accounts/tokens/"):
        assert client.get(path).status_code == 200


def test_customers_and_visitors_get_what_they_always_got() -> None:
    customer = in_session(make_user("ada"))

    assert customer.get("/monitor/").status_code == 404
    assert customer.get("/admin/", follow=True).status_code == 403
    assert Client().get("/monitor/")["Location"].startswith("/accounts/login/")


def test_where_it_is_switched_off_the_password_is_enough(staff: User, settings: Any) -> None:
    settings.BERTH_STAFF_MFA = False

    assert in_session(staff).get("/monitor/").status_code == 200


def test_it_is_on_unless_somebody_switches_it_off() -> None:
    env = {name: value for name, value in os.environ.items() if name != "BERTH_STAFF_MFA"}
    asked = "from portal import settings; print(settings.BERTH_STAFF_MFA, settings.BERTH_STAFF_NAMESPACES)"

    said = subprocess.run([sys.executable, "-c", asked], env=env, cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert said.stdout.strip() == "True ('admin', 'monitor')", said.stderr
