"""Waits for the first HTTP answer of an address, the same way for everything that is compared."""

import selectors
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

Address = tuple[str, int]
ASK_EVERY_S = 0.005
QUESTION_LASTS_S = 0.5
GIVE_UP_S = 60.0
TICK_S = 0.002
QUESTION = b"GET / HTTP/1.0\r\nHost: bench\r\n\r\n"


@dataclass
class Crowd:
    """Addresses that are asked again and again by one thread until each has answered; `add` from any thread.

    A question does not wait for the one before it: while a container starts, the engine's placeholder on the
    node's port takes connections that nobody ever answers.
    """

    every_s: float = ASK_EVERY_S
    answered: dict[Address, float] = field(default_factory=dict)  # when, by time.perf_counter()
    failure: BaseException | None = None  # of who should have added an address
    _next: dict[Address, float] = field(default_factory=dict)
    _asked: dict[socket.socket, tuple[Address, float]] = field(default_factory=dict)  # and when it is dropped
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    def add(self, host: str, port: int) -> None:
        self._next[host, port] = 0.0

    def note_failure(self, made: Future[Any]) -> None:
        """What `made` failed with, if it did, ends the waiting."""
        self.failure = self.failure or made.exception()

    def wait_for(self, count: int, *, give_up_s: float = GIVE_UP_S) -> float:
        """When the `count`-th address answered. Raises TimeoutError, or a failure that was noted."""
        until = time.perf_counter() + give_up_s
        try:
            while len(self.answered) < count:
                if self.failure:
                    raise self.failure
                if time.perf_counter() > until:
                    raise TimeoutError(f"{count - len(self.answered)} of {count} gave no answer in {give_up_s:g} s")
                self._ask()
                for key, events in self._selector.select(TICK_S) if self._asked else []:
                    self._hear(key.fileobj, events)  # type: ignore[arg-type]  # only sockets are registered
                if not self._asked:
                    time.sleep(TICK_S)
        finally:
            for asked in list(self._asked):
                self._drop(asked)
        return max(self.answered.values())

    def _ask(self) -> None:
        now = time.perf_counter()
        for asked, (_, ends) in list(self._asked.items()):
            if ends <= now:
                self._drop(asked)
        for address, at in list(self._next.items()):
            if at <= now:
                self._next[address] = now + self.every_s
                question = socket.socket()
                question.setblocking(False)
                question.connect_ex(address)
                self._asked[question] = address, now + QUESTION_LASTS_S
                self._selector.register(question, selectors.EVENT_WRITE)

    def _hear(self, asked: socket.socket, events: int) -> None:
        if asked not in self._asked:  # dropped in this very round
            return
        address, _ = self._asked[asked]
        try:
            if events & selectors.EVENT_WRITE:
                asked.sendall(QUESTION)
                self._selector.modify(asked, selectors.EVENT_READ)
            elif asked.recv(5) == b"HTTP/":
                self.answered[address] = time.perf_counter()
                del self._next[address]
                for other in [o for o, (whom, _) in self._asked.items() if whom == address]:
                    self._drop(other)
            else:
                self._drop(asked)
        except OSError:
            self._drop(asked)

    def _drop(self, asked: socket.socket) -> None:
        del self._asked[asked]
        self._selector.unregister(asked)
        asked.close()


def first_answer(host: str, port: int, *, give_up_s: float = GIVE_UP_S) -> float:
    """The time.perf_counter() of the first answer. Raises TimeoutError."""
    crowd = Crowd()
    crowd.add(host, port)
    return crowd.wait_for(1, give_up_s=give_up_s)


def wait_until(true: Callable[[], bool], *, seconds: float, interval: float) -> bool:
    """Whether it became true in time."""
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(interval)
    return True
