"""An engine that hangs slows nobody else: how much is for script/bench hanging, that all get started is seen here."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lab import Lab
from tests.integration.desk import Answer, Desk
from tests.live import wait_for

MANY = 10


@contextmanager
def hanging(lab: Lab, node: str) -> Iterator[None]:
    """Its engine stands still; the kernel goes on accepting connections for it."""
    lab.kill_daemon(node, "dockerd", signal.SIGSTOP)
    try:
        yield
    finally:
        lab.kill_daemon(node, "dockerd", signal.SIGCONT)


@pytest.fixture
def only_new_on(desk: Desk) -> Iterator[str]:
    """The second node alone is given something new."""
    first, second = (node.name for node in desk.lab.info.nodes)
    desk.sql("UPDATE compute_node SET state = 'cordoned' WHERE name = %s", first)
    yield second
    desk.sql("UPDATE compute_node SET state = 'active' WHERE name = %s", first)
    wait_for(lambda: desk.sql("SELECT 1 FROM compute_node WHERE name = %s AND health = 'ok'", first), seconds=60)


def test_all_bookings_on_another_node_are_started(desk: Desk, only_new_on: str) -> None:
    first = desk.lab.info.nodes[0].name
    desk.sql("UPDATE compute_node SET state = CASE name WHEN %s THEN 'active' ELSE 'cordoned' END", first)
    there = [desk.running(size="tiny") for _ in range(2)]
    desk.sql("UPDATE compute_node SET state = CASE name WHEN %s THEN 'cordoned' ELSE 'active' END", first)

    with hanging(desk.lab, first):
        desk.sql("UPDATE reservations_reservation SET look_at = now() WHERE id = ANY(%s)", [r["id"] for r in there])
        booked = [desk.book(size="tiny")["id"] for _ in range(MANY)]
        started: list[Answer] = [desk.until(number, "running", seconds=60) for number in booked]

    assert {reservation["node"] for reservation in started} == {only_new_on}
    assert {reservation["node"] for reservation in there} == {first}


def test_a_probe_of_it_costs_a_few_seconds_and_marks_it(desk: Desk, only_new_on: str) -> None:
    first = desk.lab.info.nodes[0].name

    with hanging(desk.lab, first):
        row = wait_for(
            lambda: desk.sql(
                "SELECT health_reason FROM compute_node WHERE name = %s AND health IN ('unknown', 'lost')", first
            ),
            seconds=40,
        )

    assert "answer" in row[0][0]
