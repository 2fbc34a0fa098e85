"""Thousands of schedules: the real reconcile code against machines in memory, with a crash at any step."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from compute import failpoints, volumes
from compute import tasks as machine_tasks
from compute.models import Node
from reservations import ending, sightings, tasks, watch
from reservations.models import Container
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
from tests.unit.reservations.state_world import Door, Script

pytestmark = pytest.mark.django_db(transaction=True)
EXAMPLES = int(os.environ.get("BERTH_SCHEDULES", "200"))
SETTINGS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=int(os.environ.get("BERTH_STEPS", "8")),
    derandomize="BERTH_RANDOM" not in os.environ,
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


def _gone_before_it_is(container: Container, clock: Any) -> None:
    ending.note_gone(container, clock())
    REMOVE(container, clock)


def _nothing(*args: Any, **options: Any) -> None:
    """A part of the product that was forgotten."""


def _delete(machine: Schedules, script: Script) -> None:
    machine.delete(0, script)


def _cut_off(machine: Schedules, script: Script) -> None:
    machine.node_fails("a", "cut off")
    for _ in range(14):
        machine.everything_runs(1)
    machine.always()
    machine.node_returns("a", wiped=False)


def _end_of_one_on_a_silent_node(machine: Schedules, script: Script) -> None:
    machine.node_fails("a", "cut off")
    machine.time_passes(3601)
    machine.look_at_one(0, {})


def _nobodys(machine: Schedules, script: Script) -> None:
    machine.stranger_appears("a", "orphan")
    for _ in range(3):
        machine.everything_runs(1)
        machine.always()


REMOVE = ending.remove_container
Fault = tuple[Any, str, Any, Callable[[Schedules, Script], None], tuple[Any, ...]]
FAULTS: dict[str, Fault] = {
    "released before it is gone": (ending, "remove_container", _gone_before_it_is, _delete, ("no answer",)),
    "what may be there is not held": (ending, "hold_on", _nothing, _end_of_one_on_a_silent_node, ("crash",)),
    "a rule is left at the end": (ending, "unroute", _nothing, _delete, ("crash",)),
    "a volume is left mounted": (volumes, "remove_local", _nothing, _delete, ("crash",)),
    "older generations stay": (watch, "_remove_left_behind", _nothing, _cut_off, ("crash",)),
    "orphans go at once": (sightings, "GRACE", timedelta(0), _nobodys, ("crash",)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_product_is_found(fault: str, fleet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the fault put in, one of thirty schedules, each with its mishap a moment later, breaks a promise."""
    place, name, instead, then, deed = FAULTS[fault]
    monkeypatch.setattr(place, name, instead)
    with pytest.raises(AssertionError):
        _thirty_schedules(then, deed)


def _thirty_schedules(then: Callable[[Schedules, Script], None], deed: tuple[Any, ...]) -> None:
    for moment in range(1, 31):
        machine = Schedules()
        try:
            machine.first("C1", {})
            machine.always()
            then(machine, {moment: deed})
            machine.always()
        finally:
            machine.teardown()


def test_whatever_happens_in_whatever_order_the_promises_hold(fleet: None, capsys: pytest.CaptureFixture[str]) -> None:
    began, busy = time.monotonic(), time.process_time()
    try:
        run_state_machine_as_test(Schedules, settings=SETTINGS)
    finally:
        took, cpu = time.monotonic() - began, time.process_time() - busy
        counts = ", ".join(f"{number} {what}" for what, number in sorted(tally.items()))
        with capsys.disabled():
            print(f"\n{took:.0f} s ({cpu:.0f} s of this process): {counts}")  # noqa: T201
