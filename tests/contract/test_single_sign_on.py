"""Single sign-on against canaille, a real provider, which tests/identity_provider.py starts on this machine."""

import html
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
import requests
from allauth.account.models import EmailAddress
from allauth.socialaccount.models import SocialAccount
from django.core import mail
from django.core.cache import cache
from django.test import Client

from accounts.models import AuditEntry, Membership, User, Workspace
from accounts.single_sign_on.rules import parse_groups
from portal.env import ROOT
from tests import identity_provider
from tests.contract.test_stripe import answers, free_port
from tests.factories import PASSWORD, make_user
from tests.live import wait_for
from tests.unit.accounts.conftest import code, give_app, log_in

pytestmark = pytest.mark.django_db
CALLBACK = "http://testserver/accounts/sso/callback/"
START = "/accounts/sso/start/"


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    """canaille's address."""
    port = free_port()
    program = [sys.executable, "-m", "tests.identity_provider", str(port), CALLBACK]
    running = subprocess.Popen(program, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: answers(port), seconds=60)
        yield f"http://127.0.0.1:{port}"
    finally:
        running.terminate()
        running.wait(timeout=10)


@pytest.fixture(autouse=True)
def _switched_on(provider: str, settings: Any) -> Iterator[None]:
    settings.BERTH_BASE_URL = "http://testserver"
    settings.BERTH_OIDC_ISSUER = provider
    settings.BERTH_OIDC_CLIENT_ID = identity_provider.CLIENT_ID
    settings.BERTH_OIDC_CLIENT_SECRET = identity_provider.CLIENT_SECRET
    settings.BERTH_OIDC_NAME = "Campus log-in"
    settings.BERTH_OIDC_SCOPES = ["openid", "profile", "email", "groups"]
    settings.BERTH_OIDC_GROUPS = parse_groups("physics=Physics lab:member,physics-staff=Physics lab:manager")
    settings.SECURE_SSL_REDIRECT = False
    settings.ACCOUNT_RATE_LIMITS = {}
    settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    cache.clear()
    yield
    for name, (_, _, groups) in identity_provider.PEOPLE.items():
        change(provider, name, groups)


def change(provider: str, name: str, groups: list[str]) -> None:
    answer = requests.post(f"{provider}/_config/person", json={"name": name, "groups": groups}, timeout=10)
    assert answer.json() == {"done": True}


def begin(client: Client, **more: str) -> str:
    """Press the button; the provider's address to which the page leads."""
    answer = client.post(START, more)
    assert answer.status_code == 200, answer
    found = re.search(r'http-equiv="refresh" content="0;url=([^"]+)"', answer.content.decode())
    assert found, answer.content.decode()
    return html.unescape(found[1])


class Browser:
    """Somebody in front of the provider's pages."""

    def __init__(self) -> None:
        self.session = requests.Session()
        self.answer = requests.Response()

    def go(self, address: str) -> None:
        self._follow(self.session.get(address, allow_redirects=False, timeout=10))

    def send(self, **fields: str) -> None:
        """Send the page's form, with its token."""
        page = self.answer.text
        action = re.search(r'<form[^>]*\baction="([^"]+)"', page)
        token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
        where = urljoin(self.answer.url, html.unescape(action[1])) if action else self.answer.url
        data = ({"csrf_token": token[1]} if token else {}) | fields
        self._follow(self.session.post(where, data, allow_redirects=False, timeout=10))

    def _follow(self, answer: requests.Response) -> None:
        while answer.is_redirect and not answer.headers["Location"].startswith(CALLBACK):
            answer = self.session.get(
                urljoin(answer.url, answer.headers["Location"]), allow_redirects=False, timeout=10
            )
        self.answer = answer

    def log_in(self, address: str, name: str, answer: str = "accept") -> str:
        """Log in there and answer the question of consent; the address to which one is sent back."""
        self.go(address)
        self.send(login=name)
        self.send(password=identity_provider.PASSWORD)
        if not self.answer.is_redirect:  # once for each person
            assert "Berth" in self.answer.text, "this is not the page that asks for consent"
            self.send(answer=answer)
        return self.answer.headers["Location"]


def back(client: Client, address: str) -> Any:
    parts = urlsplit(address)
    return client.get(f"{parts.path}?{parts.query}")


def come_in(name: str, client: Client | None = None, **more: str) -> tuple[Client, Any]:
    """The whole way; the answer to the last step."""
    client = client or Client()
    return client, back(client, Browser().log_in(begin(client, **more), name))


def is_in(client: Client) -> User | None:
    number = client.session.get("_auth_user_id")
    return User.objects.get(pk=number) if number else None


# ---- who comes in -----------------------------------------------------------------------------------------


def test_a_newcomer_gets_an_account_a_workspace_and_the_one_of_the_group() -> None:
    root = make_user("root", is_superuser=True, is_staff=True)

    client, answer = come_in("marie")

    user = is_in(client)
    assert answer.status_code == 302
    assert user
    assert (user.username, user.email, user.is_staff, user.has_usable_password()) == (
        *("marie", "marie@example.org"),
        *(False, False),
    )
    assert EmailAddress.objects.get(user=user).verified
    assert Workspace.objects.filter(personal_of=user).exists()
    lab = Workspace.objects.get(directory_name="Physics lab")
    roles = dict(Membership.objects.filter(workspace=lab).values_list("user", "role"))
    assert roles == {user.pk: "member", root.pk: "owner"}
    assert AuditEntry.objects.filter(action="user.single_sign_on", actor=user).count() == 1


def test_who_comes_again_is_the_same_person_and_leads_on_to_where_they_were() -> None:
    come_in("marie")

    _, answer = come_in("marie", next="/billing/")

    assert answer["Location"] == "/billing/"
    assert User.objects.filter(username__startswith="marie").count() == 1


def test_a_user_name_that_is_taken_gets_a_number() -> None:
    User.objects.create_user("Marie", "another@example.org", PASSWORD)

    client, _ = come_in("marie")

    assert (is_in(client) or User()).username == "marie2"


def test_an_address_that_nobody_checked_is_confirmed_by_mail_first() -> None:
    client, _ = come_in("pierre")

    assert is_in(client) is None
    assert mail.outbox[0].to == ["pierre@example.org"]
    assert not EmailAddress.objects.get(email="pierre@example.org").verified


def test_a_provider_whose_addresses_are_trusted_needs_no_mail(settings: Any) -> None:
    settings.BERTH_OIDC_TRUST_EMAIL = True

    client, _ = come_in("pierre")

    assert is_in(client)


def test_who_has_confirmed_the_same_address_here_is_known() -> None:
    old = make_user("old")
    User.objects.filter(pk=old.pk).update(email="marie@example.org")
    EmailAddress.objects.create(user=old, email="marie@example.org", verified=True, primary=True)

    client, _ = come_in("marie")

    assert is_in(client) == old
    old.refresh_from_db()
    assert old.check_password(PASSWORD)
    assert SocialAccount.objects.get(user=old).uid == "marie"


@pytest.mark.parametrize("row", [True, False], ids=["not confirmed", "never asked"])
def test_an_address_that_is_not_confirmed_here_opens_nothing(row: bool) -> None:
    """Else whoever wrote somebody's address into an account could wait in it for them."""
    old = make_user("old")
    User.objects.filter(pk=old.pk).update(email="marie@example.org")
    if row:
        EmailAddress.objects.create(user=old, email="marie@example.org", verified=False, primary=True)

    client, answer = come_in("marie")

    assert answer.status_code == 403
    assert "nobody has confirmed there" in " ".join(answer.content.decode().split())
    assert is_in(client) is None
    assert User.objects.count() == 1


def test_an_address_that_the_provider_did_not_check_opens_nobodys_account() -> None:
    old = make_user("old")
    User.objects.filter(pk=old.pk).update(email="Pierre@example.org")
    EmailAddress.objects.create(user=old, email="Pierre@example.org", verified=True, primary=True)

    client, answer = come_in("pierre")

    assert answer.status_code == 403
    assert is_in(client) is None
    assert not SocialAccount.objects.exists()


def test_an_account_that_is_switched_off_stays_closed() -> None:
    client, _ = come_in("marie")
    User.objects.filter(username="marie").update(is_active=False)

    client, answer = come_in("marie")

    assert is_in(client) is None
    assert answer["Location"] == "/accounts/inactive/"


def test_a_second_factor_of_here_is_asked_for_all_the_same() -> None:
    client, _ = come_in("marie")
    user = User.objects.get(username="marie")
    give_app(user)

    client, answer = come_in("marie")

    assert answer["Location"] == "/accounts/mfa/authenticate/"
    assert is_in(client) is None
    client.post("/accounts/mfa/authenticate/", {"code": code()})
    assert is_in(client) == user


def test_an_account_of_here_is_connected_and_disconnected() -> None:
    ada = make_user("ada")
    EmailAddress.objects.create(user=ada, email=ada.email, verified=True, primary=True)
    client = Client()
    log_in(client, ada)
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})

    client, answer = come_in("marie", client, process="connect")

    assert answer["Location"] == "/accounts/sso/"
    account = SocialAccount.objects.get(user=ada)
    assert "connected" in client.get("/accounts/sso/").content.decode()
    assert is_in(come_in("marie")[0]) == ada
    client.post("/accounts/sso/", {"account": account.pk})
    assert not SocialAccount.objects.exists()


# ---- groups -----------------------------------------------------------------------------------------------


def test_roles_follow_the_groups_at_each_log_in(provider: str) -> None:
    make_user("root", is_superuser=True)

    def role() -> str | None:
        found = Membership.objects.filter(workspace__directory_name="Physics lab", user__username="lise").first()
        return found.role if found else None

    come_in("lise")
    assert role() == "manager"
    change(provider, "lise", ["physics"])
    come_in("lise")
    assert role() == "member"
    change(provider, "lise", [])
    come_in("lise")
    assert role() is None
    noted = AuditEntry.objects.filter(actor_name="single sign-on", action__startswith="membership.", data__user="lise")
    actions = noted.order_by("pk").values_list("action", flat=True)
    assert list(actions) == ["membership.add", "membership.change", "membership.remove"]


def test_the_groups_are_asked_for_under_the_name_of_the_settings(settings: Any) -> None:
    settings.BERTH_OIDC_GROUPS_CLAIM = "roles"

    come_in("lise")

    assert not Workspace.objects.filter(directory_name="Physics lab").exists()


# ---- what goes wrong --------------------------------------------------------------------------------------


def refused(client: Client, answer: Any, sentence: str) -> None:
    assert answer.status_code == 401
    assert sentence in html.unescape(" ".join(answer.content.decode().split()))
    assert is_in(client) is None
    assert not SocialAccount.objects.exists()


def test_who_denies_comes_back_as_they_were() -> None:
    client = Client()

    answer = back(client, Browser().log_in(begin(client), "marie", answer="deny"))

    assert "not logged in" in client.get(answer["Location"]).content.decode()
    assert is_in(client) is None


def test_a_wrong_secret_is_told_and_logged(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.BERTH_OIDC_CLIENT_SECRET = "another"

    client, answer = come_in("marie")

    refused(client, answer, "Campus log-in gave an answer that could not be used.")
    assert "single sign-on failed" in caplog.text
    assert "another" not in caplog.text


def test_a_provider_that_is_away_is_told_at_once(settings: Any) -> None:
    settings.BERTH_OIDC_ISSUER = f"http://127.0.0.1:{free_port()}"
    client = Client()

    refused(client, client.post(START), "Campus log-in does not answer as it should. Try again")


def test_a_provider_that_goes_away_on_the_way_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    address = Browser().log_in(begin(client), "marie")

    def silent(*args: Any, **kwargs: Any) -> None:
        raise requests.ConnectTimeout("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(requests.Session, "request", silent)
        answer = back(client, address)

    refused(client, answer, "does not answer as it should")


def test_a_provider_of_another_name_is_not_believed(provider: str, settings: Any) -> None:
    settings.BERTH_OIDC_ISSUER = f"{provider}/"
    client = Client()

    refused(client, client.post(START), "not as BERTH_OIDC_ISSUER says")


def test_a_page_that_is_no_provider_is_told(provider: str, settings: Any) -> None:
    settings.BERTH_OIDC_ISSUER = f"{provider}/login"
    client = Client()

    refused(client, client.post(START), "does not answer as it should")


@pytest.mark.parametrize("how", ["twice", "in another browser", "without a state"])
def test_an_answer_counts_once_and_for_who_asked(how: str) -> None:
    client = Client()
    address = Browser().log_in(begin(client), "marie")
    if how == "twice":
        back(client, address)
        client.logout()
        SocialAccount.objects.all().delete()
    if how == "without a state":
        address = re.sub(r"&?state=[^&]+", "", address)
    other = client if how == "twice" else Client()

    refused(other, back(other, address), "began in another browser")


def test_a_code_of_somebody_else_is_worth_nothing() -> None:
    """The provider wants the proof that belongs to it (PKCE); a token would have to answer this log-in, too."""
    mine, theirs = Client(), Client()
    my_address = Browser().log_in(begin(mine), "pierre")
    their_address = Browser().log_in(begin(theirs), "marie")
    stolen = re.search(r"code=([^&]+)", their_address)
    assert stolen

    answer = back(mine, re.sub(r"code=[^&]+", f"code={stolen[1]}", my_address))

    refused(mine, answer, "could not be used")
    assert not User.objects.exists()


@pytest.mark.parametrize("query", ["?code=x", "?error=server_error&state=x", "", "?state=%00&code=%00"])
def test_what_nobody_asked_for_is_told(query: str) -> None:
    client = Client()

    refused(client, client.get(f"/accounts/sso/callback/{query}"), "You are not logged in")


def test_whoever_reads_an_address_begins_nothing() -> None:
    answer = Client().get(START, {"scope": "everything", "auth_params": "prompt=none"})

    assert answer.status_code == 200
    assert "Log in with Campus log-in" in answer.content.decode()
    asked = begin(Client(), scope="everything", auth_params="acr_values=x", process="redirect")
    assert "everything" not in asked
    assert "acr_values" not in asked
    assert "code_challenge_method=S256" in asked
    assert "nonce=" in asked


# ---- nothing else opens accounts --------------------------------------------------------------------------


def test_where_all_come_from_the_provider_a_password_opens_admins_only(settings: Any) -> None:
    settings.BERTH_OIDC_ONLY = True
    settings.ACCOUNT_EMAIL_VERIFICATION = "none"
    root, ada = make_user("root", is_superuser=True, is_staff=True), make_user("ada")
    client, of_admin, newcomer = Client(), Client(), Client()

    answer = client.post("/accounts/login/", {"login": ada.username, "password": PASSWORD}, follow=True)
    of_admin.post("/accounts/login/", {"login": root.username, "password": PASSWORD})
    form = {"username": "eve", "email": "eve@example.org", "password1": PASSWORD, "password2": PASSWORD}
    closed = newcomer.post("/accounts/signup/", form)

    assert is_in(client) is None
    assert "Accounts are opened by Campus log-in here." in answer.content.decode()
    assert is_in(of_admin) == root
    assert "Sign-up is closed" in closed.content.decode()
    assert not User.objects.filter(username="eve").exists()
    assert is_in(come_in("marie")[0])


def test_the_group_of_admins_makes_and_takes_admins(provider: str, settings: Any) -> None:
    settings.BERTH_OIDC_ADMIN_GROUP = "operators"
    change(provider, "marie", ["operators"])

    client, _ = come_in("marie")
    assert (is_in(client) or User()).is_superuser
    change(provider, "marie", [])
    client, _ = come_in("marie")

    assert not (is_in(client) or User()).is_superuser
    assert AuditEntry.objects.filter(action="user.admin").count() == 2


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.getLogger("urllib3").setLevel(logging.WARNING)
