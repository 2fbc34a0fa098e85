"""The main job: book nginx, reach it through the gateway and in no other way, delete it, and nothing is left."""

import subprocess
import time

import pytest

from lab import Lab
from tests.integration.desk import Answer, Desk
from tests.live import RunningStack, wait_for
from tests.oracle import Oracle

_KEEP_TALKING = """
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3)
print("talking", flush=True)
try:
    while True:
        s.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
        if not s.recv(65536):
            break
except OSError:
    pass
print("cut", flush=True)
"""


@pytest.fixture(scope="module")
def nginx(module_desk: Desk) -> Answer:
    return module_desk.running("nginx", size="tiny")


def test_a_booking_answers_within_seconds(desk: Desk) -> None:
    desk.running("nginx", size="tiny")  # the image may have had to be pulled
    begin = time.monotonic()

    reservation = desk.running("nginx", size="tiny")

    assert desk.fetch(reservation) == "200"
    assert time.monotonic() - begin < 5
    assert reservation["node"] in {node.name for node in desk.lab.info.nodes}
    assert reservation["endpoints"][0]["host"] == desk.lab.info.public_address


def test_only_the_forwarded_port_is_reachable_from_outside(nginx: Answer, module_desk: Desk, lab: Lab) -> None:
    info, endpoint = lab.info, nginx["endpoints"][0]
    node = next(node for node in info.nodes if node.name == nginx["node"])
    [[node_port]] = module_desk.sql(
        "SELECT node_port FROM compute_forward WHERE public_port = %s AND wanted", endpoint["port"]
    )
    inner = next(iter(module_desk.inspect(nginx)["NetworkSettings"]["Networks"].values()))["IPAddress"]
    forbidden = [(n.address, port) for n in info.nodes for port in (22, 80, 2375, 2376, node_port)]
    forbidden += [(info.storage.address, 22), (info.gateway.private_address, 22), (info.management_address, 22)]
    forbidden += [(info.registry.address.partition(":")[0], 5000), (inner, 80)]
    forbidden += [(info.public_address, port) for port in (22, 80, 2376, 5000, endpoint["port"] + 1)]

    assert module_desk.open_ports([(endpoint["host"], endpoint["port"])]) == {(endpoint["host"], endpoint["port"])}
    assert module_desk.open_ports(forbidden) == set()
    # The same port does answer from the private side: it is the gateway that keeps the outside out.
    direct = lab.exec("gateway", ["curl", "-s", "-m", "3", f"http://{node.address}:{node_port}/"], check=False)
    assert direct.returncode == 0, direct.stderr


def test_deleting_cuts_connections_and_leaves_nothing(desk: Desk, oracle: Oracle) -> None:
    reservation = desk.running("nginx", size="tiny")
    endpoint, node = reservation["endpoints"][0], reservation["node"]
    name = desk.container(reservation["id"])
    script = ["/usr/bin/python3", "-c", _KEEP_TALKING, endpoint["host"], str(endpoint["port"])]
    talker = desk.lab.popen("outside", script, stdout=subprocess.PIPE)
    assert talker.stdout is not None
    assert talker.stdout.readline() == "talking\n"

    desk.delete_and_wait(reservation["id"])

    assert talker.communicate(timeout=10)[0] == "cut\n"
    assert desk.open_ports([(endpoint["host"], endpoint["port"])]) == set()
    assert not desk.on_node(node, name)
    oracle.settled(10)
    assert desk.sql(
        "SELECT released_at IS NOT NULL FROM compute_forward WHERE public_port = %s ORDER BY id DESC LIMIT 1",
        endpoint["port"],
    ) == [(True,)]


def test_it_can_be_deleted_at_once(desk: Desk) -> None:
    numbers = [desk.book("mysql")["id"] for _ in range(2)]

    desk.delete_and_wait(*numbers)

    assert {desk.get(number)["state"] for number in numbers} == {"ended"}


def test_a_stopped_reservation_keeps_its_data_and_starts_again(desk: Desk) -> None:
    reservation = desk.running("nginx", size="tiny")
    desk.inside(reservation, "sh", "-c", "echo mine >/usr/share/nginx/html/mine.txt")

    desk.sql("UPDATE reservations_reservation SET wish = 'stop', look_at = now() WHERE id = %s", reservation["id"])
    desk.until(reservation["id"], "stopped")
    assert desk.fetch(reservation) == "000"
    desk.sql("UPDATE reservations_reservation SET wish = 'run', look_at = now() WHERE id = %s", reservation["id"])
    desk.until(reservation["id"], "running")

    assert desk.fetch(reservation, "/mine.txt") == "200"


def test_a_container_that_dies_is_started_again(desk: Desk) -> None:
    reservation = desk.running("nginx", size="tiny")

    desk.lab.exec(reservation["node"], ["docker", "kill", desk.container(reservation["id"])])

    wait_for(lambda: len(desk.history(reservation["id"])) >= 5, seconds=25)
    desk.until(reservation["id"], "running")
    assert desk.fetch(reservation) == "200"


def test_the_portal_does_not_run_as_root(stack: RunningStack) -> None:
    listing = stack.stack.run(["ps", "-eo", "user:32,args"]).stdout.splitlines()
    portal = [line.split(maxsplit=1) for line in listing if "gunicorn" in line or "celery" in line]

    for program in ("gunicorn portal.wsgi", "celery -A portal worker", "celery -A portal beat"):
        assert any(program in args for _, args in portal), program
    assert {user for user, _ in portal} == {"berth"}
