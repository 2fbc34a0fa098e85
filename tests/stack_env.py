"""A plugin of pytest that must come before Django's settings: the environment of the stack that the tests use.

pyproject.toml names it with -p. script/test brings up the stack (BERTH_STACK, by default test).
"""

import os

import pytest

from lab.stack import environment
from lab.stack.layout import Layout


def load() -> None:
    """Fill os.environ from var/$BERTH_STACK/env, unless the caller names a database."""
    os.environ["BERTH_TESTING"] = "1"
    if "DATABASE_URL" in os.environ:
        return
    layout = Layout(os.environ.get("BERTH_STACK", "test"))
    env = environment.read(layout)
    if not env or not layout.record.exists():
        raise pytest.UsageError(
            f"The tests need the stack {layout.name}, which is not up: run script/test unit (or script/test)."
        )
    for key, value in env.items():
        os.environ.setdefault(key, value)


load()
