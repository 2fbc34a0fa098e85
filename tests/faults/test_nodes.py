"""A node is cut off, reboots or is lost: what ran there runs elsewhere, and nothing runs twice or past its end."""

from datetime import timedelta

import pytest

from lab import Lab
from tests.faults import windows
from tests.faults.case import Fault
from tests.integration.desk import FINAL, Answer, Desk
from tests.live import wait_for

smoke = pytest.mark.smoke
LOST_WITHIN_S = 45
ANSWERS_WITHIN_S = 60


def health(desk: Desk, node: str) -> str:
    return str(desk.sql("SELECT health FROM compute_node WHERE name = %s", node)[0][0])


def generation(desk: Desk, number: int) -> int:
    return int(desk.sql("SELECT generation FROM reservations_reservation WHERE id = %s", number)[0][0])


def runs_on(lab: Lab, node: str, number: int) -> bool:
    """Asked on the node itself, whether or not anybody reaches it."""
    named = ["--filter", f"label=berth.reservation={number}", "--filter", "status=running"]
    return bool(lab.exec(node, ["docker", "ps", "-q", *named]).stdout.strip())


def other(lab: Lab, node: str) -> str:
    return next(info.name for info in lab.info.nodes if info.name != node)


def seconds_since(desk: Desk, begin: object) -> float:
    return float(desk.sql("SELECT extract(epoch FROM now() - %s::timestamptz)", begin)[0][0])


def cut_and_wait_until_lost(desk: Desk, lab: Lab, node: str) -> float:
    """Returns how many seconds after the cut it was declared lost."""
    begin = windows.now(desk)
    lab.cut(node)
    wait_for(lambda: health(desk, node) == "lost", seconds=LOST_WITHIN_S + 15)
    return seconds_since(desk, begin)


@smoke
@pytest.mark.faults(seconds=260)
def test_a_node_dies_and_what_ran_there_runs_elsewhere_at_the_same_address(desk: Desk, lab: Lab, fault: Fault) -> None:
    plain = desk.running("nginx", size="tiny")
    node = plain["node"]
    desk.sql("UPDATE compute_node SET state = 'cordoned' WHERE name <> %s", node)
    remote = desk.running("redis", size="tiny", storage="C2")
    local = desk.running("redis", size="tiny", storage="C1")
    desk.sql("UPDATE compute_node SET state = 'active'")

    lost_after = cut_and_wait_until_lost(desk, lab, node)
    lost_at = windows.now(desk)
    moved = [_moved(desk, row, node) for row in (plain, remote, local)]
    answered_after = seconds_since(desk, lost_at)
    fault.note(f"lost after {lost_after:.0f} s, elsewhere after {answered_after:.0f} s")
    assert lost_after <= LOST_WITHIN_S
    assert answered_after <= ANSWERS_WITHIN_S
    assert [row["endpoints"] for row in moved] == [row["endpoints"] for row in (plain, remote, local)]
    assert desk.fetch(moved[0]) == "200"
    told = " ".join(text for _, text in desk.history(local["id"]))
    assert "What was on its local volume is lost." in told
    assert runs_on(lab, node, plain["id"])  # nobody could reach it to stop it

    with fault.healing():
        lab.heal(node)
        wait_for(lambda: health(desk, node) == "ok", seconds=60)
        for row in (plain, remote, local):
            assert not runs_on(lab, node, row["id"]), "it was in service before its old copies were gone"


def _moved(desk: Desk, row: Answer, node: str) -> Answer:
    def elsewhere() -> Answer | None:
        found = desk.get(row["id"])
        return found if found["state"] == "running" and found["node"] != node else None

    return wait_for(elsewhere, seconds=ANSWERS_WITHIN_S + 30) or {}


@pytest.mark.faults(seconds=200)
def test_a_node_is_cut_off_before_a_start(desk: Desk, lab: Lab, fault: Fault) -> None:
    node = lab.info.nodes[0].name
    desk.sql("UPDATE compute_node SET state = 'cordoned' WHERE name <> %s", node)
    lab.cut(node)
    booked = desk.book("nginx", size="tiny")
    desk.sql("UPDATE compute_node SET state = 'active'")
    assert booked["node"] == node

    _starts_elsewhere(desk, lab, fault, booked, node)


@smoke
@pytest.mark.faults(seconds=200)
def test_a_node_is_cut_off_in_the_middle_of_a_start(desk: Desk, lab: Lab, fault: Fault) -> None:
    node = lab.info.nodes[0].name
    desk.sql("UPDATE compute_node SET state = 'cordoned' WHERE name <> %s", node)
    fault.arm("container-created")  # the worker dies there, and the node is gone before the next one looks
    booked = desk.book("mysql", storage="C2")
    wait_for(lambda: fault.struck("container-created"), seconds=20)
    lab.cut(node)
    desk.sql("UPDATE compute_node SET state = 'active'")

    _starts_elsewhere(desk, lab, fault, booked, node, seconds=90)


def _starts_elsewhere(desk: Desk, lab: Lab, fault: Fault, booked: Answer, silent: str, *, seconds: float = 60) -> None:
    """It runs on another node than the silent one, which heals afterwards."""
    found = desk.until(booked["id"], "running", seconds=seconds)
    assert found["node"] != silent

    with fault.healing():
        lab.heal(silent)
        wait_for(lambda: health(desk, silent) == "ok", seconds=60)


@smoke
@pytest.mark.faults(seconds=200)
def test_a_node_that_nobody_reaches_ends_what_has_expired_by_itself(desk: Desk, lab: Lab, fault: Fault) -> None:
    row = desk.running("nginx", size="tiny")
    end = windows.now(desk) + timedelta(seconds=35)
    windows.end_at(desk, row["id"], end)
    _wait_until_told(desk, row["id"])
    lab.cut(row["node"])
    before = desk.fetch(row)

    wait_for(lambda: windows.now(desk) >= end, seconds=40)
    wait_for(lambda: desk.fetch(row) != "200", seconds=30)
    traffic = seconds_since(desk, end)
    wait_for(lambda: not runs_on(lab, row["node"], row["id"]), seconds=60)
    container = seconds_since(desk, end)
    fault.note(f"traffic cut after {max(traffic, 0):.0f} s, container ended after {max(container, 0):.0f} s")
    assert desk.get(row["id"])["state"] == "ending"
    assert before != "200"  # cut off is cut off: the gateway is on the other side

    with fault.healing():
        lab.heal(row["node"])
        wait_for(lambda: desk.get(row["id"])["state"] == "ended", seconds=60)


def _wait_until_told(desk: Desk, number: int) -> None:
    """Until its node has the end that was moved by SQL."""
    desk.sql("UPDATE reservations_reservation SET look_at = now() WHERE id = %s", number)
    told = (
        'SELECT c.expires_at = r."end" FROM reservations_container c JOIN reservations_reservation r'
        " ON r.id = c.reservation_id AND r.generation = c.generation WHERE r.id = %s"
    )
    wait_for(lambda: desk.sql(told, number)[0][0], seconds=20)


@smoke
@pytest.mark.faults(seconds=200)
def test_a_node_reboots(desk: Desk, lab: Lab, fault: Fault) -> None:
    kept = desk.running("redis", size="tiny", storage="C3")
    local = desk.running("nginx", size="tiny")

    with fault.healing():
        lab.reboot(kept["node"])
        for row in (kept, local):
            _answers_again(desk, lab, row)


def _answers_again(desk: Desk, lab: Lab, row: Answer) -> None:
    def there() -> bool:
        found = desk.get(row["id"])
        return found["state"] == "running" and runs_on(lab, found["node"], row["id"])

    wait_for(there, seconds=60)


@pytest.mark.faults(seconds=300)
def test_when_every_node_falls_silent_nothing_is_moved_and_nothing_is_torn_down(
    desk: Desk, lab: Lab, fault: Fault
) -> None:
    rows = [desk.running("nginx", size="tiny") for _ in range(3)]
    begin = windows.now(desk)
    for node in lab.info.nodes:
        lab.cut(node.name)

    wait_for(lambda: seconds_since(desk, begin) > LOST_WITHIN_S + 15, seconds=90)

    assert {health(desk, node.name) for node in lab.info.nodes} == {"unknown"}
    assert {generation(desk, row["id"]) for row in rows} == {1}
    assert all(desk.get(row["id"])["state"] == "running" for row in rows)
    assert "most nodes" in fault.stack.run_manage("doctor", check=False).stdout

    with fault.healing():
        for node in lab.info.nodes:
            lab.heal(node.name)
        wait_for(lambda: {health(desk, node.name) for node in lab.info.nodes} == {"ok"}, seconds=60)
        assert all(desk.fetch(row) == "200" for row in rows)
        assert {generation(desk, row["id"]) for row in rows} == {1}


@pytest.mark.faults(seconds=200)
def test_a_node_is_emptied_and_what_loses_nothing_moves(desk: Desk, lab: Lab, fault: Fault) -> None:
    moves = desk.running("nginx", size="tiny", storage="C2")
    node = moves["node"]
    desk.sql("UPDATE compute_node SET state = 'cordoned' WHERE name <> %s", node)
    stays = desk.running("redis", size="tiny", storage="C1")
    desk.sql("UPDATE compute_node SET state = 'active'")

    with fault.healing():
        fault.stack.run_manage("drain", node, "--yes")
        moved = _moved(desk, moves, node)
        assert desk.fetch(moved) == "200"
        assert moved["endpoints"] == moves["endpoints"]
        assert desk.get(stays["id"])["node"] == node
        wait_for(lambda: not runs_on(lab, node, moves["id"]), seconds=30)
    fault.stack.run_manage("uncordon", node)


@pytest.mark.faults(seconds=260)
def test_one_that_was_deleted_while_its_node_was_away_is_over_when_that_is_back(
    desk: Desk, lab: Lab, fault: Fault
) -> None:
    row = desk.running("nginx", size="tiny")
    lab.cut(row["node"])
    wait_for(lambda: health(desk, row["node"]) == "unknown", seconds=30)
    desk.delete(row["id"])
    wait_for(lambda: desk.get(row["id"])["state"] == "ending", seconds=10)

    with fault.healing():
        lab.heal(row["node"])
        wait_for(lambda: desk.get(row["id"])["state"] in FINAL, seconds=60)
        assert not runs_on(lab, row["node"], row["id"])
