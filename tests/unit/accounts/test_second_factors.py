"""The second step of a log-in: what it takes, what the database holds of it, and the way back for whoever lost it."""

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.contrib import admin
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client

from accounts import sealing
from accounts.models import AuditEntry
from tests.factories import PASSWORD, make_user
from tests.unit.accounts.conftest import SECRET, code, give_app, log_in

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]
Clock = Callable[[float], None]


def logged_in(client: Client) -> bool:
    return "_auth_user_id" in client.session


def confirm(client: Client) -> None:
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})


def set_up(client: Client) -> str:
    """The app's secret, as the page shows it; the app is set up then."""
    confirm(client)
    secret = client.get("/accounts/mfa/totp/activate/").context["form"].secret
    answer = client.post("/accounts/mfa/totp/activate/", {"code": code(secret)})
    assert answer["Location"] == "/accounts/mfa/recovery-codes/"
    return str(secret)


def stored() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT string_agg(data::text, ' ') FROM mfa_authenticator")
        return str(cursor.fetchone()[0])


def test_setting_up_an_app_asks_for_the_password_first() -> None:
    client = Client()
    log_in(client, make_user("ada"))

    answer = client.get("/accounts/mfa/totp/activate/")

    assert answer["Location"].startswith("/accounts/reauthenticate/")


def test_with_an_app_the_password_alone_opens_nothing() -> None:
    user = make_user("ada")
    give_app(user)
    client = Client()

    answer = log_in(client, user)

    assert answer["Location"] == "/accounts/mfa/authenticate/"
    assert not logged_in(client)
    client.post("/accounts/mfa/authenticate/", {"code": "000000" if code() != "000000" else "000001"})
    assert not logged_in(client)
    client.post("/accounts/mfa/authenticate/", {"code": code()})
    assert logged_in(client)


def test_a_code_is_good_once_and_for_its_half_minute(clock: Clock) -> None:
    user = make_user("ada")
    give_app(user)
    first, again, late = Client(), Client(), Client()
    for client in (first, again, late):
        log_in(client, user)
    shown = code()

    first.post("/accounts/mfa/authenticate/", {"code": shown})
    again.post("/accounts/mfa/authenticate/", {"code": shown})
    clock(60)
    late.post("/accounts/mfa/authenticate/", {"code": shown})

    assert [logged_in(client) for client in (first, again, late)] == [True, False, False]


def test_codes_cannot_be_guessed(settings: Any) -> None:
    settings.ACCOUNT_RATE_LIMITS = {"login_failed": "5/300s/key"}
    user = make_user("ada")
    give_app(user)
    client = Client()
    log_in(client, user)

    for guess in ("111111", "222222", "333333", "444444", "555555"):
        client.post("/accounts/mfa/authenticate/", {"code": guess})
    client.post("/accounts/mfa/authenticate/", {"code": code()})

    assert not logged_in(client)


def test_the_database_holds_no_secret_in_the_clear() -> None:
    user, client = make_user("ada"), Client()
    log_in(client, user)
    secret = set_up(client)
    shown = client.get("/accounts/mfa/recovery-codes/").context["unused_codes"]

    assert len(shown) == 10
    text = stored()
    assert secret not in text
    assert not [one for one in shown if one in text]
    sealed = Authenticator.objects.get(type="totp").data["secret"]
    assert sealing.unseal(sealed, purpose="second factors") == secret


def test_what_was_sealed_for_one_purpose_opens_for_no_other() -> None:
    sealed = sealing.seal("text", purpose="second factors")

    assert sealing.unseal(sealed, purpose="second factors") == "text"
    with pytest.raises(sealing.Unreadable):
        sealing.unseal(sealed, purpose="credentials")


def test_recovery_codes_are_shown_once_and_open_once() -> None:
    user, client = make_user("ada"), Client()
    log_in(client, user)
    set_up(client)
    page = client.get("/accounts/mfa/recovery-codes/")
    first = page.context["unused_codes"][0]

    again = client.get("/accounts/mfa/recovery-codes/")
    download = client.get("/accounts/mfa/recovery-codes/download/")

    assert first in page.content.decode()
    assert first not in again.content.decode()
    assert download.status_code == 403
    opened = []
    for _ in range(2):
        other = Client()
        log_in(other, user)
        other.post("/accounts/mfa/authenticate/", {"code": first})
        opened.append(logged_in(other))
    assert opened == [True, False]


@pytest.mark.parametrize("guess", ["000000", "", code(at=0)])
def test_under_another_key_no_code_opens_and_nothing_breaks(guess: str, settings: Any) -> None:
    user = make_user("ada")
    give_app(user)
    settings.SECRET_KEY = "another key that is long enough for this"
    client = Client()
    log_in(client, user)

    answer = client.post("/accounts/mfa/authenticate/", {"code": guess or code()})

    assert answer.status_code == 200
    assert not logged_in(client)


def test_every_change_leaves_an_audit_row(django_capture_on_commit_callbacks: Any) -> None:
    user, client = make_user("ada"), Client()
    log_in(client, user)
    with django_capture_on_commit_callbacks(execute=True):
        set_up(client)
        client.post("/accounts/mfa/recovery-codes/generate/")
        client.post("/accounts/mfa/totp/deactivate/")

    rows = AuditEntry.objects.filter(action__startswith="mfa.").order_by("pk").values_list("action", "data__kind")
    assert set(rows) == {
        ("mfa.add", "totp"),
        ("mfa.add", "recovery_codes"),
        ("mfa.new_codes", "recovery_codes"),
        ("mfa.remove", "totp"),
        ("mfa.remove", "recovery_codes"),
    }
    assert set(AuditEntry.objects.filter(action__startswith="mfa.").values_list("actor", flat=True)) == {user.pk}


def test_an_address_that_is_not_confirmed_gets_no_second_factor() -> None:
    from allauth.account.models import EmailAddress

    user, client = make_user("ada"), Client()
    EmailAddress.objects.create(user=user, email=user.email, verified=False, primary=True)
    log_in(client, user)
    confirm(client)

    page = client.get("/accounts/mfa/totp/activate/", follow=True).content.decode()

    assert "Confirm your e-mail address first" in page


def reset(name: str) -> str:
    out = StringIO()
    call_command("reset_mfa", name, stdout=out)
    return out.getvalue()


def test_whoever_lost_everything_is_let_in_again_by_an_operator() -> None:
    user, thief = make_user("ada"), Client()
    log_in(thief, user)
    give_app(user)
    assert UserSession.objects.filter(user=user).count() == 1

    said = reset("ADA")

    assert "removed: 1" in said
    assert "Sessions ended: 1" in said
    assert thief.get("/reservations/").status_code == 302
    (row,) = AuditEntry.objects.filter(action="mfa.reset")
    assert (row.actor_name, row.target) == ("manage.py reset_mfa", f"user:{user.pk}")
    assert row.data == {"factors": ["totp"], "sessions": 1}
    back = Client()
    log_in(back, user)
    assert logged_in(back)


def test_a_reset_touches_nobody_else() -> None:
    give_app(make_user("eve"))
    make_user("ada")

    said = reset("ada")

    assert "no second factor" in said
    assert Authenticator.objects.count() == 1
    with pytest.raises(CommandError, match="no user 'nobody'"):
        reset("nobody")


def test_nobody_writes_a_factor_into_an_account_on_the_admins_pages(rf: Any) -> None:
    request = rf.get("/admin/")
    request.user = make_user("root", is_staff=True, is_superuser=True)

    for model in (Authenticator, UserSession):
        page = admin.site._registry[model]
        assert not page.has_add_permission(request)
        assert not page.has_change_permission(request)
        assert not page.has_delete_permission(request)


def test_the_page_shows_a_drawing_that_needs_no_exception_from_the_policy() -> None:
    user, client = make_user("ada"), Client()
    log_in(client, user)
    confirm(client)

    page = client.get("/accounts/mfa/totp/activate/").content.decode()

    assert '<svg class="qr" viewBox=' in page
    assert "style=" not in page
    assert "data:image" not in page
    assert SECRET not in page
