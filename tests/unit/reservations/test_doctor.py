"""What doctor reports is what it finds twice, in whatever words the second time."""

import json
from io import StringIO

import pytest
from django.core.management import call_command

from compute import guarding
from reservations import doctor
from reservations.management.commands import doctor as command
from tests.factories import NOW

FIRST, SECOND = "its clock is 600 s behind the portal's", "its clock is 597 s behind the portal's"
TIMER = "its timer does not run: the last sign of life is"


def _look(monkeypatch: pytest.MonkeyPatch, *sentences: str) -> list[doctor.Finding]:
    found = [guarding.Trouble("node1", sentence, "See to it.") for sentence in sentences]
    monkeypatch.setattr(guarding, "troubles", lambda now: iter(found))
    return list(doctor._guards(NOW))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (FIRST, SECOND),  # less of it is certain when the answer takes longer
        (f"{TIMER} 90 s old", f"{TIMER} 93 s old"),
    ],
)
def test_another_figure_at_the_second_look_is_the_same_trouble(
    monkeypatch: pytest.MonkeyPatch, first: str, second: str
) -> None:
    looks = _look(monkeypatch, first), _look(monkeypatch, second)

    assert [finding.sentence for finding in doctor.lasting(*looks)] == [second]


def test_what_only_one_look_found_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = _look(monkeypatch, FIRST), _look(monkeypatch, "it has no guard: neither timer nor firewall")

    assert doctor.lasting(one, []) == doctor.lasting([], one) == doctor.lasting(one, other) == []


def test_the_command_says_it_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([_look(monkeypatch, FIRST), _look(monkeypatch, SECOND)])
    monkeypatch.setattr(doctor, "examine", lambda now: next(looks))
    monkeypatch.setattr(command, "SETTLE_S", 0)
    said = StringIO()

    with pytest.raises(SystemExit):
        call_command("doctor", "--json", stdout=said)

    row = {"promise": 8, "where": "node1", "sentence": SECOND, "mend": "See to it."}
    assert json.loads(said.getvalue()) == [row]
