"""Which of the tasks that wait a worker takes first, asked of the real Redis."""

import uuid

import pytest

from compute.tasks import probe_node
from portal.celery import app
from reservations.tasks import reconcile, watch_node

pytestmark = pytest.mark.django_db


def test_hints_come_before_probes_and_probes_before_rounds() -> None:
    """Where a thousand nodes make more rounds than the workers can do, customers do not wait behind them."""
    name = f"order-{uuid.uuid4()}"
    for task in (watch_node, probe_node, reconcile):
        task.apply_async((1,), queue=name)

    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue(name)
        order = [queue.get(timeout=5).headers["task"] for _ in range(3)]
        queue.clear()
        queue.close()

    assert order == [reconcile.name, probe_node.name, watch_node.name]
