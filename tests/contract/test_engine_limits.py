"""What Berth promises of each container, seen on the container that a real engine made."""

from decimal import Decimal
from typing import Any

import pytest

from compute import docker_config
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
        read_only=True,
        scratch=("/scratch",),
        internet=False,
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


def test_its_root_is_read_only_and_its_scratch_folder_is_small_and_in_memory(
    bench: RealEngineBench, made: dict[str, Any]
) -> None:
    def run(*argv: str) -> tuple[int, str]:
        started = bench.api.exec_create(made["spec"].name, list(argv))["Id"]
        said = bench.api.exec_start(started).decode()
        return bench.api.exec_inspect(started)["ExitCode"], said

    assert "Read-only file system" in run("touch", "/x")[1]
    assert run("touch", "/scratch/x")[0] == run("touch", "/data/x")[0] == 0
    mounted = next(line for line in run("cat", "/proc/mounts")[1].splitlines() if " /scratch " in line)
    assert {"nosuid", "nodev", "noexec", "size=65536k"} <= set(mounted.split()[3].split(","))


def test_nothing_of_the_node_is_in_it_but_its_own_volume(made: dict[str, Any]) -> None:
    host = made["HostConfig"]
    assert not host["Binds"]
    assert not host["Devices"]
    assert not host["ExtraHosts"]
    assert host["IpcMode"] == "private"
    assert host["PidMode"] == host["UTSMode"] == host["UsernsMode"] == ""
    assert [(mount["Type"], mount["Destination"]) for mount in made["Mounts"] if mount["Type"] != "tmpfs"] == [
        ("volume", "/data")
    ]
    assert host["MaskedPaths"]
    assert host["ReadonlyPaths"]
    assert host["ShmSize"] == 64 * 2**20
    assert host["OomScoreAdj"] == 500


def test_its_bridge_is_named_for_the_nodes_firewall(bench: RealEngineBench, made: dict[str, Any]) -> None:
    raw = bench.api.inspect_network(made["spec"].network)
    assert raw["Options"]["com.docker.network.bridge.name"] == docker_config.bridge_name(made["spec"])
    assert docker_config.bridge_name(made["spec"]).startswith("bx")


def test_a_disk_quota_that_the_engine_cannot_have_is_done_without(bench: RealEngineBench, make_spec: MakeSpec) -> None:
    bench.driver._limits_disk = True  # as on xfs, where only the mount's options tell
    spec = make_spec(writes_mib=100)

    bench.engine.create(spec)

    assert bench.engine.observe(spec.name).presence == Presence.CREATED
    assert not bench.driver._limits_disk


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
