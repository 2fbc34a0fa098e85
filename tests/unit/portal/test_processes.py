"""What processes count: added up over all of one machine, also over those that ended."""

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.test import Client
from prometheus_client import REGISTRY

from portal.env import ROOT
from portal.metrics import processes
from reservations.models import Reservation
from reservations.states import State
from tests.factories import NOW, make_node, make_reservation
from tests.unit.conftest import Machines

COUNT = """
    import os, sys
    from portal.metrics.processes import START_FAILURES, REQUEST_SECONDS
    START_FAILURES.labels("node").inc(3)
    REQUEST_SECONDS.labels("home", "GET", "2xx").observe(0.3)
    print("counted", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def counting(run_dir: Path, code: str = COUNT) -> Iterator[subprocess.Popen[str]]:
    """A process of the portal that counts; it lives until the block ends."""
    env = os.environ | {
        "BERTH_TESTING": "0",
        "BERTH_RUN_DIR": str(run_dir),
        "DJANGO_SETTINGS_MODULE": "portal.settings",
    }
    env.pop("PROMETHEUS_MULTIPROC_DIR", None)
    argv = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(argv, cwd=ROOT, env=env, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "counted\n"
            yield process
        finally:
            process.stdin.close()
            process.wait(20)


def folder(run_dir: Path) -> Path:
    return run_dir / f"metrics-{os.getuid()}"


def told(run_dir: Path) -> dict[str, float]:
    found = processes._Shared(folder(run_dir)).collect()
    return {f"{s.name}{s.labels.get('le', '')}": s.value for metric in found for s in metric.samples}


def test_what_several_processes_counted_is_added_up_and_stays_when_they_end(tmp_path: Path) -> None:
    with counting(tmp_path):
        one = told(tmp_path)
        with counting(tmp_path):
            two = told(tmp_path)
        after_one = told(tmp_path)
    after_both = told(tmp_path)
    again = told(tmp_path)

    assert one["berth_start_failures_total"] == 3
    assert two["berth_start_failures_total"] == after_one["berth_start_failures_total"] == 6
    assert after_both == again == two
    assert two["berth_http_request_duration_seconds_count"] == 2
    assert two["berth_http_request_duration_seconds_bucket0.25"] == 0
    assert two["berth_http_request_duration_seconds_bucket0.5"] == 2


def test_the_files_of_a_dead_process_are_folded_into_one(tmp_path: Path) -> None:
    for _ in range(3):
        with counting(tmp_path) as process:
            process.kill()
            process.wait(20)
    before = {path.name for path in folder(tmp_path).glob("*.db")}
    with counting(tmp_path) as process:
        found = told(tmp_path)
        left = {path.name for path in folder(tmp_path).glob("*.db")}
        alive = [path.name.partition("-")[0] for path in folder(tmp_path).glob("*.alive")]

        assert len(before) == 6
        assert found["berth_start_failures_total"] == 12
        assert len(left) == 4
        assert {"counter_gone.db", "histogram_gone.db"} <= left
        assert alive == [str(process.pid)]


def test_a_fork_counts_for_itself(tmp_path: Path) -> None:
    forking = COUNT.replace(
        'print("counted"', 'pid = os.fork()\n    START_FAILURES.labels("node").inc()\n    pid and print("counted"'
    )
    with counting(tmp_path, forking):
        until = time.monotonic() + 10
        while told(tmp_path)["berth_start_failures_total"] < 5 and time.monotonic() < until:
            time.sleep(0.05)
        assert told(tmp_path)["berth_start_failures_total"] == 5
        assert len(list(folder(tmp_path).glob("counter_*.db"))) == 2


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / f"metrics-{os.getuid()}").write_text("in the way")

    with counting(tmp_path) as process:
        assert process.poll() is None


def test_other_users_cannot_read_the_folder(tmp_path: Path) -> None:
    with counting(tmp_path):
        assert folder(tmp_path).stat().st_mode & 0o777 == 0o700


# ---- on a machine without a web process -------------------------------------------------------------------

LISTEN = """
    import django, urllib.error, urllib.request
    django.setup()
    from portal.metrics import listener
    from portal.metrics.processes import START_FAILURES
    START_FAILURES.labels("node").inc(3)
    server = listener.listen("127.0.0.1", 0)
    taken = listener.listen("127.0.0.1", server.server_port)

    def ask(path, **headers):
        request = urllib.request.Request(f"http://127.0.0.1:{server.server_port}{path}", headers=headers)
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
                return answer.status, "berth_start_failures_total{reason=\\"node\\"} 3.0" in answer.read().decode()
        except urllib.error.HTTPError as problem:
            return problem.code, False

    token = "a-token-of-some-length"
    print("counted", flush=True)
    print([taken, ask("/metrics"), ask("/metrics", Authorization=f"Bearer {token}"), ask("/admin/")], flush=True)
"""


@pytest.mark.parametrize(
    ("token", "found"),
    [
        ("", "[None, (200, True), (200, True), (404, False)]"),
        ("a-token-of-some-length", "[None, (401, False), (200, True), (404, False)]"),
    ],
)
def test_a_worker_tells_its_machines_figures_where_it_is_told_to_listen(
    token: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERTH_METRICS_TOKEN", token)

    with counting(tmp_path, LISTEN) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == found + "\n"


# ---- starts -----------------------------------------------------------------------------------------------


def started(result: str) -> tuple[float, float]:
    """How many starts so ended, and how many seconds they took in all."""
    sample = REGISTRY.get_sample_value
    name, labels = "berth_start_duration_seconds", {"result": result}
    return sample(f"{name}_count", labels) or 0.0, sample(f"{name}_sum", labels) or 0.0


def failures(reason: str) -> float:
    return REGISTRY.get_sample_value("berth_start_failures_total", {"reason": reason}) or 0.0


@pytest.mark.django_db(transaction=True)
def test_a_start_is_counted_from_when_it_was_due(machines: Machines) -> None:
    make_node("one")
    reservation = make_reservation()
    machines.clock.forward(seconds=7)
    before = started("success")

    assert machines.settle(reservation).state == State.RUNNING

    assert started("success") == (before[0] + 1, before[1] + 7)


@pytest.mark.django_db(transaction=True)
def test_a_second_start_is_counted_from_when_it_began(machines: Machines) -> None:
    make_node("one")
    reservation = machines.settle(make_reservation())
    machines.clock.forward(minutes=30)
    before = started("success")
    machines.engine(reservation.current_container.node).containers.clear()  # type: ignore[union-attr]

    reservation = machines.settle(reservation)

    assert reservation.restarts == 1
    count, seconds = started("success")
    assert count == before[0] + 1
    assert seconds - before[1] < 60


@pytest.mark.django_db(transaction=True)
def test_one_that_is_given_up_is_a_failure_with_its_reasons(machines: Machines) -> None:
    node = make_node("one")
    reservation = make_reservation()
    machines.engine(node).registry.clear()
    before, hopeless = started("failure"), failures("hopeless")

    reservation = machines.settle(reservation)

    assert Reservation.objects.get().failure
    assert started("failure")[0] == before[0] + 1
    assert failures("hopeless") == hopeless + 1


@pytest.mark.django_db(transaction=True)
def test_what_its_customer_ends_while_it_starts_is_neither(machines: Machines) -> None:
    from reservations import actions

    make_node("one")
    reservation = make_reservation()
    machines.speechless = True
    assert machines.reconcile(reservation).state == State.STARTING
    before = started("success")[0], started("failure")[0]

    actions.end(reservation=Reservation.objects.get(), text="Deleted.", by=reservation.created_by, now=NOW)
    machines.settle(reservation)

    assert (started("success")[0], started("failure")[0]) == before


@pytest.mark.django_db
def test_a_slow_request_is_in_the_right_bucket() -> None:
    def count() -> float:
        labels = {"route": "healthz", "method": "GET", "status": "2xx", "le": "10.0"}
        return REGISTRY.get_sample_value("berth_http_request_duration_seconds_bucket", labels) or 0.0

    before = count()
    Client().get("/healthz")

    assert count() == before + 1
