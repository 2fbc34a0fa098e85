"""What holds a container in: its limits as the engine has them, and its network."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.desk import Answer, Desk


@pytest.fixture(scope="module")
def neighbours(module_desk: Desk) -> tuple[Answer, Answer]:
    """Two reservations on one node."""
    booked = [module_desk.book("nginx", size="tiny")["id"] for _ in range(4)]
    by_node: dict[str, list[Answer]] = {}
    for number in booked:
        reservation = module_desk.until(number, "running")
        by_node.setdefault(reservation["node"], []).append(reservation)
    first, second, *_ = max(by_node.values(), key=len)
    return first, second


def test_memory_cores_processes_and_log_are_limited(neighbours: tuple[Answer, Answer], module_desk: Desk) -> None:
    limits = module_desk.inspect(neighbours[0])["HostConfig"]

    assert limits["Memory"] == limits["MemorySwap"] == 256 * 2**20
    assert limits["CpuQuota"] / limits["CpuPeriod"] == 0.25
    assert 0 < limits["PidsLimit"] <= 1024
    assert limits["LogConfig"]["Config"]["max-size"]
    assert limits["RestartPolicy"]["Name"] in {"", "no"}


def test_capabilities_are_few_and_no_new_ones_can_be_had(neighbours: tuple[Answer, Answer], module_desk: Desk) -> None:
    limits = module_desk.inspect(neighbours[0])["HostConfig"]

    assert limits["CapDrop"] == ["ALL"]
    assert not {"NET_RAW", "NET_ADMIN", "MKNOD", "SYS_ADMIN", "SYS_PTRACE", "ALL"} & set(limits["CapAdd"] or [])
    assert "no-new-privileges" in " ".join(limits["SecurityOpt"])
    assert not limits["Privileged"]
    assert not limits["Devices"]


def test_its_root_cannot_be_written_to_and_its_scratch_folders_are_in_memory(
    neighbours: tuple[Answer, Answer], module_desk: Desk
) -> None:
    limits = module_desk.inspect(neighbours[0])["HostConfig"]

    assert limits["ReadonlyRootfs"]
    assert all("size=64m" in options and "nosuid,nodev" in options for options in limits["Tmpfs"].values())
    assert "Read-only file system" in module_desk.inside(neighbours[0], "touch", "/root/x", check=False)
    module_desk.inside(neighbours[0], "touch", "/run/x")


def test_the_bridge_tells_the_nodes_firewall_that_it_may_not_go_out(
    neighbours: tuple[Answer, Answer], module_desk: Desk
) -> None:
    [network] = module_desk.inspect(neighbours[0])["NetworkSettings"]["Networks"]
    raw = module_desk.lab.exec(neighbours[0]["node"], ["docker", "network", "inspect", network]).stdout

    assert json.loads(raw)[0]["Options"]["com.docker.network.bridge.name"].startswith("bx")


def test_labels_tell_whose_it_is_and_until_when(neighbours: tuple[Answer, Answer], module_desk: Desk) -> None:
    labels = module_desk.inspect(neighbours[0])["Config"]["Labels"]

    assert labels["berth.reservation"] == str(neighbours[0]["id"])
    assert labels["berth.generation"] == "1"
    assert {"berth.expires_at", "berth.workspace"} <= labels.keys()


def test_neighbours_on_one_node_cannot_reach_one_another(neighbours: tuple[Answer, Answer], module_desk: Desk) -> None:
    first, second = (module_desk.inspect(reservation)["NetworkSettings"]["Networks"] for reservation in neighbours)
    [network], [address] = list(first), [found["IPAddress"] for found in second.values()]
    [own_address] = [found["IPAddress"] for found in first.values()]
    assert network != next(iter(second))
    node = neighbours[0]["node"]
    pid = module_desk.inspect(neighbours[0])["State"]["Pid"]

    def answers(target: str) -> bool:
        inside = ["nsenter", "-t", str(pid), "-n", "--", "curl", "-s", "-m", "2", "-o", "/dev/null"]
        return not module_desk.lab.exec(node, [*inside, f"http://{target}/"], check=False).returncode

    assert answers(own_address)
    assert not answers(address)


def test_a_container_reaches_no_machine_of_the_private_network(
    neighbours: tuple[Answer, Answer], module_desk: Desk
) -> None:
    info = module_desk.lab.info
    pid = str(module_desk.inspect(neighbours[0])["State"]["Pid"])
    places = [(node.address, port) for node in info.nodes for port in (22, 2376)]
    places += [(info.storage.address, 22), (info.gateway.private_address, 22)]
    places += [(info.registry.address.partition(":")[0], 5000)]
    script = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=1.5)"

    def accepts(place: tuple[str, int]) -> bool:
        inside = ["nsenter", "-t", pid, "-n", "--", "/usr/bin/python3", "-c", script, place[0], str(place[1])]
        return not module_desk.lab.exec(neighbours[0]["node"], inside, check=False).returncode

    assert accepts(("127.0.0.1", 80))  # it can say yes
    with ThreadPoolExecutor(8) as pool:
        assert not any(pool.map(accepts, places))
