"""The engine dies, or its answers do, in the midst of a start."""

import threading
from typing import Any

import pytest

from lab import Lab
from tests.faults.case import Fault
from tests.faults.proxy import CREATE, START, EngineProxy, Mode
from tests.integration.desk import Desk
from tests.live import wait_for

CALLS = {"create": CREATE, "start": START}
smoke = pytest.mark.smoke


def _containers(desk: Desk, number: int) -> dict[str, list[str]]:
    """The containers of the reservation on every node."""
    listing = ["docker", "ps", "-a", "--format", "{{.Names}}", "--filter", f"label=berth.reservation={number}"]
    return {node.name: desk.lab.exec(node.name, listing).stdout.split() for node in desk.lab.info.nodes}


def _one_container_serves(desk: Desk, number: int) -> bool:
    found = desk.get(number)
    names = [name for there in _containers(desk, number).values() for name in there]
    return found["state"] == "running" and names == [desk.container(number)] and desk.fetch(found) == "200"


@pytest.mark.parametrize(
    ("moment", "call"),
    [
        ("before", "create"),
        ("during", "create"),
        ("after", "create"),
        ("before", "start"),
        pytest.param("during", "start", marks=smoke),
        ("after", "start"),
    ],
)
def test_the_engine_is_killed(desk: Desk, lab: Lab, fault: Fault, proxy: EngineProxy, moment: str, call: str) -> None:
    killed = threading.Event()

    def kill(node: str) -> None:
        lab.kill_daemon(node, "dockerd")
        killed.set()

    hooks: dict[str, Any] = {moment: kill}
    proxy.disturb(Mode.PASS, CALLS[call], **hooks)
    number = desk.book("nginx", size="tiny")["id"]
    assert killed.wait(30)

    with fault.healing():
        fault.mend()
        wait_for(lambda: _one_container_serves(desk, number), seconds=60, interval=0.5)


@pytest.mark.parametrize(
    ("mode", "call"),
    [
        *((mode, call) for mode in (Mode.CUT_BEFORE, Mode.CUT_AFTER, Mode.HANG) for call in CALLS),
        pytest.param(Mode.SWALLOW, "create", marks=smoke),
        (Mode.SWALLOW, "start"),
    ],
)
def test_the_answer_of_the_engine_is_lost(desk: Desk, fault: Fault, proxy: EngineProxy, mode: Mode, call: str) -> None:
    trouble = proxy.disturb(mode, CALLS[call])
    number = desk.book("nginx", size="tiny")["id"]
    trouble.wait_seen()

    with fault.healing():  # the caller of a black hole has to give up by itself
        wait_for(lambda: _one_container_serves(desk, number), seconds=60, interval=0.5)


@pytest.mark.parametrize("call", CALLS)
def test_the_answer_of_the_engine_is_late(desk: Desk, fault: Fault, proxy: EngineProxy, call: str) -> None:
    trouble = proxy.disturb(Mode.DELAY, CALLS[call], seconds=10)
    number = desk.book("nginx", size="tiny")["id"]
    trouble.wait_seen()

    with fault.healing():
        wait_for(lambda: _one_container_serves(desk, number), seconds=60, interval=0.5)
    assert len(desk.history(number)) == 3  # booked, starting, running: late is not lost
