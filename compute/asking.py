"""Asks many nodes at once how they are, from threads that open no database connection.

One that hangs holds up one thread for a few seconds. When the round's time is over nobody is waited for: who was asked
and gave no answer is silent, and is not asked again while a thread waits for it still.
"""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from structlog.contextvars import bind_contextvars

from compute import drivers, vitals
from compute.alone import alone
from compute.engine import ContainerEngine, EngineRefused, NoAnswer
from compute.models import Node
from compute.readings import ContainerSeen, Details, Listing, Usage, Vitals

logger = logging.getLogger(__name__)
THREADS = 24
# An engine before 25 waits for its collector's next turn, up to a second, before it tells what one container uses
# (github.com/moby/moby/pull/46448): there the others are asked at once.
WAITS_S, AT_ONCE = 0.25, 9  # with the first one no more than the ten connections that are kept
LONGEST_S = 5.0  # for all of a node's containers then
Same = dict[str, tuple[str, str, int | None]]
Clock = Callable[[], float]
Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Question:
    """`same`: how each container was the last time, by the engine's id; who is so still is not inspected again."""

    node: Node
    same: Same = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeReading:
    """What a node said. Without a listing its engine gave no answer. `late_s`: after the round's time."""

    node_id: int
    late_s: float
    took_s: float | None = None
    listing: Listing | None = None
    details: dict[str, Details] = field(default_factory=dict)
    usage: dict[str, Usage] = field(default_factory=dict)
    vitals: Vitals = field(default_factory=Vitals)


def ask_all(
    questions: Sequence[Question], at: datetime, *, lasts_s: float, threads: int = THREADS, clock: Clock = time.time
) -> list[NodeReading]:
    """The readings of all that were asked before the time was over. Who had no turn is in no answer."""
    end = time.monotonic() + lasts_s
    under_way: set[int] = set()

    def silent(node_id: int) -> NodeReading:
        return NodeReading(node_id, clock() - at.timestamp())

    def read(question: Question) -> NodeReading:
        under_way.add(question.node.pk)
        with alone("reading", question.node.pk) as first:
            return _ask(question, at, end, clock) if first else silent(question.node.pk)

    found = {reading.node_id: reading for reading in _each(questions, read, threads, end, "reading")}
    return [*found.values(), *(silent(node_id) for node_id in list(under_way) if node_id not in found)]


def _each(
    items: Sequence[Item], work: Callable[[Item], Answer], threads: int, end: float, name: str
) -> Iterator[Answer]:
    """What the work gives for each item, as it comes, until `end` (monotonic); who hangs then is left to himself.

    The threads are daemons, so that one which hangs holds up no worker that is told to end. `work` must not raise.
    """
    todo = deque(items)
    answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()

    def run() -> None:
        while time.monotonic() < end:
            try:
                item = todo.popleft()
            except IndexError:
                return
            answers.put(work(item))

    for number in range(min(threads, len(items))):
        # Each with a copy of what is bound for log lines here.
        threading.Thread(target=copy_context().run, args=(run,), name=f"{name} {number}", daemon=True).start()
    for _ in items:
        try:
            yield answers.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            return


def _ask(question: Question, at: datetime, end: float, clock: Clock) -> NodeReading:
    """Everything of one node, one call after the other. Never raises: no answer is a reading, too."""
    node = question.node
    bind_contextvars(node=node.name)  # in this thread's own log lines
    late_s = clock() - at.timestamp()
    if not node.answers:  # the probe asks it every few seconds, and will say when it is back
        return NodeReading(node.pk, late_s)
    try:
        engine = drivers.engine(node)
        begun = time.monotonic()
        listing = engine.list_states()
        took_s = time.monotonic() - begun
    except (NoAnswer, EngineRefused):
        return NodeReading(node.pk, late_s)
    details = _inspect(engine, listing, question.same, end)
    usage = _measure(engine, [one.engine_id for one in listing.containers if one.running], end)
    host = drivers.host(node)
    left = end - time.monotonic()
    said = vitals.read(host, min(left, vitals.TIMEOUT_S)) if host and left > 0 else Vitals()
    return NodeReading(node.pk, late_s, round(took_s, 4), listing, details, usage, said)


def _inspect(engine: ContainerEngine, listing: Listing, same: Same, end: float) -> dict[str, Details]:
    """Of who is not as before; the first without an answer ends it, and what was read until then is right."""
    found: dict[str, Details] = {}
    try:
        for one in listing.containers:
            if time.monotonic() >= end:
                break
            if not _as_before(one, same) and (told := engine.details(one.engine_id)):
                found[one.engine_id] = told
    except (NoAnswer, EngineRefused) as problem:
        logger.info("not inspected further: %s", problem)
    return found


def _as_before(one: ContainerSeen, same: Same) -> bool:
    return not one.lately and same.get(one.engine_id) == (one.state, one.health, one.exit_code)


def _measure(engine: ContainerEngine, ids: list[str], end: float) -> dict[str, Usage]:
    """What these use: one after the other over one connection, or many at once where each answer takes its time."""

    def measured(engine_id: str) -> tuple[str, Usage | None, bool]:
        try:
            return engine_id, engine.usage(engine_id), True
        except (NoAnswer, EngineRefused) as problem:
            logger.info("not measured: %s", problem)
            return engine_id, None, False

    found: dict[str, Usage] = {}
    for number, engine_id in enumerate(ids):
        begun = time.monotonic()
        if begun >= end:
            break
        _, used, answered = measured(engine_id)
        if used:
            found[engine_id] = used
        if not answered or time.monotonic() - begun >= WAITS_S:
            # Not one after the other any more: this engine takes its time, or this one container does not tell.
            others = list(_each(ids[number + 1 :], measured, AT_ONCE, min(end, begun + LONGEST_S), "measuring"))
            found |= {other: used for other, used, _ in others if used}
            break
    return found
