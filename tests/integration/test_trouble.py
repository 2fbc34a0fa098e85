"""What breaks in a data centre: nodes, cables, the gateway's rules, the queue, the portal's own programs."""

from collections.abc import Iterator

import pytest

from lab import Lab
from tests.integration.desk import Answer, Desk
from tests.live import RunningStack, wait_for
from tests.oracle import Oracle
from tests.oracle.foreign import rules


@pytest.fixture
def mended(lab: Lab, stack: RunningStack) -> Iterator[None]:
    """For tests that break something: whole again afterwards, whatever became of the test."""
    yield
    for node in lab.info.nodes:
        lab.heal(node.name)
        lab.start_daemon(node.name, "dockerd")
    stack.start("postgres", "redis", "web", "worker", "beat")
    stack.wait_ready()


@pytest.fixture(scope="module")
def nginx(module_desk: Desk) -> Answer:
    """Somebody's reservation that lives through all of it."""
    return module_desk.running("nginx", size="tiny")


def _health(desk: Desk) -> dict[str, str]:
    return dict(desk.sql("SELECT name, health FROM compute_node"))


def test_flushed_rules_come_back_by_themselves_and_at_command(
    nginx: Answer, desk: Desk, lab: Lab, stack: RunningStack
) -> None:
    others = rules(lab)
    lab.exec("gateway", ["iptables", "-w", "5", "-t", "nat", "-F", "BERTH-DNAT"])
    assert desk.fetch(nginx) == "000"
    stack.run_manage("reconcile")
    assert desk.fetch(nginx) == "200"
    assert rules(lab) == others

    lab.exec("gateway", ["sh", "-c", "iptables -w 5 -t nat -F; iptables -w 5 -F"])
    wait_for(lambda: desk.fetch(nginx) == "200", seconds=40, interval=0.5)
    assert not {rule for rule in rules(lab) if rule.startswith("-A")}
    gone = "".join(f"{rule}\n" for rule in sorted(others) if rule.startswith("-A"))
    lab.exec("gateway", ["iptables-restore", "-w", "5", "--noflush"], input=f"*filter\n{gone}COMMIT\n")


def test_a_booking_is_taken_while_the_queue_is_down(desk: Desk, stack: RunningStack, mended: None) -> None:
    stack.stop("redis")
    reservation = desk.book("nginx", size="tiny")
    assert desk.get(reservation["id"])["state"] == "booked"

    stack.start("redis")

    desk.until(reservation["id"], "running", seconds=40)
    assert desk.fetch(reservation) == "200"


def test_a_killed_worker_loses_no_start(desk: Desk, stack: RunningStack, mended: None) -> None:
    numbers = [desk.book("mysql", storage=code)["id"] for code in ("C1", "C2")]
    wait_for(lambda: desk.get(numbers[0])["state"] == "starting", seconds=10, interval=0.02)

    stack.kill("worker")

    # The dead one's claims last a while yet; as if that time had passed.
    desk.sql("UPDATE reservations_reservation SET claim_expires_at = now() WHERE claim_expires_at IS NOT NULL")
    for number in numbers:
        desk.until(number, "running", seconds=60)
    [[containers]] = desk.sql(
        "SELECT count(*) FROM reservations_container WHERE gone_at IS NULL AND reservation_id = ANY(%s)", numbers
    )
    assert containers == 2


def test_a_killed_database_is_no_end(nginx: Answer, desk: Desk, stack: RunningStack, mended: None) -> None:
    stack.kill("postgres")

    wait_for(lambda: desk.api.request("GET", "/reservations").status_code == 200, seconds=30, interval=0.5)
    stack.wait_ready(60)
    assert desk.get(nginx["id"])["state"] == "running"
    reservation = desk.running("nginx", size="tiny", seconds=30)
    assert desk.fetch(reservation) == "200"


def test_killed_web_and_beat_come_back(nginx: Answer, desk: Desk, stack: RunningStack, mended: None) -> None:
    control = stack.stack.tree.control
    before = {name: control.pid(name) for name in ("web", "beat")}
    for name in before:
        stack.kill(name)

    wait_for(lambda: all(control.pid(name) not in {0, old} for name, old in before.items()), seconds=30)
    stack.start(*before)
    stack.wait_ready(40)
    assert desk.fetch(nginx) == "200"
    desk.running("nginx", size="tiny")


def test_with_all_nodes_down_nobody_is_lent_anything_and_nothing_is_lost(
    nginx: Answer, desk: Desk, lab: Lab, mended: None
) -> None:
    for node in lab.info.nodes:
        lab.kill_daemon(node.name, "dockerd")

    wait_for(lambda: set(_health(desk).values()) == {"unknown"}, seconds=45, interval=0.5)
    refused = desk.try_to_book("nginx", size="tiny")
    assert (refused.status_code, refused.json()["code"]) == (409, "no_capacity")
    assert "none of the compute nodes is in service" in refused.json()["detail"]
    assert desk.get(nginx["id"])["state"] in {"running", "starting"}

    for node in lab.info.nodes:
        lab.start_daemon(node.name, "dockerd")
    wait_for(lambda: set(_health(desk).values()) == {"ok"}, seconds=45, interval=0.5)
    wait_for(lambda: desk.fetch(nginx) == "200", seconds=60, interval=0.5)
    desk.until(nginx["id"], "running")


def test_a_node_that_vanishes_in_a_start_is_left_and_cleaned_up(
    desk: Desk, lab: Lab, oracle: Oracle, mended: None
) -> None:
    reservation = desk.book("mysql", size="medium", storage="C1")
    node = reservation["node"]
    wait_for(lambda: desk.get(reservation["id"])["state"] == "starting", seconds=10, interval=0.02)

    lab.cut(node)

    found = wait_for(lambda: _settled(desk.get(reservation["id"])), seconds=120, interval=0.5)
    assert found is not None
    assert (found["state"] == "running" and found["node"] != node) or found["reason"], found
    lab.heal(node)
    wait_for(lambda: _health(desk)[node] == "ok", seconds=45, interval=0.5)
    oracle.settled(60)
    assert not desk.on_node(node, f"berth-{reservation['id']}-1-main")


def _settled(found: Answer) -> Answer | None:
    return found if found["state"] in {"running", "failed", "ended"} else None
