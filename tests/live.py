"""What the suites hold in their hands that talk to the running portal: its stack, its API, its customers."""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import requests

from lab.stack import environment
from lab.stack.layout import REPO
from lab.stack.stack import Stack, Status

_HTTP_SECONDS = 30
T = TypeVar("T")


def wait_for(what: Callable[[], T], *, seconds: float = 60, interval: float | None = None) -> T:
    """The first true answer of `what`. Fails with the last answer when there is none within the time.

    Without an interval it asks ten times a second at first, and twice a second when it has waited for ten: each
    question costs the portal and the lab time that other suites beside this one need.
    """
    begin = time.monotonic()
    while True:
        answer = what()
        if answer:
            return answer
        waited = time.monotonic() - begin
        if waited > seconds:
            raise AssertionError(f"waited {seconds} s in vain; the last answer was {answer!r}")
        time.sleep(interval or min(max(waited / 20, 0.1), 0.5))


class RunningStack:
    """The portal that runs for the tests, with ways to look into it and to break it."""

    def __init__(self, name: str) -> None:
        self.stack = Stack(name)
        self.name = name
        self.base_url = self.stack.base_url
        self.env: Mapping[str, str] = self.stack.env
        self.log: Path = self.stack.layout.log

    def run_manage(self, *arguments: str, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command of manage.py as an operator does: as root, in the checkout."""
        env = {key: value for key, value in os.environ.items() if not key.startswith("BERTH_")}
        env |= dict(self.env) | {"BERTH_ENV_FILE": str(self.stack.layout.env_file)}
        argv = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(argv, cwd=REPO, env=env, timeout=timeout, check=False, text=True, capture_output=True)
        if check and done.returncode != 0:
            raise AssertionError(f"manage.py {' '.join(arguments)} ended with {done.returncode}: {done.stderr}")
        return done

    def database(self) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection to the portal's own database, not to a test database. The caller closes it."""
        return psycopg.connect(environment.read(self.stack.layout)["DATABASE_URL"], autocommit=True)

    def status(self) -> Status:
        return self.stack.status()

    def stop(self, *programs: str) -> None:
        """Stop web, worker, beat, postgres or redis, and return when they have ended."""
        self.stack.tree.control.stop(programs)

    def start(self, *programs: str) -> None:
        """Start them; returns when they run (which for web is a moment before it answers)."""
        self.stack.tree.control.start(programs)

    def kill(self, program: str) -> None:
        """SIGKILL, as a crash does. supervisord starts it again at once."""
        self.stack.tree.control.kill(program)

    def wait_ready(self, seconds: float = 60) -> None:
        """Wait until /readyz says that database, Redis and a worker are there."""
        wait_for(self.stack.ready, seconds=seconds)

    def log_text(self, program: str) -> str:
        """All that the program wrote since it was last rotated."""
        path = self.log / f"{program}.log"
        return path.read_text(errors="replace") if path.exists() else ""


@dataclass(frozen=True)
class Customer:
    """Somebody who signed up: a fresh one for each test that asks."""

    username: str
    email: str
    password: str


class Api:
    """The JSON API with one user's token. Methods take paths below /api/v1, as /reservations."""

    def __init__(self, base_url: str, token: str) -> None:
        self.base = f"{base_url}/api/v1"
        self.session = requests.Session()
        self.session.trust_env = False  # a proxy for the internet has no business here
        self.session.headers["Authorization"] = f"Bearer {token}"

    def request(self, method: str, path: str, body: Any = None) -> requests.Response:
        """The answer, whatever its status."""
        return self.session.request(method, self.base + path, json=body, timeout=_HTTP_SECONDS)

    def get(self, path: str) -> Any:
        """The body of a successful GET."""
        return self._successful("GET", path)

    def post(self, path: str, body: Any) -> Any:
        """The body of a successful POST."""
        return self._successful("POST", path, body)

    def delete(self, path: str) -> Any:
        """The body of a successful DELETE, or None when there is none."""
        return self._successful("DELETE", path)

    def close(self) -> None:
        self.session.close()

    def _successful(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.request(method, path, body)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None


def sign_up(base_url: str) -> Customer:
    """A new customer, made as customers are: through the sign-up page."""
    name = f"u{secrets.token_hex(5)}"
    customer = Customer(name, f"{name}@example.org", secrets.token_urlsafe(12))
    address = f"{base_url}/accounts/signup/"
    with requests.Session() as browser:
        browser.trust_env = False
        browser.get(address, timeout=_HTTP_SECONDS).raise_for_status()
        form = {
            "username": customer.username,
            "email": customer.email,
            "password1": customer.password,
            "password2": customer.password,
            "csrfmiddlewaretoken": browser.cookies["csrftoken"],
        }
        headers = {"Referer": address}
        answer = browser.post(address, form, headers=headers, timeout=_HTTP_SECONDS, allow_redirects=False)
    assert answer.status_code == 302, f"signing up failed: {answer.status_code} {answer.text[:2000]}"
    return customer
