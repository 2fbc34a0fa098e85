"""The integration suite talks to the running portal only: no test here may touch Django's own test database.

What a module books is deleted at its end, and then the oracle must find every promise kept.
"""

from collections.abc import Iterator

import pytest

from lab import Lab
from tests.integration.desk import Desk
from tests.live import Api, RunningStack, sign_up
from tests.oracle import Foreign, Oracle


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "integration" in item.path.parts:
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session")
def oracle(lab: Lab, stack: RunningStack) -> Iterator[Oracle]:
    """Says whether the promises hold; strangers that it watches stand on the nodes meanwhile."""
    yield Oracle(lab, stack.env["DATABASE_URL"], Foreign.put(lab))
    Foreign.remove(lab)


@pytest.fixture(scope="session")
def customer_desk(lab: Lab, stack: RunningStack) -> Iterator[Desk]:
    customer = sign_up(stack.base_url)
    token = stack.run_manage("create_token", customer.username).stdout.split()[-1]
    api = Api(stack.base_url, token)
    desk = Desk(stack, lab, api, customer.username)
    desk.sql(
        "UPDATE accounts_workspace SET max_reservations = 500, max_cores = 500, max_ram_mib = 900000,"
        " max_storage_gb = 5000 WHERE personal_of_id = (SELECT id FROM accounts_user WHERE username = %s)",
        customer.username,
    )
    yield desk
    api.close()


@pytest.fixture(scope="module")
def module_desk(customer_desk: Desk, oracle: Oracle) -> Iterator[Desk]:
    """For what several tests of a module share."""
    yield customer_desk
    customer_desk.clear()
    oracle.settled()


@pytest.fixture
def desk(customer_desk: Desk, oracle: Oracle) -> Iterator[Desk]:
    """For one test; what was booked before (by a module's fixture) stays."""
    before, customer_desk.booked = customer_desk.booked, []
    yield customer_desk
    try:
        customer_desk.clear()
    finally:
        customer_desk.booked = before
    oracle.settled()
