"""Redis and PostgreSQL go away, and what was in them with them."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
import requests

from tests.faults.case import Fault
from tests.integration.desk import FINAL, Desk
from tests.live import RunningStack, wait_for

smoke = pytest.mark.smoke
BOOKINGS = 12


@smoke
def test_the_queue_is_flushed_again_and_again(desk: Desk, stack: RunningStack, fault: Fault) -> None:
    queue = redis.Redis.from_url(stack.env["REDIS_URL"])
    numbers = []
    for _ in range(3):
        numbers.append(desk.book("nginx", size="tiny")["id"])
        queue.flushall()
    queue.close()

    with fault.healing():
        for number in numbers:
            desk.until(number, "running", seconds=60)


@pytest.mark.parametrize("seconds", [pytest.param(20, marks=smoke), 60])
@pytest.mark.faults(seconds=240)
def test_redis_is_down_for_a_while(desk: Desk, stack: RunningStack, fault: Fault, seconds: int) -> None:
    runs = desk.running("nginx", size="tiny")
    over = desk.running("nginx", size="tiny")
    stack.stop("redis")
    later = desk.book("nginx", size="tiny")
    desk.delete(over["id"])
    begin = desk.sql("SELECT now()")[0][0]
    wait_for(lambda: (desk.sql("SELECT now()")[0][0] - begin).total_seconds() >= seconds, seconds=seconds + 5)
    assert desk.fetch(runs) == "200"
    assert desk.get(later["id"])["state"] == "booked"

    with fault.healing():
        stack.start("redis")
        desk.until(later["id"], "running", seconds=60)
        wait_for(lambda: desk.get(over["id"])["state"] in FINAL, seconds=60)


def test_postgresql_is_restarted(desk: Desk, stack: RunningStack, fault: Fault) -> None:
    runs = desk.running("nginx", size="tiny")
    on_its_way = desk.book("mysql", storage="C2")
    stack.stop("postgres")
    assert desk.fetch(runs) == "200"

    with fault.healing():
        stack.start("postgres")
        wait_for(lambda: _status(desk) == 200, seconds=30)
        desk.until(on_its_way["id"], "running", seconds=60)


@smoke
def test_postgresql_is_killed_while_many_book(desk: Desk, stack: RunningStack, fault: Fault) -> None:
    [[before]] = desk.sql("SELECT coalesce(max(id), 0) FROM reservations_reservation")

    def book(number: int) -> int | None:
        """Its number if the portal said that it is booked. What it did not answer may be booked or not."""
        if number == BOOKINGS // 2:
            stack.kill("postgres")
        try:
            answer = desk.try_to_book("nginx", size="tiny")
        except requests.RequestException:
            return None
        return int(answer.json()["id"]) if answer.status_code == 201 else None

    with ThreadPoolExecutor(4) as pool:
        said = {number for number in pool.map(book, range(BOOKINGS)) if number}

    with fault.healing():
        wait_for(lambda: _status(desk) == 200, seconds=30)
        found = {number for (number,) in desk.sql("SELECT id FROM reservations_reservation WHERE id > %s", before)}
        desk.booked = sorted(found)
        assert said <= found, "a booking that was confirmed is lost"
        for number in found:
            desk.until(number, "running", seconds=60)
    assert len(said) >= 2
    assert len(found) <= BOOKINGS


def _status(desk: Desk) -> int:
    return desk.api.request("GET", "/reservations").status_code
