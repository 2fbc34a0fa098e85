"""Asks many nodes at once how they are, from threads that open no database connection.

One that hangs holds up one thread for a few seconds. When the round's time is over nobody is waited for: who was asked
and gave no answer is silent, and is not asked again while a thread waits for it still.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from compute import drivers, vitals
from compute.alone import alone
from compute.engine import ContainerEngine, EngineRefused, NoAnswer
from compute.models import Node
from compute.readings import ContainerSeen, Details, Listing, Usage, Vitals

THREADS = 24
Same = dict[str, tuple[str, str, int | None]]
Clock = Callable[[], float]


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
    todo, under_way = deque(questions), set[int]()
    answers: queue.SimpleQueue[NodeReading] = queue.SimpleQueue()

    def silent(node_id: int) -> NodeReading:
        return NodeReading(node_id, clock() - at.timestamp())

    def work() -> None:
        while time.monotonic() < end:
            try:
                question = todo.popleft()
            except IndexError:
                return
            under_way.add(question.node.pk)
            with alone("reading", question.node.pk) as first:
                reading = _ask(question, at, end, clock) if first else silent(question.node.pk)
            answers.put(reading)

    for number in range(min(threads, len(questions))):
        threading.Thread(target=work, name=f"reading {number}", daemon=True).start()
    found: dict[int, NodeReading] = {}
    while len(found) < len(questions) and (left := end - time.monotonic()) > 0:
        try:
            reading = answers.get(timeout=left)
        except queue.Empty:
            break
        found[reading.node_id] = reading
    return [*found.values(), *(silent(node_id) for node_id in list(under_way) if node_id not in found)]


def _ask(question: Question, at: datetime, end: float, clock: Clock) -> NodeReading:
    """Everything of one node, one call after the other. Never raises: no answer is a reading, too."""
    node = question.node
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
    details, usage = _look_closer(engine, listing, question.same, end)
    host = drivers.host(node)
    left = end - time.monotonic()
    said = vitals.read(host, min(left, vitals.TIMEOUT_S)) if host and left > 0 else Vitals()
    return NodeReading(node.pk, late_s, round(took_s, 4), listing, details, usage, said)


def _look_closer(
    engine: ContainerEngine, listing: Listing, same: Same, end: float
) -> tuple[dict[str, Details], dict[str, Usage]]:
    """Inspect who is not as before, ask what the running ones use; the first without an answer ends it."""
    details: dict[str, Details] = {}
    usage: dict[str, Usage] = {}
    try:
        for one in listing.containers:
            if time.monotonic() >= end:
                break
            if not _as_before(one, same):
                told = engine.details(one.engine_id)
                if told:
                    details[one.engine_id] = told
            used = engine.usage(one.engine_id) if one.running else None
            if used:
                usage[one.engine_id] = used
    except (NoAnswer, EngineRefused):
        pass  # what was read until then is right
    return details, usage


def _as_before(one: ContainerSeen, same: Same) -> bool:
    return not one.lately and same.get(one.engine_id) == (one.state, one.health, one.exit_code)
