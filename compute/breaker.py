"""Keeps one hanging engine from slowing everything else: few calls at once, and none while it plainly hangs.

A worker has a dozen threads. An engine that accepts connections and never answers would take them one by one, each
until its time limit, and bookings on healthy nodes would wait behind. So a breaker stands before each engine: when a
call that should be quick is out for HANGING_AFTER_S and no other has been answered since it began, further calls
fail at once with NoAnswer. After REST_S one call is let through as a trial: an engine that answers it is used again.

Calls that may rightly take long (a pull, the start of a container, a stop with its grace) are never taken for a
hang before their own allowance is over.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from compute.engine import PROBE_TIMEOUT_S, ContainerEngine, NoAnswer, Progress, RegistrySilent
from compute.log_lines import Log
from compute.readings import Details, Listing, Usage
from compute.spec import ContainerSpec, EngineInfo, ImageSeen, Observed, Writes

logger = logging.getLogger(__name__)
AT_ONCE = 8  # calls of this process to one engine
SLOW_AT_ONCE = 6  # of those; the others are left for quick ones, which tell whether it hangs
HANGING_AFTER_S = 4.0
TIMED_OUT_AFTER_S = 2.5  # no answer this late is no refusal of the connection
REST_S = 3.0
SLOW_S = 25.0  # what creates, starts or removes: longer than the driver's own time limit


@dataclass
class Breaker:
    """The calls to one engine that are out, and whether it hangs. `clock` is monotonic seconds."""

    name: str
    clock: Callable[[], float] = time.monotonic
    waiting: int = 0  # for a slot
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _out: dict[object, tuple[float, float]] = field(default_factory=dict)  # begun at, and when it should be back
    _quick: int = 0
    _slow: int = 0
    _answered_at: float = float("-inf")
    _open_since: float | None = None
    _trying: bool = False

    @property
    def hangs(self) -> bool:
        """Whether calls are refused at the moment."""
        with self._changed:
            self._look()
            return self._open_since is not None

    @contextmanager
    def call(self, allowance_s: float = HANGING_AFTER_S, *, slot: bool = True, always: bool = False) -> Iterator[None]:
        """Around a call that should be back within `allowance_s`. Raises NoAnswer instead while the engine hangs.

        Without a `slot` it does not count against AT_ONCE; `always` is for a probe, which is asked in any case.
        """
        mark, slow = object(), allowance_s > HANGING_AFTER_S
        begun = self.clock()
        with self._changed:
            self._out[mark] = (begun, begun + allowance_s)
            try:
                trial = self._may_go(slow, slot and not always, always, begun)
            except NoAnswer:
                del self._out[mark]
                raise
            if slow:  # the time in the queue was not the engine's
                self._out[mark] = (self.clock(), self.clock() + allowance_s)
            self._count(slow, slot, +1)
        answered = False
        try:
            yield
            answered = True
        except NoAnswer as problem:
            answered = isinstance(problem, RegistrySilent)  # the engine itself did answer
            raise
        except Exception:
            answered = True  # it said no: that is an answer
            raise
        finally:
            with self._changed:
                self._count(slow, slot, -1)
                self._note(mark, answered, trial)

    def refuse_if_hanging(self) -> None:
        """For a reading that may be left out, and whose own delay proves nothing. Raises NoAnswer."""
        if self.hangs:
            raise NoAnswer(f"{self.name} is not answering; not asked")

    def _may_go(self, slow: bool, queue: bool, always: bool, begun: float) -> bool:
        """Wait for a slot; whether this call is the trial of an engine that hung. Raises NoAnswer."""
        while True:
            self._look()
            now = self.clock()
            if self._open_since is not None and not always:
                if now - self._open_since < REST_S or self._trying:
                    left = max(0.0, REST_S - (now - self._open_since))
                    raise NoAnswer(f"{self.name} is not answering; not asked again for {left:.0f} s")
                self._trying = True
                return True  # whatever the slots: those who have them are stuck
            full = self._slow + self._quick >= AT_ONCE or (slow and self._slow >= SLOW_AT_ONCE)
            if not (queue and full):
                return False
            if now - begun >= SLOW_S:
                raise NoAnswer(f"{self.name} has {AT_ONCE} calls to answer already")
            self.waiting += 1
            self._changed.wait(1.0)  # one that becomes late meanwhile is seen within a second
            self.waiting -= 1

    def _count(self, slow: bool, slot: bool, by: int) -> None:
        if slot and slow:
            self._slow += by
        elif slot:
            self._quick += by

    def _note(self, mark: object, answered: bool, trial: bool) -> None:
        begun, _ = self._out.pop(mark)
        now = self.clock()
        if answered:
            self._answered_at, self._open_since = now, None
        elif self._open_since is not None and begun >= self._open_since:
            self._open_since = now  # it was asked again, and hangs still
        elif now - begun >= TIMED_OUT_AFTER_S and begun >= self._answered_at:
            self._open_since = now
        self._trying = self._trying and not trial
        self._changed.notify_all()

    def _look(self) -> None:
        """Open when a call is out for longer than it may be, and the engine answered none since it began."""
        now = self.clock()
        if self._open_since is None and any(
            now >= due and begun >= self._answered_at for begun, due in self._out.values()
        ):
            self._open_since = now
            self._changed.notify_all()


class GuardedEngine:
    """A ContainerEngine behind a breaker. It promises what the engine promises, and NoAnswer sooner."""

    def __init__(self, engine: ContainerEngine, breaker: Breaker) -> None:
        self.engine, self.breaker = engine, breaker

    def info(self, timeout_s: float = PROBE_TIMEOUT_S) -> EngineInfo:
        with self.breaker.call(slot=False, always=True):  # it is how a hang is found, and its end
            return self.engine.info(timeout_s)

    def has_image(self, image: str) -> bool:
        with self.breaker.call():
            return self.engine.has_image(image)

    def digest(self, image: str) -> str | None:
        with self.breaker.call(SLOW_S):  # it may ask the registry
            return self.engine.digest(image)

    def pull(self, image: str, progress: Progress) -> None:
        with self.breaker.call(float("inf"), slot=False):
            self.engine.pull(image, progress)

    def make_network(self, spec: ContainerSpec) -> None:
        with self.breaker.call(SLOW_S):
            self.engine.make_network(spec)
        logger.debug("%s: has the network %s", self.breaker.name, spec.network)

    def create(self, spec: ContainerSpec) -> None:
        with self.breaker.call(SLOW_S):
            self.engine.create(spec)
        logger.info("%s: created %s", self.breaker.name, spec.name)

    def start(self, spec: ContainerSpec) -> Observed:
        with self.breaker.call(SLOW_S):
            seen = self.engine.start(spec)
        logger.info("%s: started %s", self.breaker.name, spec.name)
        return seen

    def stop(self, name: str, grace_s: int) -> None:
        with self.breaker.call(SLOW_S + grace_s):
            self.engine.stop(name, grace_s)
        logger.info("%s: stopped %s", self.breaker.name, name)

    def observe(self, name: str) -> Observed:
        with self.breaker.call():
            return self.engine.observe(name)

    def remove(self, name: str, key: str = "") -> None:
        with self.breaker.call(SLOW_S):
            self.engine.remove(name, key)
        logger.info("%s: removed %s", self.breaker.name, name)

    def writes(self, name: str) -> Writes:
        with self.breaker.call():
            return self.engine.writes(name)

    def written_mib(self) -> dict[str, int]:
        with self.breaker.call(float("inf"), slot=False):
            return self.engine.written_mib()

    def list_ours(self) -> list[Observed]:
        with self.breaker.call():
            return self.engine.list_ours()

    def list_traces(self) -> set[str]:
        with self.breaker.call():
            return self.engine.list_traces()

    def list_states(self) -> Listing:
        with self.breaker.call(slot=False):  # readings never wait for a slot, and take none from those who do
            return self.engine.list_states()

    def details(self, engine_id: str) -> Details | None:
        # One container whose shim hangs holds up only its own inspect and statistics: the engine is not to blame.
        self.breaker.refuse_if_hanging()
        return self.engine.details(engine_id)

    def usage(self, engine_id: str) -> Usage | None:
        self.breaker.refuse_if_hanging()
        return self.engine.usage(engine_id)

    def logs(self, name: str, *, tail: int, since_ns: int | None = None) -> Log | None:
        # A long log takes its time, and that is no sign of a hanging engine.
        self.breaker.refuse_if_hanging()
        return self.engine.logs(name, tail=tail, since_ns=since_ns)

    def list_images(self) -> list[ImageSeen]:
        with self.breaker.call(SLOW_S):
            return self.engine.list_images()

    def forget_image(self, reference: str) -> None:
        with self.breaker.call(float("inf"), slot=False):  # it deletes files
            self.engine.forget_image(reference)
