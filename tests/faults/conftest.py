"""The fault suite: break one thing in the real lab, heal it, and see every promise hold within a minute.

README.md beside this file says how a case is written. At the end a table tells of each case how long it took.
"""

import json
import os
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass

import pytest
from _pytest.terminal import TerminalReporter

from lab import Lab
from lab.stack.layout import Layout
from tests.faults.case import Fault, time_limit
from tests.faults.proxy import EngineProxy
from tests.integration.conftest import customer_desk, desk, module_desk, oracle  # noqa: F401
from tests.integration.desk import FINAL, Desk
from tests.live import RunningStack, wait_for
from tests.oracle import PROMISES, Oracle

CASE_LASTS_S = 150.0  # a test may be given more by @pytest.mark.faults(seconds=…)
MENDING_LASTS_S = 180.0
FAULT = pytest.StashKey[Fault]()
TABLE = pytest.StashKey["dict[str, Line]"]()  # by node id: what fails later than the test itself counts
FAILED = pytest.StashKey[bool]()  # a case failed since it was cleared up the last time


@dataclass(frozen=True)
class Line:
    """A row of the table."""

    case: str
    seconds: float | None
    promises: str
    result: str


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "faults" in item.path.parts:
            item.add_marker(pytest.mark.faults)


@pytest.fixture
def fault(
    request: pytest.FixtureRequest,
    lab: Lab,
    stack: RunningStack,
    oracle: Oracle,  # noqa: F811 - a fixture
    desk: Desk,  # noqa: F811 - what is broken is mended before the desk deletes what was booked
) -> Iterator[Fault]:
    """Times the healing of this case and mends what the test broke. A case that heals nothing is none."""
    case = Fault(lab, stack, oracle)
    request.node.stash[FAULT] = case
    _make_well(case, desk)
    if request.config.stash.get(FAILED, False):
        _clear_up(desk)
        request.config.stash[FAILED] = False
    yield case
    _make_well(case, desk)  # before the desk deletes: on a node that is not back yet an ending waits for that by design
    if request.node.stash.get(PASSED, False):
        assert case.seconds is not None, "the test never came to `with fault.healing():`"


def _make_well(case: Fault, desk: Desk) -> None:  # noqa: F811 - no fixture
    """Everything whole again and believed to be so, whatever became of the test."""
    case.mend()
    desk.sql("UPDATE compute_node SET state = 'active' WHERE state IN ('cordoned', 'draining')")
    wait_for(lambda: not _unwell(desk), seconds=60)


def _clear_up(desk: Desk) -> None:  # noqa: F811 - no fixture
    """What a case left that failed must not fail the next ones as well.

    A plan that is not the sum of the bookings holds up endings on its node, and what stayed behind holds its place.
    """
    desk.stack.run_manage("doctor", "--mend-plan", check=False)
    mine = "SELECT id FROM accounts_user WHERE username = %s"
    rows = desk.sql(
        f"SELECT id FROM reservations_reservation WHERE state <> ALL(%s) AND created_by_id IN ({mine})",  # noqa: S608
        list(FINAL),
        desk.username,
    )
    desk.delete_and_wait(*(number for (number,) in rows), seconds=60)


def _unwell(asking: Desk) -> list[tuple[object, ...]]:
    """Machines that are given nothing new at the moment."""
    return [
        *asking.sql("SELECT name, health FROM compute_node WHERE health <> 'ok' OR disk_problem <> ''"),
        *asking.sql("SELECT name, problem FROM compute_storageserver WHERE problem <> ''"),
    ]


@pytest.fixture(scope="module")
def _proxy(lab: Lab, customer_desk: Desk) -> Iterator[EngineProxy]:  # noqa: F811 - a fixture
    """Between the workers and all engines, as long as a module's tests go on."""
    proxy = EngineProxy(lab)
    before = customer_desk.sql("SELECT engine_url, name FROM compute_node")
    for name, url in proxy.urls.items():
        customer_desk.sql("UPDATE compute_node SET engine_url = %s WHERE name = %s", url, name)
    yield proxy
    for url, name in before:
        customer_desk.sql("UPDATE compute_node SET engine_url = %s WHERE name = %s", url, name)
    proxy.close()


@pytest.fixture
def proxy(_proxy: EngineProxy, fault: Fault) -> EngineProxy:
    """Disturbs calls to the engines; passes everything when the test is over."""
    fault.proxies.append(_proxy)
    return _proxy


# ---- limits, and the table -------------------------------------------------------------------------------

PASSED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    seconds = next((mark.kwargs["seconds"] for mark in item.iter_markers("faults") if mark.kwargs), CASE_LASTS_S)
    with time_limit(seconds):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    with time_limit(MENDING_LASTS_S):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.config.stash[FAILED] = True
    if report.when == "call":
        item.stash[PASSED] = report.passed
    ends = report.when == "teardown" or (report.when == "setup" and not report.passed)
    case = item.stash.get(FAULT, None)
    if report.when == "call" or (ends and not report.passed):
        lines = item.config.stash.setdefault(TABLE, {})
        title = item.name.removeprefix("test_").replace("_", " ")
        result = "expected to fail" if hasattr(report, "wasxfail") else report.outcome
        if case and case.figures:
            title = f"{title} ({case.figures})"
        seconds = case.seconds if case else None
        lines[item.nodeid] = Line(title, seconds, f"{PROMISES[0]}-{PROMISES[-1]}", result)
    return report


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """Print the table, and leave it in the stack's log folder for the documents."""
    lines = list(config.stash.get(TABLE, {}).values())
    if not lines:
        return
    cells = [("case", "heals in", "promises", "result")]
    cells += [
        (line.case, "–" if line.seconds is None else f"{line.seconds:.1f} s", line.promises, line.result)
        for line in lines
    ]
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    terminalreporter.section("faults")
    for row in cells:
        terminalreporter.write_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
    folder = Layout(os.environ.get("BERTH_STACK", "test")).log
    folder.joinpath("faults.json").write_text(json.dumps([asdict(line) for line in lines], indent=2) + "\n")
    rows = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]
    folder.joinpath("faults.md").write_text("\n".join([rows[0], "|---|---|---|---|", *rows[1:]]) + "\n")
