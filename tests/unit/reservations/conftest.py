"""One reservation on one node, with its machines in memory."""

import pytest

from compute.models import Node
from reservations.models import Reservation
from tests.factories import make_node, make_reservation
from tests.fakes import FakeEngine, FakeGateway
from tests.unit.conftest import Machines


@pytest.fixture
def node() -> Node:
    return make_node("one", cores=8)


@pytest.fixture
def engine(machines: Machines, node: Node) -> FakeEngine:
    return machines.engine(node)


@pytest.fixture
def gateway(machines: Machines, node: Node) -> FakeGateway:
    return machines.gateway(node.gateway)


@pytest.fixture
def reservation(node: Node) -> Reservation:
    """nginx from NOW for an hour."""
    return make_reservation()
