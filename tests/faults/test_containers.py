"""Customers' containers that misbehave: nobody else notices, and what is left of them is taken away."""

from collections.abc import Iterator

import pytest

from lab import Lab
from tests.faults.case import Fault
from tests.integration.desk import FINAL, Answer, Desk
from tests.live import wait_for

smoke = pytest.mark.smoke


def _neighbours(desk: Desk) -> list[Answer]:
    """One on each node (an idle node is taken first)."""
    return [desk.running("nginx", size="tiny") for _ in range(3)]


def _still_serve(desk: Desk, neighbours: list[Answer]) -> None:
    assert [desk.fetch(neighbour) for neighbour in neighbours] == ["200"] * len(neighbours)


@smoke
def test_a_container_that_keeps_ending_is_given_up(desk: Desk, fault: Fault) -> None:
    reservation = desk.running("nginx", size="tiny")
    number, node = reservation["id"], reservation["node"]

    def ended_again() -> bool:
        """It ends whenever it runs; until it is over."""
        if desk.get(number)["state"] == "running":
            desk.lab.exec(node, ["docker", "kill", desk.container(number)], check=False)
        return desk.get(number)["state"] in FINAL

    wait_for(ended_again, seconds=100, interval=0.5)
    with fault.healing():
        pass
    found = desk.get(number)
    assert (found["state"], "exit code" in found["reason"]) == ("failed", True), found


@smoke
def test_a_container_runs_out_of_memory(desk: Desk, lab: Lab, fault: Fault) -> None:
    neighbours = _neighbours(desk)
    reservation = desk.running("redis", size="tiny")
    container = desk.container(reservation["id"])
    # Its own process takes more and more, and is ended by the kernel.
    script = "local t = {} for i = 1, 1e8 do t[i] = string.rep('x', 4096) .. i end"
    redis_cli = ["redis-cli", "-a", reservation["credentials"]["password"], "--no-auth-warning"]
    command = ["docker", "exec", container, *redis_cli, "eval", script, "0"]
    lab.exec(reservation["node"], command, check=False, timeout=60)
    wait_for(lambda: any("memory" in text for _, text in desk.history(reservation["id"])), seconds=40)

    with fault.healing():
        desk.until(reservation["id"], "running", seconds=60)
    _still_serve(desk, neighbours)


def test_a_container_forks_without_end(desk: Desk, lab: Lab, fault: Fault) -> None:
    neighbours = _neighbours(desk)
    reservation = desk.running("nginx", size="tiny")
    bomb = ["docker", "exec", "-d", desk.container(reservation["id"]), "sh", "-c", "f() { f | f & }; f; wait"]
    lab.exec(reservation["node"], bomb)
    limit = desk.inspect(reservation)["HostConfig"]["PidsLimit"]
    count = f"docker top {desk.container(reservation['id'])} | wc -l"
    wait_for(lambda: int(lab.exec(reservation["node"], ["sh", "-c", count]).stdout) > 5, seconds=20)

    assert int(lab.exec(reservation["node"], ["sh", "-c", count]).stdout) <= limit + 1
    _still_serve(desk, neighbours)
    another = desk.running("nginx", size="tiny")
    desk.delete(reservation["id"])
    with fault.healing():
        wait_for(lambda: desk.get(reservation["id"])["state"] in FINAL, seconds=60)
    _still_serve(desk, [*neighbours, another])


@pytest.fixture
def little_room(desk: Desk) -> Iterator[int]:
    """MiB that a shell may write beside its volume, for this test."""
    [[before]] = desk.sql("SELECT writes_mib FROM reservations_service WHERE slug = 'shell'")
    desk.sql("UPDATE reservations_service SET writes_mib = 64 WHERE slug = 'shell'")
    yield 64
    desk.sql("UPDATE reservations_service SET writes_mib = %s WHERE slug = 'shell'", before)


def test_a_container_fills_its_disk(desk: Desk, fault: Fault, little_room: int) -> None:
    neighbours = _neighbours(desk)
    reservation = desk.running("shell", size="tiny")
    desk.inside(reservation, "dd", "if=/dev/zero", "of=/filled", "bs=1M", f"count={little_room * 2}")

    with fault.healing():
        wait_for(lambda: desk.get(reservation["id"])["state"] in FINAL, seconds=60)
    found = desk.get(reservation["id"])
    assert found["state"] == "failed"
    assert f"{little_room} MiB are allowed" in found["reason"]
    _still_serve(desk, neighbours)
