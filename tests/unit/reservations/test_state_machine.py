"""Thousands of schedules: the real reconcile code against machines in memory, with a crash at any step."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from compute import failpoints
from compute import tasks as machine_tasks
from compute.models import Node
from reservations import tasks
from tests.factories import (
    make_gateway,
    make_node,
    make_profiles,
    make_service,
    make_size,
    make_storage,
    make_user,
    workspace_of,
)
from tests.unit.reservations.state_machine import Fleet, Schedules, tally
from tests.unit.reservations.state_promises import Held
from tests.unit.reservations.state_world import Door

pytestmark = pytest.mark.django_db(transaction=True)
EXAMPLES = int(os.environ.get("BERTH_SCHEDULES", "300"))
SETTINGS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=int(os.environ.get("BERTH_STEPS", "8")),
    derandomize="BERTH_SCHEDULES" not in os.environ,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
    phases=[Phase.generate, *([] if "BERTH_NO_SHRINK" in os.environ else [Phase.shrink])],
)


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[None]:
    """Three nodes behind two gateways, a storage server, a customer: saved once, for all examples."""
    settings.BERTH_REGISTRY = "registry.test:5000"
    gate = make_gateway(name="gate")
    east = make_gateway(name="east", public_address="198.18.0.2")
    for name, gateway in (("a", gate), ("b", gate), ("c", east)):
        make_node(name, gateway=gateway, ssh=name, ram_mib=1024, cores=Decimal(2))
    make_storage()
    make_profiles()
    make_size("small")
    make_size("big", ram_mib=1024, cores=Decimal(1))
    make_service("plain", image="library/nginx:1")
    make_service("data", image="library/nginx:1", mount_path="/data")
    Fleet.door, Fleet.user = Door(), make_user()
    Fleet.workspace = workspace_of(Fleet.user)
    Fleet.lent = {node.name: Held(node.ram_mib, node.cores) for node in Node.objects.all()}
    Fleet.names = dict(Node.objects.values_list("pk", "name"))
    Fleet.door.open(monkeypatch)
    monkeypatch.setattr(timezone, "now", lambda: Fleet.door.world.clock.now)
    for task in (tasks.watch_node, tasks.sweep_volumes_of, machine_tasks.probe_node):
        monkeypatch.setattr(task, "apply_async", _at_once(task))
    logging.disable(logging.CRITICAL)  # what goes wrong on purpose a thousand times
    yield
    logging.disable(logging.NOTSET)
    failpoints.handle(None)


def _at_once(task: Any) -> Callable[..., None]:
    """In place of a task's `apply_async`: what it is sent for is done now."""

    def call(args: tuple[int], **options: Any) -> None:
        if Fleet.names[args[0]] not in Fleet.door.world.quiet:
            task.run(*args)

    return call


def test_whatever_happens_in_whatever_order_the_promises_hold(fleet: None, capsys: pytest.CaptureFixture[str]) -> None:
    began, busy = time.monotonic(), time.process_time()
    try:
        run_state_machine_as_test(Schedules, settings=SETTINGS)
    finally:
        took, cpu = time.monotonic() - began, time.process_time() - busy
        counts = ", ".join(f"{number} {what}" for what, number in sorted(tally.items()))
        with capsys.disabled():
            print(f"\n{took:.0f} s ({cpu:.0f} s of this process): {counts}")  # noqa: T201
