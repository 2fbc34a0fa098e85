"""The operators' commands, as root in the checkout."""

import json
from collections.abc import Iterator

import pytest

from lab import Lab
from tests.integration.desk import Answer, Desk
from tests.live import RunningStack, wait_for
from tests.oracle import Oracle


@pytest.fixture(scope="module")
def nginx(module_desk: Desk) -> Answer:
    return module_desk.running("nginx", size="tiny")


@pytest.fixture
def in_service(desk: Desk) -> Iterator[None]:
    """Every node takes bookings again afterwards."""
    yield
    desk.sql("UPDATE compute_node SET state = 'active'")


def test_nodes_shows_what_is_lent(nginx: Answer, stack: RunningStack, lab: Lab) -> None:
    rows = {row["name"]: row for row in json.loads(stack.run_manage("nodes", "--json").stdout)}
    table = stack.run_manage("nodes").stdout

    assert {name: row["ram_mib"] for name, row in rows.items()} == {n.name: n.ram_mib for n in lab.info.nodes}
    assert rows[nginx["node"]]["held_ram_mib"] >= 256
    assert all(name in table for name in rows)


def test_a_cordoned_or_draining_node_gets_nothing_new(
    nginx: Answer, desk: Desk, stack: RunningStack, lab: Lab, in_service: None
) -> None:
    one, idle = nginx["node"], next(n.name for n in lab.info.nodes if n.name != nginx["node"])
    stack.run_manage("cordon", idle)
    assert desk.book("nginx", size="tiny")["node"] == one  # the idle one would win

    homeless = stack.run_manage("drain", one, check=False)
    assert homeless.returncode == 1
    assert "Nothing was changed" in homeless.stderr
    assert f"#{nginx['id']} " in homeless.stdout
    stack.run_manage("drain", one, "--yes")
    refused = desk.try_to_book("nginx", size="tiny")
    assert (refused.status_code, refused.json()["code"]) == (409, "no_capacity")
    assert desk.get(nginx["id"])["state"] == "running"

    stack.run_manage("uncordon", one, idle)
    assert desk.book("nginx", size="tiny")["node"] == idle


def test_a_node_in_use_is_not_removed(nginx: Answer, stack: RunningStack) -> None:
    refused = stack.run_manage("remove_node", nginx["node"], check=False)

    assert refused.returncode != 0
    assert "still holds" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_node_that_does_not_answer_is_not_added(stack: RunningStack, lab: Lab, desk: Desk) -> None:
    address = lab.info.storage.address  # a machine, but no engine
    options = ["--gateway", "gateway", "--address", address, "--engine", f"tcp://{address}:2376"]

    refused = stack.run_manage("add_node", "node9", *options, check=False)

    assert refused.returncode != 0
    assert "The node node9 cannot be added, since its engine cannot be used" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert desk.sql("SELECT count(*) FROM compute_node WHERE name = 'node9'") == [(0,)]


def test_mirroring_again_changes_nothing(stack: RunningStack, lab: Lab) -> None:
    again = stack.run_manage("mirror_images", "nginx", "redis", "--from", lab.info.upstream.address, "--insecure")

    assert again.stdout.count("up to date") == 4  # each with a version


def test_doctor_finds_nothing_when_all_is_well_and_names_what_is_wrong(
    nginx: Answer, stack: RunningStack, lab: Lab, oracle: Oracle, desk: Desk
) -> None:
    healthy = stack.run_manage("doctor", check=False)
    assert healthy.returncode == 0, healthy.stdout + healthy.stderr
    image = desk.inspect(nginx)["Image"]
    stray = ["--name", "berth-999999-1-main", "--label", "berth.reservation=999999", "--label", "berth.generation=1"]
    rule = "BERTH-DNAT -p tcp -m tcp --dport 20999 -j DNAT --to-destination 10.0.0.1:80"
    stack.stop("beat", "worker")  # they mend the gateway every half minute, which may be this one
    try:
        lab.exec(nginx["node"], ["docker", "run", "-d", "--network", "none", *stray, image, "sleep", "600"])
        lab.exec("gateway", ["iptables", "-w", "5", "-t", "nat", "-A", *rule.split()])
        assert any(line.startswith("1:") for line in oracle.check_all()), "the oracle saw no stranger"
        assert any(line.startswith("2:") for line in oracle.check_all()), "the oracle saw no strange rule"

        ill = stack.run_manage("doctor", check=False)
    finally:
        lab.exec(nginx["node"], ["docker", "rm", "-f", "berth-999999-1-main"], check=False)
        lab.exec("gateway", ["iptables", "-w", "5", "-t", "nat", "-D", *rule.split()], check=False)
        stack.start("worker", "beat")
        stack.wait_ready()

    assert ill.returncode == 1
    assert "berth-999999-1-main" in ill.stdout
    assert "20999" in ill.stdout


def test_reconcile_brings_back_what_was_taken_away(nginx: Answer, stack: RunningStack, desk: Desk) -> None:
    desk.lab.exec(nginx["node"], ["docker", "rm", "-f", desk.container(nginx["id"])])

    wait_for(lambda: stack.run_manage("reconcile", str(nginx["id"])).stdout.startswith(f"#{nginx['id']} running"))

    wait_for(lambda: desk.fetch(nginx) == "200", seconds=20)
