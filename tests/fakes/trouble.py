"""The ways in which a machine fails, switchable in a test."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from compute.shell import NoAnswer

Hook = Callable[[str], None]


class Crash(BaseException):
    """The process that made the call died at this point: nothing in Berth may catch it."""


@dataclass
class Trouble:
    """What goes wrong with the calls of one machine, and which calls it got.

    `silent`: no call arrives. `refusal`: each call that changes something is refused with it. `lost_answers`: the
    named calls are carried out, and their answer is lost. `before` and `after` are called with each call's name.
    """

    name: str
    silent: bool = False
    refusal: Exception | None = None
    lost_answers: set[str] = field(default_factory=set)
    before: Hook = lambda call: None
    after: Hook = lambda call: None
    calls: list[str] = field(default_factory=list)

    @contextmanager
    def during(self, call: str, *, changes: bool = True) -> Iterator[None]:
        self.calls.append(call)
        self.before(call)
        if self.silent:
            raise NoAnswer(f"{self.name} does not answer")
        if changes and self.refusal:
            raise self.refusal
        yield
        self.after(call)
        if call in self.lost_answers:
            raise NoAnswer(f"{self.name} did not answer in time")
