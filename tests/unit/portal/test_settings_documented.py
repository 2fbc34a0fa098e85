"""docs/settings.md names every variable that the portal reads."""

import ast
import re
from pathlib import Path

import pytest

from portal.env import ROOT

READERS = {"text", "flag", "whole", "money", "optional_money", "matching", "lines", "zone", "choice", "words", "path"}


def names_read_by(file: Path) -> set[str]:
    """The constant first arguments of env.text("X"), text("X") and such, and of os.environ.get("X")."""
    found = set()
    for call in (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)):
        reader = ast.unparse(call.func)
        reads = reader.removeprefix("env.") in READERS or reader in {"os.environ.get", "os.getenv"}
        if reads and call.args and isinstance(call.args[0], ast.Constant):
            found.add(str(call.args[0].value))
    return found


@pytest.mark.parametrize(
    ("file", "known"), [("portal/settings.py", "BERTH_MAIL_FROM"), ("portal/env.py", "BERTH_ENV_FILE")]
)
def test_every_variable_that_is_read_is_documented(file: str, known: str) -> None:
    documented = set(re.findall(r"`([A-Z][A-Z_]+)`", (ROOT / "docs/settings.md").read_text()))
    read = names_read_by(ROOT / file)

    assert known in read, "the variables are not found in the source any more"
    assert sorted(read - documented) == []
