"""When something is told and when it is over: by a table of times, without a database."""

from datetime import timedelta

import pytest

from monitoring.alerts import rules
from monitoring.alerts.rules import FLAPPING_CLEARS_AFTER, RULES, Rule, Step, Threshold, step
from monitoring.models import Incident
from portal.env import ROOT
from tests.factories import NOW

RULE = Rule("warning", "{} is ill", "{} is well", timedelta(seconds=20), timedelta(seconds=30))


def replay(sights: str, rule: Rule = RULE, *, flapping: bool = False, every_s: int = 5) -> str:
    """What becomes of it, a letter for each look: w(ait), o(pen), c(lose), f(orget), - where nothing is known.

    `sights` has x where it was seen, . where it was not, and a space where nobody looked.
    """
    first = last = opened = None
    letters = []
    for number, sight in enumerate(sights):
        now = NOW + timedelta(seconds=number * every_s)
        if sight == " ":
            letters.append(" ")
            continue
        if first is None or last is None:
            first = last = now if sight == "x" else None
            letters.append("w" if first else "-")
            continue
        found = step(
            rule,
            first_seen_at=first,
            last_seen_at=last,
            is_open=opened is not None,
            seen=sight == "x",
            now=now,
            flapping=flapping,
        )
        letters.append({Step.RESTART: "r"}.get(found, found.name[0].lower()))
        last = now if sight == "x" else last
        match found:
            case Step.OPEN:
                opened = now
            case Step.RESTART:
                first = now
            case Step.CLOSE | Step.FORGET:
                first = last = opened = None
    return "".join(letters)


@pytest.mark.parametrize(
    ("why", "sights", "becomes"),
    [
        ("it is told when it lasted", "xxxxx", "wwwwo"),
        ("it is told once", "xxxxxxxx", "wwwwowww"),
        ("what heals before is forgotten", "xxx..", "wwwf-"),
        ("a gap begins anew", "xxx.xxxxx", "wwwfwwwwo"),
        ("it is over when it was away for long enough", "xxxxx......", "wwwwowwwwwc"),
        ("what comes back within that time is the same", "xxxxx.....x......", "wwwwowwwwwwwwwwwc"),
        ("after it is over it is another", "xxxxx......xxxxx", "wwwwowwwwwcwwwwo"),
        ("what nobody looked at meanwhile was not seen to last", "xx       xxxxx", "ww       rwwwo"),
    ],
)
def test_an_incident_over_time(why: str, sights: str, becomes: str) -> None:
    assert replay(sights) == becomes, why


@pytest.mark.parametrize(
    ("is_open", "seen", "becomes"),
    [(False, True, Step.RESTART), (True, True, Step.WAIT), (False, False, Step.FORGET), (True, False, Step.CLOSE)],
)
def test_a_clock_that_was_ahead_holds_up_nothing(is_open: bool, seen: bool, becomes: Step) -> None:
    ahead = NOW + timedelta(days=1)

    assert step(RULE, first_seen_at=ahead, last_seen_at=ahead, is_open=is_open, seen=seen, now=NOW) == becomes


def test_clocks_that_differ_a_little_begin_nothing_anew() -> None:
    first, last = NOW - timedelta(seconds=20), NOW + timedelta(seconds=5)

    assert step(RULE, first_seen_at=first, last_seen_at=last, is_open=False, seen=True, now=NOW) == Step.OPEN
    assert step(RULE, first_seen_at=first, last_seen_at=last, is_open=True, seen=False, now=NOW) == Step.WAIT


def test_what_comes_and_goes_stays_open_until_it_was_away_for_long() -> None:
    looks = int(FLAPPING_CLEARS_AFTER.total_seconds()) // 5

    assert "c" not in replay("xxxxx" + 3 * ("." * 20 + "x"), flapping=True)
    assert replay("xxxxx" + "." * looks, flapping=True).endswith("wc")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([11, 10, 9.9, 10, 14.9, 15, 10, 9.9], [False, False, True, True, True, False, False, True]),
        ([9, 14, 9, 14, 9], [True] * 5),
        ([10, 14, 10, 14, 10], [False] * 5),
    ],
)
def test_a_value_at_the_limit_does_not_flutter(values: list[float], told: list[bool]) -> None:
    threshold, standing, found = Threshold(opens=10, closes=15), False, []
    for value in values:
        standing = threshold.too_low(value, standing)
        found.append(standing)

    assert found == told


def test_the_same_upside_down() -> None:
    threshold, standing, found = Threshold(opens=60, closes=30), False, []
    for value in (59, 60, 31, 30, 59):
        standing = threshold.too_high(value, standing)
        found.append(standing)

    assert found == [False, True, True, False, False]


def test_every_rule_can_be_told() -> None:
    for kind, rule in RULES.items():
        assert rule.severity in Incident.Severity.values, kind
        assert len(kind) <= 40
        assert rule.title.format("x"), kind
        assert rule.over.format("x"), kind


@pytest.mark.parametrize("kind", ["node_down", "engine_hangs"])
def test_a_node_that_falls_silent_is_told_in_time(kind: str) -> None:
    """Unknown 15 s after its end at the latest; a look and a delivery every 5 s."""
    seconds = 15 + RULES[kind].opens_after.total_seconds() + 5 + 5

    assert seconds <= 45
    assert 10 + RULES[kind].clears_after.total_seconds() + 5 + 5 <= 45


def test_what_flaps_is_told_a_few_times_an_hour_at_most() -> None:
    assert rules.FLAPS <= 5
    assert timedelta(minutes=5) <= FLAPPING_CLEARS_AFTER


def test_the_page_of_alerts_has_every_kind_as_it_is() -> None:
    def length(time: timedelta) -> str:
        return f"{time.total_seconds():.0f} s" if time else "at once"

    table = [line.split("|")[1:5] for line in (ROOT / "docs/alerts.md").read_text().splitlines() if "| `" in line]
    written = {kind.strip(" `"): (word.strip(), told.strip(), over.strip()) for kind, word, told, over in table}

    assert written == {
        kind: (rule.severity, length(rule.opens_after), length(rule.clears_after)) for kind, rule in RULES.items()
    }
