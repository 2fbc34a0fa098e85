"""What Berth promises of each container, seen on the container that a real engine made."""

from decimal import Decimal
from typing import Any

import pytest

from compute.engine import EngineRefused, PortTaken
from compute.spec import PortSpec, Presence
from tests.contract.benches import EngineBench
from tests.contract.conftest import MakeSpec
from tests.contract.real import RealEngineBench

# Only the engine itself can show them; the fake has no limits.
pytestmark = pytest.mark.parametrize("bench", ["real"], indirect=True)


@pytest.fixture
def made(bench: EngineBench, make_spec: MakeSpec) -> dict[str, Any]:
    """What the engine says of a running container of 64 MiB and a quarter of a core."""
    assert isinstance(bench, RealEngineBench)
    spec = make_spec(
        ports=(PortSpec(80, bench.address, 30_110),),
        environment={"PASSWORD": "a b$c"},
        capabilities=("NET_BIND_SERVICE", "CHOWN"),
        pids=77,
        log_mib=3,
        hostname="probe-1",
        mount_path="/data",
    )
    bench.engine.make_network(spec)
    bench.engine.start(spec)
    return bench.inspect(spec.name) | {"spec": spec}


def test_memory_is_limited_and_there_is_no_swap_beside_it(made: dict[str, Any]) -> None:
    assert made["HostConfig"]["Memory"] == 64 * 2**20
    assert made["HostConfig"]["MemorySwap"] == 64 * 2**20


def test_cores_are_limited(made: dict[str, Any]) -> None:
    host = made["HostConfig"]
    assert Decimal(host["CpuQuota"]) / Decimal(host["CpuPeriod"]) == Decimal("0.25")


def test_processes_open_files_and_core_dumps_are_limited(made: dict[str, Any]) -> None:
    limits = {limit["Name"]: (limit["Soft"], limit["Hard"]) for limit in made["HostConfig"]["Ulimits"]}
    assert made["HostConfig"]["PidsLimit"] == 77
    assert limits == {"nofile": (16_384, 16_384), "core": (0, 0)}


def test_it_has_only_the_capabilities_that_its_service_needs(made: dict[str, Any]) -> None:
    host = made["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert {name.removeprefix("CAP_") for name in host["CapAdd"]} == {"NET_BIND_SERVICE", "CHOWN"}
    assert host["Privileged"] is False
    assert "no-new-privileges" in host["SecurityOpt"]


def test_its_log_cannot_fill_the_disk(made: dict[str, Any]) -> None:
    assert made["HostConfig"]["LogConfig"] == {
        "Type": "json-file",
        "Config": {"max-size": "3m", "max-file": "1"},
    }


def test_nobody_but_the_portal_starts_it_again(made: dict[str, Any]) -> None:
    assert made["HostConfig"]["RestartPolicy"]["Name"] == "no"


def test_it_is_on_a_bridge_of_its_own(made: dict[str, Any]) -> None:
    assert list(made["NetworkSettings"]["Networks"]) == [made["spec"].name]


def test_its_port_is_published_on_the_private_address_only(bench: RealEngineBench, made: dict[str, Any]) -> None:
    assert made["HostConfig"]["PortBindings"] == {"80/tcp": [{"HostIp": bench.address, "HostPort": "30110"}]}


def test_it_gets_its_environment_and_host_name_as_they_were_written(made: dict[str, Any]) -> None:
    assert "PASSWORD=a b$c" in made["Config"]["Env"]
    assert made["Config"]["Hostname"] == "probe-1"


def test_its_memory_limit_holds(bench: RealEngineBench, make_spec: MakeSpec) -> None:
    hog = "x=0123456789abcdef; while :; do x=$x$x; done"
    spec = make_spec(ram_mib=16, command=("sh", "-c", hog))
    bench.engine.make_network(spec)
    bench.engine.start(spec)

    bench.api.wait(spec.name, timeout=30)

    seen = bench.engine.observe(spec.name)
    assert seen.presence == Presence.EXITED
    assert seen.out_of_memory


def test_a_command_that_the_image_lacks_is_refused_for_good(bench: RealEngineBench, make_spec: MakeSpec) -> None:
    spec = make_spec(command=("/no/such/program",))
    bench.engine.make_network(spec)

    with pytest.raises(EngineRefused, match="no such file"):
        bench.engine.start(spec)


def test_a_port_that_a_program_of_the_node_has_is_taken(bench: RealEngineBench, make_spec: MakeSpec) -> None:
    spec = make_spec(ports=(PortSpec(80, bench.address, 22),))  # the node's own sshd
    bench.engine.make_network(spec)

    with pytest.raises(PortTaken):
        bench.engine.start(spec)
