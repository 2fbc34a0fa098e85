"""docs/operators.md lists every command of ours, and each tells a stranger what it does and takes."""

import argparse
import re
from io import StringIO

import pytest
from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand

from portal.env import ROOT

APPS = {"portal", "monitoring", "billing", "reservations", "compute", "accounts", "administration"}
OURS = {name: app for name, app in get_commands().items() if app in APPS}
GUIDE = (ROOT / "docs/operators.md").read_text()
TABLE = GUIDE.partition("\n## All commands\n")[2].partition("\n## ")[0]
ROWS = re.findall(r"^\| `([a-z_]+)[^|]*\| *(.+?) *\|[^|]*\|([^|]*)\|$", TABLE, flags=re.MULTILINE)
LISTED = {name: what for name, what, _ in ROWS}
MARKS = {name: {word.strip() for word in marks.split(",")} - {""} for name, _, marks in ROWS}
# As Django gives them to every command.
COMMON = {action.dest for action in BaseCommand().create_parser("manage.py", "any")._actions}


def command(name: str) -> BaseCommand:
    return load_command_class(OURS[name], name)


def arguments(name: str) -> list[argparse.Action]:
    parser = command(name).create_parser("manage.py", name)
    return [action for action in parser._actions if action.dest not in COMMON]


def help_of(name: str) -> str:
    out = StringIO()
    command(name).create_parser("manage.py", name).print_help(out)
    return out.getvalue()


def test_the_guide_lists_every_command_and_no_other() -> None:
    assert len(OURS) > 30, "the commands are not found any more"
    assert sorted(LISTED) == sorted(OURS)
    assert all(LISTED.values())


@pytest.mark.parametrize("name", sorted(OURS))
def test_help_says_what_it_does_and_what_each_argument_is(name: str) -> None:
    said = " ".join(help_of(name).split())

    assert len(command(name).help) > 20
    assert not [action.dest for action in arguments(name) if not action.help]
    for action in arguments(name):
        assert all(option in said for option in action.option_strings or [str(action.metavar or action.dest)])


@pytest.mark.parametrize("name", sorted(OURS))
def test_the_guide_marks_what_has_json_and_what_can_be_tried_first(name: str) -> None:
    options = {option for action in arguments(name) for option in action.option_strings}
    marks = {"--json": "json", "--dry-run": "dry"}

    assert MARKS.get(name) == {mark for option, mark in marks.items() if option in options}


@pytest.mark.parametrize(
    "name", ["enrol_node", "renew_certificate", "make_authority", "move", "end_reservation", "prune_images", "drain"]
)
def test_what_changes_machines_can_be_tried_first(name: str) -> None:
    assert "--dry-run" in help_of(name)
