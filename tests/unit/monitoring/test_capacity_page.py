"""/monitor/capacity/: how full each node is and will be, when nothing more fits, and how many more fit now."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from compute import capacity
from compute.models import Node
from compute.room import Line, Room, read_lines
from compute.scheduler import Request, Short
from monitoring.capacity import HOURS, course, in_sum
from tests.factories import NOW, at, make_node, make_size, make_user
from tests.unit.monitoring.pages import browser_of, staff, words

PAGE = "/monitor/capacity/"


@pytest.fixture(autouse=True)
def _plain_http(settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = False


def hold(start: float, hours: float, ram_mib: int = 1024, cores: str = "1") -> None:
    """From so many hours after NOW."""
    capacity.place(Request(ram_mib, Decimal(cores), at(start), at(start + hours)), [], rest=timedelta(0))


def hold_from_now(start: float, hours: float, ram_mib: int = 1024) -> None:
    begin = timezone.now() + timedelta(hours=start)
    capacity.place(Request(ram_mib, Decimal(1), begin, begin + timedelta(hours=hours)), [], rest=timedelta(0))


# ---- the figures ------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_each_hour_has_the_most_that_is_held_in_it() -> None:
    make_node("one", ram_mib=4096, cores=4)
    hold(-1, 1.5)
    hold(0.25, 2)
    hold(5, 1, ram_mib=512)

    row = course(read_lines()[0], NOW, "ram")

    assert list(row.peaks[:8]) == [2048, 1024, 1024, 0, 0, 512, 0, 0]
    assert len(row.peaks) == HOURS
    assert (row.percent, row.percent_now, row.peak_words) == (50, 50, "2.0 GiB")
    assert course(read_lines()[0], NOW, "cores").peak_words == "2 cores"


@pytest.mark.django_db
def test_the_sum_adds_up_at_each_instant_what_lends() -> None:
    for name in ("one", "two"):
        make_node(name, ram_mib=2048, cores=2)
    hold(0, 1, ram_mib=2048)
    hold(1, 1, ram_mib=2048)
    hold(1.5, 1, ram_mib=1024)
    make_node("three", state=Node.State.CORDONED)

    row = in_sum(read_lines(), NOW, "ram")

    assert list(row.peaks[:4]) == [2048, 3072, 1024, 0]
    assert row.lent == 4096


WINDOWS = st.lists(st.tuples(st.integers(-2, 8), st.integers(1, 5), st.integers(1, 4)), max_size=8)


@given(
    fleet=st.lists(st.tuples(st.integers(1, 6), WINDOWS), max_size=3), ram=st.integers(1, 5), hours=st.integers(1, 4)
)
@hypothesis_settings(max_examples=300)
def test_it_is_full_at_the_first_start_at_which_it_fits_nowhere(
    fleet: list[tuple[int, list[tuple[int, int, int]]]], ram: int, hours: int
) -> None:
    room = Room([line_of(number, lent, windows) for number, (lent, windows) in enumerate(fleet)])
    minutes = (NOW + timedelta(minutes=minute) for minute in range(0, 16 * 60, 20))
    expected = next((m for m in minutes if isinstance(room.choose(asked(ram, m, hours)), Short)), None)

    found = room.full_at(asked(ram, NOW, hours), at(15))

    if found is None:
        assert expected is None or expected >= at(15)
    else:
        assert isinstance(room.choose(asked(ram, found, hours)), Short)
        assert expected is not None
        assert found <= expected < found + timedelta(minutes=20)


def asked(ram: int, start: Any, hours: int) -> Request:
    return Request(ram, Decimal(1), start, start + timedelta(hours=hours))


def line_of(number: int, lent: int, windows: list[tuple[int, int, int]]) -> Line:
    micro = [int(at(hour).timestamp()) * 1_000_000 for hour in range(-2, 15)]
    held = [sum(r for start, length, r in windows if start <= hour < start + length) for hour in range(-2, 15)]
    nothing = [0] * len(micro)
    return Line(number, f"n{number}", 1, lent, 100_000, True, micro, held, nothing, 0, 0, True)


# ---- the page ---------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_strangers_are_told_nothing() -> None:
    assert browser_of(None).get(PAGE).status_code == 302
    assert browser_of(make_user()).get(PAGE).status_code == 404


@pytest.mark.django_db
def test_it_says_how_full_it_is_when_it_is_full_and_how_many_fit() -> None:
    make_size("small", ram_mib=512, cores=Decimal("0.5"))
    make_node("one", ram_mib=2048, cores=4)
    hold_from_now(-1, 3)
    hold_from_now(24, 5, ram_mib=2048)

    page = words(browser_of(staff()).get(PAGE))

    assert "50 % of the fleet is lent in the next hour" in page
    assert "100 % at the peak of the next 7 days: 2.0 GiB of 2.0 GiB" in page
    assert '<td class="num" data-label="Fit now for 1 h">2</td>' in page
    assert "in 22 h 59 min" in page
    assert "in 15 h 59 min" in page
    assert '<path class="course-area" d="M0 60' in page


@pytest.mark.django_db
@pytest.mark.parametrize("asked_for", ["what=cores", "what=nonsense", "page=0", "page=x", "page=99"])
def test_what_makes_no_sense_is_not_asked_for(asked_for: str) -> None:
    make_node("one")

    assert browser_of(staff()).get(f"{PAGE}?{asked_for}").status_code == 200


@pytest.mark.django_db
def test_without_nodes_it_says_so() -> None:
    assert "No node lends anything" in words(browser_of(staff()).get(PAGE))


@pytest.mark.django_db
def test_the_fullest_fifty_are_shown_with_a_constant_number_of_queries() -> None:
    browser = browser_of(staff())
    make_size()
    make_node("one")
    with CaptureQueriesContext(connection) as few:
        browser.get(PAGE)
    for _ in range(50):
        make_node()
    make_node("full", ram_mib=1024, cores=1)
    capacity.place(
        Request(1024, Decimal(1), timezone.now(), timezone.now() + timedelta(hours=1)),
        [],
        rest=timedelta(0),
        exclude=list(Node.objects.exclude(name="full").values_list("pk", flat=True)),
    )

    with CaptureQueriesContext(connection) as many:
        page = words(browser.get(PAGE))

    assert len(many) == len(few) <= 12
    assert page.count('class="course-line"') == 50
    assert page.find('class="course-line"') < page.find("/monitor/nodes/full/") < page.find("peak 0 %")
    assert "1–50 of 52" in page
