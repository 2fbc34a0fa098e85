"""A data centre in memory for the state machine: machines that fail, workers that die at any step, and the truth.

Every driver call (before and after) and every fail point is a *moment* of the worker that is at work. A script maps
the number of a moment to a deed: the worker dies there, the call gets no answer, hours pass, another worker looks at
the same reservation. So one short list of numbers is one schedule, and Hypothesis can make it smaller.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from compute import drivers, failpoints, forwarding, volumes
from compute.engine import EngineRefused, PortTaken, RegistrySilent
from compute.models import Gateway, Node, StorageServer
from compute.shell import CommandFailed, NoAnswer
from compute.spec import LABEL_RESERVATION, Presence
from reservations import claims, reconcile, starting
from tests.factories import DIGEST
from tests.fakes import FakeEngine, FakeGateway
from tests.fakes.trouble import Crash, Trouble
from tests.fakes.volumes import FakeVolumes
from tests.unit.conftest import Time

IMAGE = f"registry.test:5000/library/nginx@{DIGEST}"
VITALS = "MemAvailable: 1048576 kB\n0.10 0.10 0.10 1/100 1000\n5000.0 9000.0\n"
PAST_CLAIM = claims.CLAIM_LASTS + timedelta(seconds=5)
LET_GO = claims.let_go
Deed = tuple[Any, ...]
Script = dict[int, Deed]


@dataclass
class FakeHost:
    """A machine behind SSH: it has vitals, and takes every other command without a word."""

    target: str
    trouble: Trouble

    def run(self, argv: list[str], *, stdin: str = "", timeout_s: float = 20) -> str:
        with self.trouble.during("run", changes=False):
            return VITALS if "/proc/meminfo" in argv else ""


@dataclass
class Work:
    """What one worker does in one go, and what will happen to it."""

    worker: str
    script: Script
    moments: int = 0
    dead: bool = False
    met: list[Deed] = field(default_factory=list)  # what of the script came true


@dataclass
class Up:
    """From when to when a container really ran."""

    since: datetime
    until: datetime | None = None


class AtOnce:
    """The pool for side work, one after the other: the same schedule is the same order of calls each time."""

    def submit(self, work: Callable[..., object], *args: object) -> "Future[object]":
        future: Future[object] = Future()
        try:
            future.set_result(work(*args))
        except Exception as problem:  # noqa: BLE001 - a future carries whatever was raised; a Crash goes through
            future.set_exception(problem)
        return future


@dataclass
class World:
    """All machines, the clock, and who works at the moment."""

    clock: Time = field(default_factory=Time)
    engines: dict[str, FakeEngine] = field(default_factory=dict)
    gateways: dict[str, FakeGateway] = field(default_factory=dict)
    registry: set[str] = field(default_factory=lambda: {IMAGE})
    registry_silent: bool = False
    speechless: bool = False
    cut_off: set[str] = field(default_factory=set)  # silent but alive
    switched_off: set[str] = field(default_factory=set)
    at_work: list[Work] = field(default_factory=list)
    dead_workers: set[str] = field(default_factory=set)
    ups: dict[str, list[Up]] = field(default_factory=dict)
    answered_at: dict[str, datetime] = field(default_factory=dict)
    quiet: set[str] = field(default_factory=set)  # nodes that a round may leave out
    calls_in_transactions: list[str] = field(default_factory=list)
    inside: Callable[[str], None] = lambda what: None  # what a deed "inside" means; the machine says

    def __post_init__(self) -> None:
        self.volumes = FakeVolumes(lambda target: self.engines[target].trouble)
        self._listen(self.volumes.storage)

    # ---- the drivers --------------------------------------------------------------------------------------

    def engine(self, node: Node) -> FakeEngine:
        if node.name not in self.engines:
            made = self.engines[node.name] = FakeEngine(node.name, registry=self.registry)
            self._listen(made.trouble)
        return self.engines[node.name]

    def gateway(self, row: Gateway) -> FakeGateway:
        if row.name not in self.gateways:
            made = self.gateways[row.name] = FakeGateway(row.name)
            self._listen(made.trouble)
        return self.gateways[row.name]

    def host(self, node: Node) -> FakeHost:
        return FakeHost(node.name, self.engine(node).trouble)

    def storage_host(self, server: StorageServer) -> FakeHost:
        return FakeHost(server.name, self.volumes.storage)

    def answers(self, address: str, port: int, kind: str, timeout_s: float = 1.0) -> bool:
        alive = [engine for name, engine in self.engines.items() if name not in self.cut_off | self.switched_off]
        return not self.speechless and any(engine.answers(address, port) for engine in alive)

    # ---- moments ------------------------------------------------------------------------------------------

    def _listen(self, trouble: Trouble) -> None:
        trouble.before = lambda call: self._called(trouble, call, "before")
        trouble.after = lambda call: self._called(trouble, call, "after")

    def _called(self, trouble: Trouble, call: str, when: str) -> None:
        if len(connection.savepoint_ids) > 0:
            self.calls_in_transactions.append(call)
        self.note_what_runs()
        self._moment(trouble, call, when)
        if when == "before" and call == "pull" and self.registry_silent:
            raise RegistrySilent("the registry does not answer")
        if when == "after":
            self.answered_at[trouble.name] = self.clock.now

    def fail_point(self, name: str) -> None:
        self._moment(None, name, "at")

    def _moment(self, trouble: Trouble | None, call: str, when: str) -> None:
        if not self.at_work:
            return
        work = self.at_work[-1]
        if work.dead:
            raise Crash(call)  # whatever `finally` does in a process that was killed
        work.moments += 1
        deed = work.script.get(work.moments)
        if deed:
            work.met.append(deed)
            self._do(deed, work, trouble, call, when)

    def _do(self, deed: Deed, work: Work, trouble: Trouble | None, call: str, when: str) -> None:
        kind, *rest = deed
        if kind == "crash":
            work.dead = True
            self.dead_workers.add(work.worker)
            raise Crash(call)
        if len(connection.savepoint_ids) > 0:
            return  # nobody else sees what is not committed; only a death can come in between
        if kind == "hang":
            self.pass_time(rest[0])
        if kind == "inside":
            self.inside(rest[0])
        if trouble is None:
            return
        if kind in {"no answer", "hang and no answer"}:
            if kind != "no answer":
                self.pass_time(rest[0])
            raise NoAnswer(f"{trouble.name} did not answer in time")
        if when == "before" and kind == "refuse" and call not in {"info", "list_ours", "list_traces", "observe"}:
            if trouble.name not in self.engines or call in {"attach", "detach", "remove_local", "run", "list_both"}:
                raise CommandFailed(trouble.name, [call], 1, "no")
            raise PortTaken("port is already allocated") if call == "start" else EngineRefused("no")
        if kind == "cut off" and trouble.name in self.engines:
            self.cut(trouble.name)
            if when == "after":
                raise NoAnswer(f"{trouble.name} did not answer in time")

    @contextmanager
    def worker(self, name: str, script: Script | None = None) -> Iterator[Work]:
        """A worker's process works; if it dies, that is over, and what it held in the database stays claimed."""
        work = Work(name, script or {})
        before, claims._owner = claims._owner, name
        self.at_work.append(work)
        try:
            with suppress(Crash):
                yield work
        finally:
            self.at_work.pop()
            claims._owner = before
            self.note_what_runs()

    def let_go(self, reservation_id: int, token: Any) -> None:
        if not self.at_work or not self.at_work[-1].dead:
            LET_GO(reservation_id, token)

    # ---- what happens to the machines ---------------------------------------------------------------------

    def pass_time(self, seconds: float) -> None:
        self.note_what_runs()
        self.clock.forward(seconds=seconds)

    def cut(self, name: str) -> None:
        self.cut_off.add(name)
        self.engines[name].trouble.silent = True

    def switch_off(self, name: str) -> None:
        self.switched_off.add(name)
        engine = self.engines[name]
        engine.trouble.silent = True
        for container in list(engine.containers):
            if engine.containers[container].presence == Presence.RUNNING:
                engine.end_by_itself(container, 137)
        self.volumes.disk(name).mounted.clear()
        self.note_what_runs()

    def come_back(self, name: str, *, wiped: bool = False) -> None:
        engine = self.engines[name]
        if wiped and name in self.switched_off:
            for kept in (engine.containers, engine.networks, engine.volumes, engine.images):
                kept.clear()
            self.volumes.disk(name).images.clear()
        self.cut_off.discard(name)
        self.switched_off.discard(name)
        engine.trouble.silent = False

    def note_what_runs(self) -> None:
        now = self.clock.now
        running = {
            name
            for engine in self.engines.values()
            for name, container in engine.containers.items()
            if container.presence == Presence.RUNNING and LABEL_RESERVATION in container.labels
        }
        for name, times in self.ups.items():
            if times[-1].until is None and name not in running:
                times[-1].until = now
        for name in running:
            times = self.ups.setdefault(name, [])
            if not times or times[-1].until is not None:
                times.append(Up(now))


class Door:
    """Where the product's calls go in: to the world of the example that is being run."""

    def __init__(self) -> None:
        self.world = World()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **kwargs: getattr(self.world, name)(*args, **kwargs)

    def of_volumes(self, name: str) -> Callable[..., Any]:
        return lambda *args, **kwargs: getattr(self.world.volumes, name)(*args, **kwargs)

    def open(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(drivers, "engine", self.engine)
        patch.setattr(drivers, "gateway", self.gateway)
        patch.setattr(drivers, "host", self.host)
        patch.setattr(drivers, "storage", self.storage_host)
        for name in (
            "attach",
            "check",
            "detach",
            "unmount",
            "remove_local",
            "remove_remote",
            "storage_answers",
            "list_both",
            "list_local",
            "list_mounted",
            "list_remote",
        ):
            patch.setattr(volumes, name, self.of_volumes(name))
        patch.setattr(starting, "answers", self.answers)
        patch.setattr(starting, "WAIT_INLINE_S", 0.0)
        patch.setattr(starting, "_side", AtOnce())
        patch.setattr(forwarding, "WAIT_S", 0.0)  # who waits for himself would wait for ever
        patch.setattr(reconcile, "let_go", self.let_go)
        patch.setattr(claims, "let_go", self.let_go)
        failpoints.handle(self.fail_point)


class Unsaved:
    """One example is one transaction that is rolled back: thousands of them leave nothing and cost no disk."""

    def __init__(self) -> None:
        self._all = transaction.atomic()
        self._all._from_testcase = True  # type: ignore[attr-defined]  # as Django's TestCase: durable blocks may begin

    def begin(self) -> None:
        self._all.__enter__()

    def undo(self) -> None:
        transaction.set_rollback(True)
        self._all.__exit__(None, None, None)
        connection.run_on_commit = []
