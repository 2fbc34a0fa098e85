"""Workers and beat die, come twice, or do the same thing at once."""

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import celery
import pytest

from lab.stack.layout import REPO
from tests.faults.case import Fault
from tests.integration.desk import FINAL, Desk
from tests.live import RunningStack, wait_for

smoke = pytest.mark.smoke
IN_THE_SMOKE_THIRD = {"container-created", "forwards-wanted", "container-removed"}
#: Reached only when something else has gone wrong before; a test of its own has to come there.
ELSEWHERE: set[str] = set()


def _points() -> list[object]:
    """Every fail point of the code, in the order of the source."""
    sources = [path for app in ("compute", "reservations") for path in sorted((REPO / app).rglob("*.py"))]
    names = [name for path in sources for name in re.findall(r'\bhit\("([\w-]+)"\)', path.read_text())]
    assert len(names) == len(set(names)), "two fail points have one name"
    return [
        pytest.param(name, marks=[smoke] if name in IN_THE_SMOKE_THIRD else [])
        for name in names
        if name not in ELSEWHERE
    ]


@pytest.mark.parametrize("point", _points())
def test_the_worker_is_killed_at(desk: Desk, fault: Fault, point: str) -> None:
    fault.arm(point)
    number = desk.book("nginx", size="tiny", storage="C2")["id"]
    if not _happens(lambda: fault.struck(point) or desk.get(number)["state"] == "running"):
        pytest.fail(f"it neither came to {point} nor runs: {desk.get(number)}")
    if fault.struck(point):
        with fault.healing():
            desk.until(number, "running", seconds=60)
            assert desk.fetch(desk.get(number)) == "200"
        return

    desk.delete(number)
    assert _happens(lambda: fault.struck(point)), f"no way is known to {point}: see ELSEWHERE"
    with fault.healing():
        wait_for(lambda: desk.get(number)["state"] in FINAL, seconds=60)


def _happens(what: Callable[[], bool]) -> bool:
    try:
        return wait_for(what, seconds=40)
    except AssertionError:
        return False


def test_worker_and_beat_are_killed_with_bookings_under_way(desk: Desk, stack: RunningStack, fault: Fault) -> None:
    numbers = [desk.book("nginx", size="tiny", storage=code)["id"] for code in ("C1", "C2", "C1")]
    wait_for(lambda: desk.get(numbers[1])["state"] == "starting", seconds=10, interval=0.02)

    stack.kill("worker")
    stack.kill("beat")
    with fault.healing():
        for number in numbers:
            desk.until(number, "running", seconds=60)


@smoke
def test_the_same_task_comes_many_times_at_once(desk: Desk, stack: RunningStack, fault: Fault) -> None:
    queue = celery.Celery(broker=stack.env["REDIS_URL"].replace("unix:", "redis+socket:"))
    numbers = [desk.book("nginx", size="tiny", storage=code)["id"] for code in ("C1", "C2")]
    for _ in range(20):
        for number in numbers:
            queue.send_task("reservations.tasks.reconcile", (number,))
    queue.close()

    with fault.healing():
        with ThreadPoolExecutor(2) as pool:  # and by hand, beside the worker
            list(pool.map(lambda number: stack.run_manage("reconcile", str(number)), numbers))
        for number in numbers:
            desk.until(number, "running", seconds=60)
    for number in numbers:
        assert [state for state, _ in desk.history(number)] == ["booked", "starting", "running"]


@pytest.fixture
def second_beat(stack: RunningStack) -> Iterator[None]:
    tree, schedule = stack.stack.tree, stack.stack.layout.scratch / "second-beat"
    argv = [str(stack.stack.layout.python), "-m", "celery", "-A", "portal", "beat", "--pidfile="]
    command = tree.enter([*argv, "--schedule", str(schedule), "--loglevel", "info"])
    path = stack.log / "second-beat.log"
    told = {**tree.environment(), "BERTH_LOG_LEVEL": "debug"}  # else what it sends is in no log
    with open(path, "wb") as log:
        process = subprocess.Popen(command, env=told, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(lambda: path.read_text().count("Sending due task") > 5, seconds=30)
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(10)


@smoke
def test_two_beats_run(second_beat: None, desk: Desk, stack: RunningStack, fault: Fault) -> None:
    numbers = [desk.running("nginx", size="tiny")["id"] for _ in range(3)]

    with fault.healing():
        stack.run_manage("reconcile")
        desk.delete_and_wait(numbers[0])
    for number in numbers[1:]:
        assert [state for state, _ in desk.history(number)] == ["booked", "starting", "running"]
