"""Many at once, and two things in the same instant: last slots, windows that touch, deletes in mid-start."""

import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.faults import windows
from tests.faults.case import Fault
from tests.faults.images import forget_image
from tests.faults.proxy import CREATE, PULL, REMOVE, START, EngineProxy, Mode
from tests.integration.desk import FINAL, Desk
from tests.live import Api, RunningStack, wait_for

smoke = pytest.mark.smoke
CLIENTS = 200


@smoke
def test_two_hundred_want_the_last_slot(desk: Desk, stack: RunningStack, fault: Fault) -> None:
    start = (datetime.now(UTC) + timedelta(days=3)).replace(minute=0, second=0, microsecond=0)
    body: dict[str, Any] = {"service": "nginx", "size": "huge", "storage": "C1", "hours": 2}
    body["start"] = start.isoformat()
    for _ in range(2):
        desk.book(**body)
    together = threading.Barrier(CLIENTS)
    token = str(desk.api.session.headers["Authorization"]).split()[-1]

    def book(_: int) -> tuple[int, str]:
        api = Api(stack.base_url, token)
        together.wait(30)
        answer = api.request("POST", "/reservations", body)
        api.close()
        said = answer.json()
        if answer.status_code == 201:
            desk.booked.append(said["id"])
        return answer.status_code, said.get("code", "")

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = Counter(pool.map(book, range(CLIENTS)))

    assert answers == {(201, ""): 1, (409, "no_capacity"): CLIENTS - 1}
    with fault.healing():
        pass


@smoke
def test_back_to_back_with_a_slow_teardown(desk: Desk, fault: Fault, proxy: EngineProxy) -> None:
    first = desk.running("nginx", size="huge")
    for _ in range(2):  # so that the next one has no place but the first one's
        desk.running("nginx", size="huge", hours=2)
    after = datetime.fromisoformat(first["end"]) + timedelta(seconds=1)  # the API tells no microseconds
    following = desk.book("nginx", size="huge", start=after.isoformat())
    assert following["node"] == first["node"]
    slow = proxy.disturb(Mode.HOLD, REMOVE)
    soon = windows.now(desk) + timedelta(seconds=2)
    windows.end_at(desk, first["id"], soon)
    windows.begin_at(desk, following["id"], soon)

    slow.wait_seen()
    waits = wait_for(lambda: (found := desk.get(following["id"]))["reason"] and found, seconds=15)
    assert waits["state"] == "booked"
    assert not desk.on_node(first["node"], desk.container(following["id"]))

    with fault.healing():
        proxy.heal()
        desk.until(following["id"], "running", seconds=60)
    assert desk.get(first["id"])["state"] == "ended"


@pytest.mark.parametrize(
    ("doing", "call"),
    [
        pytest.param("pulling", PULL, id="pulling"),
        pytest.param("creating", CREATE, id="creating", marks=smoke),
        pytest.param("starting", START, id="starting"),
    ],
)
def test_it_is_deleted_while(desk: Desk, fault: Fault, proxy: EngineProxy, doing: str, call: str) -> None:
    service = "redis" if doing == "pulling" else "nginx"
    if doing == "pulling":
        forget_image(desk.lab, service)
    held = proxy.disturb(Mode.HOLD, call)
    number = desk.book(service, size="tiny")["id"]
    held.wait_seen()

    desk.delete(number)
    with fault.healing():
        proxy.heal()
        wait_for(lambda: desk.get(number)["state"] in FINAL, seconds=60)


def test_it_is_deleted_while_mounting(desk: Desk, fault: Fault) -> None:
    later = datetime.now(UTC) + timedelta(seconds=4)
    reservation = desk.book("nginx", size="tiny", storage="C3", start=later.isoformat())
    number, node = reservation["id"], reservation["node"]
    [[volume]] = desk.sql(
        "SELECT v.volume_id FROM reservations_workspacevolume v JOIN reservations_reservation r"
        " ON r.kept_volume_id = v.id WHERE r.id = %s",
        number,
    )
    # Every step on a volume holds this lock on its node.
    lock = desk.lab.popen(node, ["flock", f"/run/berth-vol-{volume}.lock", "cat"], stdin=subprocess.PIPE)
    waiting = ["sh", "-c", "pgrep -x flock | wc -l"]
    wait_for(lambda: int(desk.lab.exec(node, waiting).stdout) >= 2, seconds=20)

    desk.delete(number)
    with fault.healing():
        lock.communicate(timeout=10)  # the end of its input: it lets go
        wait_for(lambda: desk.get(number)["state"] in FINAL, seconds=60)


@smoke
def test_extend_and_expire_in_the_same_instant(desk: Desk, fault: Fault) -> None:
    numbers = [desk.running("nginx", size="tiny")["id"] for _ in range(6)]
    soon = windows.now(desk) + timedelta(seconds=3)
    for number in numbers:
        windows.end_at(desk, number, soon)
    said: dict[int, Any] = {}

    def extend(number: int, offset_ms: float) -> None:
        wait = (soon - datetime.now(UTC)).total_seconds() - offset_ms / 1000
        time.sleep(max(wait, 0))  # the instant is the case
        said[number] = desk.api.request("POST", f"/reservations/{number}/extend", {"hours": 1})

    with ThreadPoolExecutor(len(numbers)) as pool:
        list(pool.map(extend, numbers, (200, 100, 40, 20, 10, 0)))

    with fault.healing():
        for number, answer in said.items():
            assert answer.status_code in {200, 409}, answer.text
            if answer.status_code == 409:
                wait_for(lambda number=number: desk.get(number)["state"] == "ended", seconds=60)  # type: ignore[misc]
    for number, answer in said.items():
        if answer.status_code == 200:
            found = desk.get(number)
            assert (found["state"], found["end"]) == ("running", answer.json()["end"])
            assert desk.fetch(found) == "200"
