"""Who gets which node, and what the one hears who gets none. Bookings for tomorrow need no containers."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
import requests

from tests.integration.desk import Desk


def _in_days(days: int) -> datetime:
    return (datetime.now(UTC) + timedelta(days=days)).replace(minute=0, second=0, microsecond=0)


def test_the_smallest_ram_ratio_wins(desk: Desk) -> None:
    lends = {node.name: (node.ram_mib, node.cores) for node in desk.lab.info.nodes}
    held = dict.fromkeys(lends, 0)
    expected, placed = [], []
    for _ in range(7):
        best = min(lends, key=lambda n: (Fraction(held[n] * 512, lends[n][0]), Fraction(held[n], 2 * lends[n][1]), n))
        held[best] += 1
        expected.append(best)
        placed.append(desk.book("nginx", size="small", start=_in_days(2).isoformat())["node"])

    assert placed == expected
    assert len(set(placed[:2])) == 2


def test_the_last_slot_goes_to_one_of_two(desk: Desk) -> None:
    start = _in_days(4)
    wanted: dict[str, Any] = {"size": "huge", "start": start.isoformat(), "hours": 2}
    for _ in range(2):
        desk.book("nginx", **wanted)
    together = threading.Barrier(2)

    def book() -> requests.Response:
        together.wait(5)
        return desk.try_to_book("nginx", **wanted)

    with ThreadPoolExecutor(2) as pool:
        answers = [future.result() for future in [pool.submit(book) for _ in range(2)]]
    refused = max(answers, key=lambda answer: answer.status_code)

    assert sorted(answer.status_code for answer in answers) == [201, 409]
    assert refused.json()["code"] == "no_capacity"
    assert "No resources available" in refused.json()["detail"]
    assert datetime.fromisoformat(refused.json()["next_slot"]) == start + timedelta(hours=2)
    assert refused.headers["Content-Type"].startswith("application/problem+json")
    # What was said is true: at that time it fits; and back to back is no overlap.
    desk.book("nginx", **wanted | {"start": refused.json()["next_slot"]})


def test_what_is_deleted_makes_room_at_once(desk: Desk) -> None:
    wanted: dict[str, Any] = {"size": "huge", "start": _in_days(6).isoformat()}
    numbers = [desk.book("nginx", **wanted)["id"] for _ in range(3)]
    assert desk.try_to_book("nginx", **wanted).status_code == 409

    desk.delete_and_wait(numbers[1])

    assert desk.try_to_book("nginx", **wanted).status_code == 201


def test_a_size_beyond_the_quota_is_refused(desk: Desk) -> None:
    limit = (
        "UPDATE accounts_workspace SET max_ram_mib = %s WHERE personal_of_id ="
        " (SELECT id FROM accounts_user WHERE username = %s)"
    )
    desk.sql(limit, 1000, desk.username)
    try:
        refused = desk.try_to_book("nginx", size="huge")
    finally:
        desk.sql(limit, 900_000, desk.username)

    assert (refused.status_code, refused.json()["code"]) == (409, "quota")
    assert "allowed" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"service": "unknown"}, "service"),
        ({"size": "unknown"}, "size"),
        ({"storage": "C9"}, "storage"),
        ({"hours": 0}, "hours"),
        ({"hours": -1}, "hours"),
        ({"hours": 99_999}, "hours"),
        ({"hours": 0.3}, "hours"),
        ({"start": "2020-01-01T00:00:00Z"}, "start"),
        ({"start": "2020-01-01"}, "start"),
        ({"name": "bell\u0007"}, "name"),
        ({"name": "x" * 61}, "name"),
        ({"storage_gb": 0}, "storage_gb"),
    ],
)
def test_what_cannot_be_is_a_sentence_at_its_field(desk: Desk, change: dict[str, Any], field: str) -> None:
    before = desk.sql("SELECT count(*) FROM reservations_reservation")

    answer = desk.try_to_book(**{"service": "nginx"} | change)

    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] == "invalid"
    assert answer.json()["errors"][field]
    assert desk.sql("SELECT count(*) FROM reservations_reservation") == before


def test_forty_at_once_all_answer_and_all_go(desk: Desk) -> None:
    with ThreadPoolExecutor(8) as pool:
        booked = list(pool.map(lambda _: desk.book("nginx", size="tiny")["id"], range(40)))
    reservations = [desk.until(number, "running", seconds=90) for number in booked]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(desk.fetch, reservations))
    desk.delete_and_wait(*booked, seconds=90)

    assert answers == ["200"] * 40
    places = {(r["endpoints"][0]["host"], r["endpoints"][0]["port"]) for r in reservations}
    assert len(places) == 40
    assert desk.open_ports(sorted(places)) == set()
