"""One look of a kind at a machine at a time, in this process.

A machine that hangs so takes a thread for each kind of look, and not one more with every round of the timetable.
"""

import functools
import threading
from collections.abc import Callable
from typing import ParamSpec

P = ParamSpec("P")

_under_way: set[tuple[object, ...]] = set()
_lock = threading.Lock()


def one_at_a_time(look: Callable[P, None]) -> Callable[P, None]:
    """The same, but nothing while a call with the same arguments is under way: the next round looks again."""

    @functools.wraps(look)
    def alone(*args: P.args, **kwargs: P.kwargs) -> None:
        mark = (look, *args, *kwargs.items())
        with _lock:
            if mark in _under_way:
                return
            _under_way.add(mark)
        try:
            look(*args, **kwargs)
        finally:
            with _lock:
                _under_way.discard(mark)

    return alone
