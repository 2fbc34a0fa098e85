"""Fixtures for all suites.

unit tests run against a test database and open no network connection. The others talk to the running portal
(`stack`) and its lab (`lab`), which script/test brings up.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import pytest_socket

from lab import Lab
from tests.live import Api, Customer, RunningStack, sign_up

UNIT = Path(__file__).parent / "unit"
Outside = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def _no_network_in_unit_tests(request: pytest.FixtureRequest) -> Iterator[None]:
    if UNIT not in request.path.parents:
        yield
        return
    pytest_socket.disable_socket(allow_unix_socket=True)
    yield
    pytest_socket.enable_socket()


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The lab that is up for the tests (BERTH_LAB, by default test)."""
    running = Lab(os.environ.get("BERTH_LAB", "test"))
    if not running.status().exists:
        pytest.fail(f"the lab {running.name} is not up: run script/test integration", pytrace=False)
    return running


@pytest.fixture(scope="session")
def stack() -> RunningStack:
    """The portal that is up for the tests (BERTH_STACK, by default test)."""
    running = RunningStack(os.environ.get("BERTH_STACK", "test"))
    if running.status().programs.get("web") != "RUNNING":
        pytest.fail(f"the portal of {running.name} is not up: run script/test integration", pytrace=False)
    return running


@pytest.fixture(scope="session")
def outside(lab: Lab) -> Outside:
    """Runs a program where customers are: `outside("curl", "-s", address, check=False)`."""

    def run(*argv: str, check: bool = True, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        return lab.exec("outside", argv, check=check, timeout=timeout)

    return run


@pytest.fixture
def new_user(stack: RunningStack) -> Callable[[], Customer]:
    """Signs up a customer at each call."""
    return lambda: sign_up(stack.base_url)


@pytest.fixture
def new_api(stack: RunningStack, new_user: Callable[[], Customer]) -> Iterator[Callable[..., Api]]:
    """The API as a given user, or as a fresh customer: `new_api()`, `new_api("admin")`."""
    opened: list[Api] = []

    def open_api(username: str | None = None) -> Api:
        token = stack.run_manage("create_token", username or new_user().username).stdout.split()[-1]
        opened.append(Api(stack.base_url, token))
        return opened[-1]

    yield open_api
    for api in opened:
        api.close()


@pytest.fixture
def api(new_api: Callable[..., Api]) -> Api:
    """The API as a fresh customer."""
    return new_api()
