"""One look of a kind at a machine at a time, in this process.

A machine that hangs so takes a thread for each kind of look, and not one more with every round of the timetable.
"""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec

P = ParamSpec("P")

_under_way: set[tuple[object, ...]] = set()
_lock = threading.Lock()


def one_at_a_time(look: Callable[P, None]) -> Callable[P, None]:
    """The same, but nothing while a call with the same arguments is under way: the next round looks again."""

    @functools.wraps(look)
    def unless_under_way(*args: P.args, **kwargs: P.kwargs) -> None:
        with alone(look, *args, *kwargs.items()) as first:
            if first:
                look(*args, **kwargs)

    return unless_under_way


@contextmanager
def alone(*mark: object) -> Iterator[bool]:
    """Whether nobody else is within such a block with the same mark; who is told False leaves it at that."""
    with _lock:
        first = mark not in _under_way
        _under_way.add(mark)
    try:
        yield first
    finally:
        if first:
            with _lock:
                _under_way.discard(mark)
