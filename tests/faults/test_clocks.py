"""Clocks that are off by ten minutes: the portal's processes', a command's, a node's."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from lab import Lab
from tests.faults import windows
from tests.faults.case import Fault
from tests.integration.desk import FINAL, Desk
from tests.live import RunningStack, wait_for

smoke = pytest.mark.smoke
BOTH_WAYS = pytest.mark.parametrize("off", ["+10m", pytest.param("-10m", marks=smoke)])
NAME = "wrong-clock@berth"
WORKER = ["worker", "--pool", "threads", "--concurrency", "12", "--without-gossip", "--without-mingle"]
WORKER += ["--without-heartbeat", "--loglevel", "info", "--hostname", NAME]
#: The clock of the day is off; the one that only goes on is not, as on a machine with a wrong time. Not for programs
#: that call time.sleep, which fails then in faketime 0.9.10: their other clock is off as well.
FAKED = {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}


@contextmanager
def _beside(stack: RunningStack, off: str, *argv: str, faked: dict[str, str]) -> Iterator[Callable[[], str]]:
    """A second process of the portal whose clock is off; what is yielded reads its log."""
    tree = stack.stack.tree
    command = tree.enter(["faketime", "-m", "-f", off, str(stack.stack.layout.python), *argv])
    path = stack.log / "wrong-clock.log"
    with open(path, "wb") as log:
        process = subprocess.Popen(
            command, env={**tree.environment(), **faked}, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield path.read_text
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def _passed(desk: Desk, seconds: float) -> None:
    """Real time goes by, by the database's clock."""
    begin = windows.now(desk)
    wait_for(lambda: windows.now(desk) - begin >= timedelta(seconds=seconds), seconds=seconds + 10)


def _over(desk: Desk, number: int) -> Callable[[], bool]:
    return lambda: desk.get(number)["state"] in FINAL


@BOTH_WAYS
@pytest.mark.faults(seconds=240)
def test_a_worker_whose_clock_is_off_leaves_the_work_to_others(
    desk: Desk, stack: RunningStack, fault: Fault, off: str
) -> None:
    runs = desk.running("nginx", size="tiny")["id"]
    windows.end_at(desk, runs, windows.now(desk) + timedelta(minutes=5))
    later = desk.book("nginx", size="tiny", start=(windows.now(desk) + timedelta(minutes=5)).isoformat())["id"]
    ends = desk.running("nginx", size="tiny")["id"]
    with _beside(stack, off, "-m", "celery", "-A", "portal", *WORKER, faked=FAKED) as log:
        wait_for(lambda: "takes no more work" in log(), seconds=60)
        beside = desk.running("nginx", size="tiny", seconds=60)["id"]  # with both there
        end = windows.now(desk) + timedelta(seconds=2)
        windows.end_at(desk, ends, end)
        wait_for(_over(desk, ends), seconds=60)
        [[late]] = desk.sql("SELECT ended_at FROM reservations_reservation WHERE id = %s", ends)
        fault.note(f"ended {(late - end).total_seconds():.1f} s after its end")
        assert timedelta(0) < late - end < timedelta(seconds=60)
        assert "ahead of" in log() if off.startswith("+") else "behind" in log()
        said = stack.run_manage("doctor", check=False).stdout
        assert f"{NAME}: this process's clock is" in said

        stack.stop("worker")  # now it would be the only one
        windows.end_at(desk, beside, windows.now(desk) + timedelta(seconds=1))
        windows.begin_at(desk, later, windows.now(desk) + timedelta(minutes=4))
        _passed(desk, 20)
        assert [desk.get(number)["state"] for number in (runs, later, beside)] == ["running", "booked", "running"]
        wait_for(lambda: not stack.stack.ready(), seconds=20)

        with fault.healing():
            stack.start("worker")
            wait_for(_over(desk, beside), seconds=60)
    assert [desk.get(number)["state"] for number in (runs, later)] == ["running", "booked"]
    assert "Traceback" not in log()


@BOTH_WAYS
def test_the_clock_of_beat_is_off(desk: Desk, stack: RunningStack, fault: Fault, off: str) -> None:
    ends = desk.running("nginx", size="tiny")["id"]
    stack.stop("beat")
    schedule = str(stack.stack.layout.scratch / f"schedule-{off}")  # one that knows no earlier runs
    beat = ["beat", "--pidfile=", "--schedule", schedule, "--loglevel", "info"]
    told = {"BERTH_LOG_LEVEL": "debug"}  # else what it sends is in no log
    with _beside(stack, off, "-m", "celery", "-A", "portal", *beat, faked=told) as log:
        wait_for(lambda: log().count("Sending due task") > 5, seconds=60)
        end = windows.now(desk) + timedelta(seconds=5)
        windows.end_at(desk, ends, end)
        with fault.healing():
            desk.running("nginx", size="tiny", seconds=60)
            wait_for(_over(desk, ends), seconds=60)
        [[late]] = desk.sql("SELECT ended_at FROM reservations_reservation WHERE id = %s", ends)
        fault.note(f"ended {(late - end).total_seconds():.1f} s after its end")
    for path in stack.stack.layout.scratch.glob("schedule-*"):
        path.unlink()


@BOTH_WAYS
def test_the_clock_of_an_operator_is_off(desk: Desk, stack: RunningStack, fault: Fault, off: str) -> None:
    runs = desk.running("nginx", size="tiny")["id"]
    windows.end_at(desk, runs, windows.now(desk) + timedelta(minutes=5))
    manage = [str(stack.stack.layout.python), "manage.py"]

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        argv = stack.stack.tree.enter(["faketime", "-m", "-f", off, *manage, *command])
        return subprocess.run(
            argv, env=stack.stack.tree.environment(), text=True, capture_output=True, timeout=60, check=False
        )

    by_hand = run("reconcile", str(runs))
    assert by_hand.returncode == 1
    assert "Nothing was done: this process's clock is" in by_hand.stderr
    assert "the database's" in run("doctor").stdout

    with fault.healing():
        stack.run_manage("reconcile", str(runs))
    assert desk.get(runs)["state"] == "running"


# ---- a node's clock -----------------------------------------------------------------------------------------------


@contextmanager
def _wrong_clock_of_the_guard(lab: Lab, node: str, off: str) -> Iterator[None]:
    """The node's own timer sees another time: its configuration is read anew at each round."""
    [library] = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    lines = [f"export LD_PRELOAD={library} FAKETIME={off}", *(f"export {key}={value}" for key, value in FAKED.items())]
    _sh(lab, node, ["cat >/etc/berth/guard.local"], text="".join(f"{line}\n" for line in lines))
    try:
        yield
    finally:
        _sh(lab, node, ["rm -f /etc/berth/guard.local"])


def _sh(lab: Lab, node: str, commands: Sequence[str], *, text: str | None = None) -> str:
    return lab.exec(node, ["sh", "-ec", "\n".join(commands)], input=text).stdout


@BOTH_WAYS
@pytest.mark.faults(seconds=240)
def test_the_clock_of_a_node_is_off(desk: Desk, lab: Lab, stack: RunningStack, fault: Fault, off: str) -> None:
    reservation = desk.running("nginx", size="tiny")
    number, node, name = reservation["id"], reservation["node"], desk.container(reservation["id"])
    windows.end_at(desk, number, windows.now(desk) + timedelta(minutes=5))
    stack.run_manage("reconcile", str(number))  # tells the node its end
    assert _sh(lab, node, [f"cat /var/lib/berth/leases/{name}"])
    with _wrong_clock_of_the_guard(lab, node, off):
        before = _beat(lab, node)
        wait_for(lambda: _beat(lab, node) >= before + 20, seconds=60)  # two rounds at least
        assert "true" in _sh(lab, node, [f"docker inspect -f '{{{{.State.Running}}}}' {name}"])
        assert "its clock is" in stack.run_manage("doctor", check=False).stdout

        # Cut off, it ends it by itself and on time.
        end = windows.now(desk) + timedelta(seconds=15)
        windows.end_at(desk, number, end)
        stack.run_manage("reconcile", str(number))
        lab.cut(node)
        wait_for(lambda: "false" in _sh(lab, node, [f"docker inspect -f '{{{{.State.Running}}}}' {name}"]), seconds=90)
        late = (windows.now(desk) - end).total_seconds()
        fault.note(f"stopped by the node {late:.1f} s after the end")
        assert -1 < late < 60
    with fault.healing():
        lab.heal(node)
        wait_for(_over(desk, number), seconds=60)


def _beat(lab: Lab, node: str) -> int:
    return int(_sh(lab, node, ["cut -d' ' -f1 /run/berth/guard.beat"]))
