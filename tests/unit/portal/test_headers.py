"""What every answer carries, and what is not let in at all."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core import mail
from django.http import HttpResponse
from django.test import Client
from whitenoise.middleware import WhiteNoiseMiddleware

from accounts.models import User
from portal import middleware
from portal.env import ROOT
from portal.routes import ADMIN, routes
from tests.factories import PASSWORD
from tests.unit.portal.doors import Ground, make_ground

pytestmark = pytest.mark.django_db
ROUTES = [route for route in routes() if "GET" in route.methods]
# Not what the answer ought to have, but what a browser must be told, in its own words.
TOLD = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@pytest.fixture
def ground(owner: User, other: User, staff: User) -> Ground:
    return make_ground(owner, other, staff)


def policy(answer: Any) -> dict[str, set[str]]:
    parts = [part.split() for part in answer["Content-Security-Policy"].split(";")]
    return {name: set(sources) for name, *sources in parts}


def check(answer: Any, where: str) -> None:
    """The headers of an answer, whatever its status."""
    found = policy(answer)
    assert found["default-src"] == found["object-src"] == found["base-uri"] == found["frame-ancestors"] == {"'none'"}
    assert found["script-src"] == found["style-src"] == found["form-action"] == {"'self'"}, where
    assert "unsafe" not in answer["Content-Security-Policy"], where
    for name, value in TOLD.items():
        assert answer.headers.get(name) == value, f"{where}: {name}"
    assert "camera=()" in answer["Permissions-Policy"], where
    assert "publickey-credentials-get=(self)" in answer["Permissions-Policy"], where
    assert "Server" not in answer, where


@pytest.mark.parametrize("who", ["anonymous", "owner", "staff"])
@pytest.mark.parametrize("admin", [False, True], ids=["ours", "the admin"])
def test_every_address_tells_the_browser_to_be_careful_and_to_keep_nothing(
    admin: bool, who: str, ground: Ground
) -> None:
    for route in (route for route in ROUTES if route.path.startswith(ADMIN) is admin):
        answer = ground.visit(route, "GET", who)

        check(answer, f"/{route.path} as {who}")
        assert {"private", "no-store"} <= set(answer["Cache-Control"].split(", ")), route.path


@pytest.mark.parametrize("status", [400, 403, 404, 405, 413, 500])
def test_errors_do_too(status: int, ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **more: Any) -> HttpResponse:
        raise RuntimeError("the secret of the machine room")

    browser = ground.browser("owner", enforce_csrf_checks=True)
    if status == 400:
        answer = browser.get("/", headers={"host": "evil.example"})
    elif status == 403:
        answer = browser.post(f"/reservations/{ground.reservation.pk}/delete/")
    elif status == 404:
        answer = browser.get("/nothing/")
    elif status == 405:
        answer = browser.get(f"/reservations/{ground.reservation.pk}/stop/")
    elif status == 413:
        answer = browser.post("/accounts/login/", {"login": "x" * 1_100_000})
    else:
        monkeypatch.setattr("reservations.kept_volumes.visible_to", broken)
        answer = browser.get("/reservations/")

    assert answer.status_code == status
    check(answer, str(status))
    assert "machine room" not in answer.content.decode()


def test_a_fault_before_any_view_is_told_without_its_details(
    ground: Ground, api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **more: Any) -> HttpResponse:
        raise RuntimeError("the secret of the machine room")

    monkeypatch.setattr("accounts.middleware.TimeZoneMiddleware.__call__", broken)

    page, answer = ground.browser("owner").get("/reservations/"), api("GET", "/reservations")

    assert (page.status_code, answer.status_code) == (500, 500)
    assert (answer["Content-Type"], answer.json()["code"]) == ("application/problem+json", "internal")
    for told in (page, answer):
        assert "machine room" not in told.content.decode()
        check(told, "500")


def test_files_do_too_and_may_be_kept(settings: Any) -> None:
    settings.WHITENOISE_AUTOREFRESH = settings.WHITENOISE_USE_FINDERS = True

    answer = Client().get("/static/berth/berth.js")
    answer.close()

    assert answer.status_code == 200
    check(answer, "a file")
    assert "no-store" not in answer["Cache-Control"]
    assert "Access-Control-Allow-Origin" not in answer


def test_the_middleware_is_around_that_of_the_files() -> None:
    from django.conf import settings

    names = settings.MIDDLEWARE
    outer = f"{middleware.HeadersMiddleware.__module__}.{middleware.HeadersMiddleware.__qualname__}"

    assert names[0] == outer
    assert f"{WhiteNoiseMiddleware.__module__}.{WhiteNoiseMiddleware.__qualname__}" in names[1:]


# ---- Host, and addresses in what we send ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("berth.example.org", 200),
        ("berth.example.org:443", 200),
        ("127.0.0.1:8000", 200),
        ("localhost", 200),
        ("berth.example.org:20001", 400),
        ("berth.example.org:" + "4" * 5000, 400),
        ("evil.example", 400),
        ("berth.example.org.evil.example", 400),
        ("berth.example.org@evil.example", 400),
        ("evil.example/berth.example.org", 400),
        ("", 400),
    ],
)
def test_only_our_own_host_and_port_are_answered(host: str, status: int, owner: User, settings: Any) -> None:
    settings.BERTH_BASE_URL = "https://berth.example.org"
    settings.ALLOWED_HOSTS = ["berth.example.org", "localhost", "127.0.0.1"]

    page = Client().get("/", headers={"host": host})
    answer = Client().get("/api/v1/openapi.json", headers={"host": host})

    assert (page.status_code, answer.status_code) == (status, status)
    assert answer["Content-Type"].startswith("application/json" if status == 200 else "application/problem+json")


def test_machines_ask_how_it_is_at_any_port(settings: Any) -> None:
    settings.BERTH_BASE_URL = "https://berth.example.org"
    settings.ALLOWED_HOSTS = ["berth.example.org", "10.0.0.5"]

    assert Client().get("/healthz", headers={"host": "10.0.0.5:8000"}).status_code == 200
    assert Client().get("/", headers={"host": "10.0.0.5:8000"}).status_code == 400


def test_the_link_of_a_new_password_leads_to_nobody_else(owner: User, settings: Any) -> None:
    settings.BERTH_BASE_URL = "https://berth.example.org"
    settings.ALLOWED_HOSTS = ["berth.example.org"]
    forged = {"x-forwarded-host": "evil.example", "forwarded": "host=evil.example", "x-host": "evil.example"}
    form = {"email": owner.email}

    # The port may be a container of the one who asks, when portal and gateway have one address.
    refused = Client().post("/accounts/password/reset/", form, headers={"host": "berth.example.org:20001"})
    sent = Client().post("/accounts/password/reset/", form, headers={"host": "berth.example.org", **forged})

    assert (refused.status_code, sent.status_code) == (400, 302)
    (letter,) = mail.outbox
    assert "://berth.example.org/accounts/password/reset/key/" in letter.body
    assert "evil.example" not in letter.body


ELSEWHERE = [
    "https://evil.example/",
    "//evil.example/",
    "///evil.example/",
    "/\\evil.example",
    "\\\\evil.example",
    "https:evil.example",
    "javascript:alert(1)",
    "http://testserver@evil.example/",
    "/\t/evil.example",
    "\t//evil.example",
]


@pytest.mark.parametrize("there", ELSEWHERE)
def test_nobody_is_sent_elsewhere(there: str, owner: User, browser: Any) -> None:
    form = {"login": owner.username, "password": PASSWORD, "next": there}
    answers = [
        Client().post("/accounts/login/", form),
        Client().post("/accounts/login/", form, query_params={"next": there}),
        browser(owner).get("/accounts/login/", {"next": there}),
        browser(owner).post("/accounts/logout/", {"next": there}),
        browser(owner).get("/accounts/signup/", {"next": there}),
        browser(owner).post("/accounts/reauthenticate/", {"password": PASSWORD, "next": there}),
    ]

    for answer in answers:
        assert answer.status_code == 302
        where = answer["Location"]
        assert where.startswith("/"), where
        assert not where.startswith(("//", "/\\", "/\t")), where


@pytest.mark.parametrize("path", ["//evil.example", "//evil.example/reservations", "/reservations//evil.example"])
def test_a_missing_slash_is_added_here(path: str, owner: User, browser: Any) -> None:
    answer = browser(owner).get(path)

    assert not answer.headers.get("Location", "").startswith("//")


# ---- how much is let in -----------------------------------------------------------------------------------


def test_too_large_a_body_is_refused_before_anybody_reads_it(ground: Ground, api: Any) -> None:
    big = "x" * 1_048_577
    browser = ground.browser("owner", enforce_csrf_checks=True)

    page = browser.post("/reservations/new/", big, content_type="text/plain")
    file = browser.post("/accounts/login/", f"--a\r\n{big}", content_type="multipart/form-data; boundary=a")
    answer = api("POST", "/reservations", big)
    without_token = api("POST", "/nothing", big, token=None)

    assert [page.status_code, file.status_code] == [413, 413]
    assert "too large" in page.content.decode()
    for told in (answer, without_token):
        assert (told.status_code, told["Content-Type"]) == (413, "application/problem+json")
        assert told.json()["code"] == "too_large"


def test_no_file_reaches_the_disk(owner: User, tmp_path: Path, settings: Any) -> None:
    settings.FILE_UPLOAD_TEMP_DIR = str(tmp_path)
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10_000_000
    (tmp_path / "sent").write_bytes(b"x" * 3_000_000)
    before = sorted(tmp_path.iterdir())

    with (tmp_path / "sent").open("rb") as file:
        answer = Client().post("/accounts/login/", {"login": "x", "file": file})

    assert answer.status_code == 200
    assert not answer.wsgi_request.FILES
    assert sorted(tmp_path.iterdir()) == before


# ---- an installation on the internet ----------------------------------------------------------------------

PRODUCTION = {
    "SECRET_KEY": "x" * 50,
    "DATABASE_URL": "postgresql://berth@%2Fnonexistent/berth",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "BERTH_BASE_URL": "https://berth.example.org",
    "BERTH_TRUSTED_PROXIES": "1",
}
ASKED = """
import json
from portal import settings
asked = ("SECURE_", "SESSION_COOKIE", "CSRF_COOKIE", "DEBUG", "ALLOWED_HOSTS", "BERTH_BASE")
print(json.dumps({name: getattr(settings, name) for name in dir(settings) if name.startswith(asked)}))
"""


@pytest.fixture
def production(settings: Any) -> dict[str, Any]:
    """Django's settings as they are there; those of this process become the same."""
    env = {"PATH": os.environ["PATH"], **PRODUCTION}
    done = subprocess.run([sys.executable, "-c", ASKED], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    for name, value in found.items():
        setattr(settings, name, tuple(value) if name == "SECURE_PROXY_SSL_HEADER" else value)
    return found


def test_on_the_internet_cookies_are_secure(production: dict[str, Any], owner: User) -> None:
    client = Client(headers={"host": "berth.example.org"})

    answer = client.post("/accounts/login/", {"login": owner.username, "password": PASSWORD}, secure=True)
    client.get("/accounts/logout/", secure=True)  # has a form

    assert answer.status_code == 302
    assert set(client.cookies) >= {"__Host-berth-session", "__Host-berth-csrf"}
    for name, cookie in client.cookies.items():
        assert cookie["secure"], name
        assert cookie["httponly"], name
        assert (cookie["samesite"], cookie["path"], cookie["domain"]) == ("Lax", "/", ""), name


def test_on_the_internet_everything_goes_to_https_and_stays_there(production: dict[str, Any], owner: User) -> None:
    client = Client(headers={"host": "berth.example.org"})

    plain, secure = client.get("/billing/?month=2026-01"), client.get("/", secure=True)
    behind_proxy = client.get("/", headers={"x-forwarded-proto": "https"})

    assert production["DEBUG"] is False
    assert (plain.status_code, plain["Location"]) == (301, "https://berth.example.org/billing/?month=2026-01")
    check(plain, "the redirect")
    assert secure["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains; preload"
    assert behind_proxy.status_code == 200
    assert behind_proxy["Strict-Transport-Security"]


def test_without_a_proxy_nobody_can_say_that_it_was_https(settings: Any, production: dict[str, Any]) -> None:
    settings.SECURE_PROXY_SSL_HEADER = None
    client = Client(headers={"host": "berth.example.org", "x-forwarded-proto": "https"})

    assert client.get("/").status_code == 301


def test_the_debug_page_is_nowhere(production: dict[str, Any], ground: Ground) -> None:
    client = Client(headers={"host": "berth.example.org"}, raise_request_exception=False)

    answer = client.get("/nothing-here/", secure=True)

    assert answer.status_code == 404
    assert "urlconf" not in answer.content.decode().lower()
