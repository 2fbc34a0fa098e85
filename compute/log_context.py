"""Which node a log line is about: bound once where a look at it begins, and so in every line below."""

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from structlog.contextvars import bound_contextvars

from compute.models import Node

P = ParamSpec("P")
R = TypeVar("R")


def about_its_node(look: Callable[Concatenate[Node, P], R]) -> Callable[Concatenate[Node, P], R]:
    """The same; every log line that it leads to has `node`, by the name of its first argument."""

    @functools.wraps(look)
    def bound(node: Node, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with bound_contextvars(node=node.name):
            return look(node, *args, **kwargs)

    return bound
