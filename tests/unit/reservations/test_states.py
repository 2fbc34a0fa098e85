"""The table of states."""

import itertools

import pytest
from django.conf import settings

from reservations import states
from reservations.states import FINAL, LIVE, RULES, NotAllowed, State

ALLOWED = {
    ("offered", "booked"),
    ("offered", "ending"),
    ("booked", "starting"),
    ("booked", "ending"),
    ("starting", "running"),
    ("starting", "stopped"),
    ("starting", "ending"),
    ("running", "starting"),
    ("running", "stopped"),
    ("running", "ending"),
    ("stopped", "starting"),
    ("stopped", "ending"),
    ("ending", "ended"),
    ("ending", "failed"),
}


@pytest.mark.parametrize(("old", "new"), list(itertools.product(State, State)))
def test_only_the_steps_of_the_table_are_allowed(old: State, new: State) -> None:
    if (old.value, new.value) in ALLOWED:
        states.check(old, new)
    else:
        with pytest.raises(NotAllowed, match=f"cannot go from {old} to {new}"):
            states.check(old, new)


def test_every_live_state_can_be_ended_at_once() -> None:
    assert all(State.ENDING in RULES[state].to for state in LIVE - {State.ENDING})


def test_what_is_over_stays_over() -> None:
    assert {State.ENDED, State.FAILED} == FINAL
    assert not any(RULES[state].to for state in FINAL)


def test_what_is_on_its_way_has_a_time_limit() -> None:
    assert {state for state in State if state.moving} == {State.STARTING, State.ENDING}


def test_the_diagram_shows_every_step() -> None:
    text = states.diagram()

    assert all(f"    {old} --> {new}\n" in text for old, new in ALLOWED)
    assert "    [*] --> booked\n" in text


def test_the_diagram_in_the_docs_is_of_todays_table() -> None:
    path = settings.BASE_DIR / "docs/states.md"

    assert path.exists(), "run manage.py states --write"
    assert path.read_text() == states.diagram()
