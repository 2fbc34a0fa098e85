"""/monitor/what-if/: which bookings would move, which would not fit, which lose data; and whether the fleet is N+1."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from compute.models import Node
from reservations.leaving import survey
from tests.factories import make_node, make_reservation, make_service, make_user
from tests.unit.conftest import Machines
from tests.unit.monitoring.pages import browser_of, staff, words

pytestmark = pytest.mark.django_db
PAGE = "/monitor/what-if/"


@pytest.fixture(autouse=True)
def _plain_http(settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = False


def run_on(machines: Machines, node: Node, count: int = 1, **values: Any) -> None:
    """So many small reservations that run on this node; the others are asked for nothing meanwhile."""
    others = Node.objects.exclude(pk=node.pk).filter(state=Node.State.ACTIVE)
    names = list(others.values_list("pk", flat=True))
    others.update(state=Node.State.CORDONED)
    machines.clock.now = timezone.now()
    for _ in range(count):
        machines.settle(make_reservation(now=machines.clock.now, length=timedelta(hours=2), **values))
    Node.objects.filter(pk__in=names).update(state=Node.State.ACTIVE)


def test_strangers_are_told_nothing() -> None:
    assert browser_of(None).get(PAGE).status_code == 302
    assert browser_of(make_user()).get(PAGE).status_code == 404
    assert browser_of(staff()).get(PAGE).status_code == 200


@pytest.mark.parametrize("asked", ["node=nobody", "largest=0", "largest=9", "largest=x", "largest=-1", "node=%00"])
def test_what_is_not_there_is_not_found(asked: str) -> None:
    make_node("one")

    assert browser_of(staff()).get(f"{PAGE}?{asked}").status_code == 404


def test_the_summary_says_first_how_many_would_move_and_how_many_would_not_fit(machines: Machines) -> None:
    one = make_node("one", ram_mib=8192, cores=8)
    run_on(machines, one, 3)
    make_node("two", ram_mib=1024)

    page = words(browser_of(staff()).get(f"{PAGE}?node=one"))

    assert "2 of 3 would move, 1 would not fit." in page
    assert "moves to two" in page
    assert "not enough RAM is free" in page
    assert "1 of 2 nodes could not be lost" in page


def test_data_on_the_node_is_told_to_be_lost(machines: Machines) -> None:
    machines.with_ssh = True
    one = make_node("one", ram_mib=8192, cores=8)
    run_on(machines, one, service=make_service(mount_path="/data"))
    make_node("two")

    page = words(browser_of(staff()).get(f"{PAGE}?node=one"))

    assert "1 of 1 would move, 0 would not fit, and 1 would lose what is on the disk of the node." in page
    assert "loses its local data" in page
    assert "Any one node could be lost" in page


def test_the_largest_nodes_die_together_and_are_no_refuge_of_each_other(machines: Machines) -> None:
    one = make_node("one", ram_mib=8192, cores=8)
    run_on(machines, one)
    make_node("two", ram_mib=4096)
    make_node("three", ram_mib=512, cores=1, state=Node.State.CORDONED)

    alone = words(browser_of(staff()).get(f"{PAGE}?largest=1"))
    both = words(browser_of(staff()).get(f"{PAGE}?largest=2"))

    assert "1 of 1 would move" in alone
    assert "0 of 1 would move, 1 would not fit." in both


def test_a_node_without_bookings_says_so() -> None:
    make_node("one")

    assert "Nothing is booked there" in words(browser_of(staff()).get(f"{PAGE}?node=one"))


def test_the_survey_knows_of_each_node_whether_it_can_be_lost(machines: Machines) -> None:
    one, two = make_node("one", ram_mib=8192, cores=8), make_node("two", ram_mib=1024)
    run_on(machines, one, 3)
    run_on(machines, two, 1)

    found = {row.node.name: (row.runs, row.waits, row.survives) for row in survey(timezone.now())}

    assert found == {"one": (3, 2, False), "two": (1, 0, True)}


def test_queries_do_not_grow_with_nodes_and_bookings(machines: Machines) -> None:
    browser = browser_of(staff())
    one = make_node("one", ram_mib=64 * 1024, cores=64)
    make_node("two", ram_mib=64 * 1024, cores=64)
    run_on(machines, one, 1)
    with CaptureQueriesContext(connection) as few:
        browser.get(f"{PAGE}?node=one")
    run_on(machines, one, 9)
    for _ in range(49):
        make_node()

    with CaptureQueriesContext(connection) as many:
        answer = browser.get(f"{PAGE}?node=one")

    assert "10 of 10 would move" in words(answer)
    assert len(many) == len(few) <= 14
