"""The breaker in front of an engine: a hanging one is left alone, a busy one is not taken for it.

The engine's calls end when the test says so, and the clock is the test's own: nothing here waits for time to pass.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from compute.breaker import AT_ONCE, HANGING_AFTER_S, REST_S, SLOW_AT_ONCE, Breaker, GuardedEngine
from compute.engine import EngineRefused, NoAnswer
from compute.spec import Presence
from tests.fakes import FakeEngine

SOON = 10  # seconds that a thread of a test may take to get anywhere


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Ground:
    """An engine behind a breaker, some of whose calls are held until they are let go."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.fake = FakeEngine(images={"image"})
        self.breaker = Breaker("node1", clock=self.clock)
        self.engine = GuardedEngine(self.fake, self.breaker)
        self.held: set[str] = set()
        self.gate = threading.Event()
        self.inside = threading.Semaphore(0)
        self.fake.trouble.before = self._hold
        self.pool = ThreadPoolExecutor(32)

    def _hold(self, call: str) -> None:
        if call in self.held:
            self.inside.release()
            assert self.gate.wait(SOON)

    def begin(self, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """The call in a thread of its own; returns when the engine has it."""
        future = self.pool.submit(call, *arguments)
        assert self.inside.acquire(timeout=SOON)
        return future

    def queue(self, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """The call in a thread of its own; returns when it waits for a slot."""
        before = self.breaker.waiting
        future = self.pool.submit(call, *arguments)
        for _ in range(SOON * 1000):
            if self.breaker.waiting > before:
                return future
            threading.Event().wait(0.001)
        raise AssertionError("it does not wait")

    @contextmanager
    def silent_for(self, seconds: float) -> Iterator[None]:
        """Calls inside are answered by a time-out after so long."""

        def late(call: str) -> None:
            self.clock.now += seconds

        self.fake.trouble.before, self.fake.trouble.silent = late, True
        yield
        self.fake.trouble.before, self.fake.trouble.silent = self._hold, False


@pytest.fixture
def ground() -> Iterator[Ground]:
    made = Ground()
    yield made
    made.gate.set()
    made.pool.shutdown()


def test_a_call_that_is_out_too_long_makes_further_ones_fail_at_once_without_asking(ground: Ground) -> None:
    ground.held = {"observe"}
    ground.begin(ground.engine.observe, "a")
    ground.clock.now += HANGING_AFTER_S

    with pytest.raises(NoAnswer, match="node1 is not answering; not asked again for 3 s"):
        ground.engine.list_ours()

    assert "list_ours" not in ground.fake.trouble.calls


def test_before_that_it_is_asked(ground: Ground) -> None:
    ground.held = {"observe"}
    ground.begin(ground.engine.observe, "a")
    ground.clock.now += HANGING_AFTER_S - 0.1

    assert ground.engine.list_ours() == []


def test_one_slow_answer_among_quick_ones_is_no_hang(ground: Ground) -> None:
    ground.held = {"observe"}
    ground.begin(ground.engine.observe, "a")
    ground.clock.now += 1
    ground.engine.list_ours()
    ground.clock.now += 10 * HANGING_AFTER_S

    assert ground.engine.list_ours() == []


@pytest.mark.parametrize(
    "call", [lambda engine: engine.pull("image", lambda done, total: None), lambda engine: engine.stop("a", 10)]
)
def test_what_may_take_long_is_no_hang(ground: Ground, call: Callable[[GuardedEngine], None]) -> None:
    ground.held = {"pull", "stop"}
    ground.begin(call, ground.engine)
    ground.clock.now += 30

    assert ground.engine.list_ours() == []


def test_after_a_rest_one_call_is_the_trial_and_its_answer_opens_the_way(ground: Ground) -> None:
    ground.held = {"observe"}
    ground.begin(ground.engine.observe, "a")
    ground.clock.now += HANGING_AFTER_S
    with pytest.raises(NoAnswer):
        ground.engine.list_ours()

    ground.clock.now += REST_S
    assert ground.engine.list_ours() == []

    assert not ground.breaker.hangs
    assert ground.engine.list_traces() == set()


def test_while_the_trial_is_out_nobody_else_asks(ground: Ground) -> None:
    ground.held = {"observe", "list_ours"}
    ground.begin(ground.engine.observe, "a")
    ground.clock.now += HANGING_AFTER_S
    assert ground.breaker.hangs
    ground.clock.now += REST_S
    ground.begin(ground.engine.list_ours)

    with pytest.raises(NoAnswer):
        ground.engine.list_traces()

    assert "list_traces" not in ground.fake.trouble.calls


def test_a_trial_without_an_answer_begins_another_rest(ground: Ground) -> None:
    with ground.silent_for(20), pytest.raises(NoAnswer):
        ground.engine.observe("a")
    ground.clock.now += REST_S
    with ground.silent_for(20), pytest.raises(NoAnswer):
        ground.engine.observe("a")
    ground.clock.now += REST_S - 0.1

    with pytest.raises(NoAnswer, match="not asked again"):
        ground.engine.observe("a")


def test_a_refused_connection_is_no_hang_and_a_time_out_is(ground: Ground) -> None:
    with ground.silent_for(0), pytest.raises(NoAnswer, match="does not answer"):
        ground.engine.observe("a")
    assert not ground.breaker.hangs

    with ground.silent_for(3.05), pytest.raises(NoAnswer, match="does not answer"):
        ground.engine.observe("a")
    assert ground.breaker.hangs


def test_a_refusal_is_an_answer(ground: Ground) -> None:
    with ground.silent_for(3.05), pytest.raises(NoAnswer):
        ground.engine.observe("a")
    ground.clock.now += REST_S
    ground.fake.trouble.refusal = EngineRefused("no")

    with pytest.raises(EngineRefused):
        ground.engine.remove("a")

    assert not ground.breaker.hangs


def test_a_probe_is_asked_in_any_case_and_its_answer_ends_the_rest(ground: Ground) -> None:
    with ground.silent_for(3.05), pytest.raises(NoAnswer):
        ground.engine.observe("a")
    assert ground.breaker.hangs

    assert ground.engine.info().cores == 8

    assert not ground.breaker.hangs


def test_a_late_answer_ends_the_rest(ground: Ground) -> None:
    ground.held = {"observe"}
    stuck = ground.begin(ground.engine.observe, "a")
    ground.clock.now += HANGING_AFTER_S
    assert ground.breaker.hangs

    ground.gate.set()

    assert stuck.result(SOON).presence == Presence.ABSENT
    assert not ground.breaker.hangs


def test_only_so_many_calls_are_out_at_once_and_the_next_takes_the_first_free_slot(ground: Ground) -> None:
    ground.held = {"observe"}
    for _ in range(AT_ONCE):
        ground.begin(ground.engine.observe, "a")
    ground.held = set()
    queued = ground.queue(ground.engine.list_ours)
    assert "list_ours" not in ground.fake.trouble.calls

    ground.gate.set()

    assert queued.result(SOON) == []


def test_slow_calls_leave_slots_for_quick_ones(ground: Ground) -> None:
    ground.held = {"remove"}
    for _ in range(SLOW_AT_ONCE):
        ground.begin(ground.engine.remove, "a")
    ground.queue(ground.engine.remove, "a")

    assert ground.engine.list_ours() == []


def test_who_waits_for_a_slot_is_told_of_the_hang(ground: Ground) -> None:
    ground.held = {"observe"}
    for _ in range(AT_ONCE):
        ground.begin(ground.engine.observe, "a")
    queued = ground.queue(ground.engine.list_ours)
    ground.clock.now += HANGING_AFTER_S

    assert ground.breaker.hangs

    with pytest.raises(NoAnswer, match="not asked again"):
        queued.result(SOON)
    assert "list_ours" not in ground.fake.trouble.calls
