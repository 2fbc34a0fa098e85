"""What the Docker Engine is told of a container: a pure function of ContainerSpec, so that all of it can be checked.

Every field of the host configuration is written here by name. Nothing that a customer types comes near it: names
derive from ids, and what an admin may set (capabilities, folders, numbers) is checked once more before it goes out.
"""

import hashlib
import posixpath
import re
from decimal import Decimal
from typing import Any

from compute.engine import EngineRefused
from compute.spec import CAPABILITIES, VOLUMES_AT, ContainerSpec, PortSpec, folder_problem

CPU_PERIOD_US = 100_000
SCRATCH_MIB = 64  # each; what is written there counts to the container's memory
SHM_MIB = 64
OPEN_FILES = 16_384
MOST_PIDS = 32_768
OOM_SCORE = 500  # when the node itself runs short, a customer's process goes before what runs the node
BRIDGE_ONLINE, BRIDGE_CLOSED = "bi", "bx"  # the node's firewall tells by these who may go out to the internet
BRIDGE_OPTION = "com.docker.network.bridge.name"

NOT_NETWORKS = {"host", "none", "bridge", "default"}  # mean something else to the engine

_NAME = re.compile(r"\A[a-z0-9][a-z0-9_.-]{0,62}\Z")
_HOST_NAME = re.compile(r"\A[A-Za-z0-9_-]{0,63}\Z")
_RUNTIME = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,39}\Z")
_VOLUME_PATH = re.compile(rf"\A{VOLUMES_AT}/vol-[0-9]+(/data)?\Z")


def bridge_name(spec: ContainerSpec) -> str:
    """The bridge's interface on the node: at most 15 characters (IFNAMSIZ), told apart by the network's name."""
    digest = hashlib.sha256(spec.network.encode()).hexdigest()[:12]
    return f"{BRIDGE_ONLINE if spec.internet else BRIDGE_CLOSED}{digest}"


def network(spec: ContainerSpec) -> dict[str, Any]:
    """The body of POST /networks/create."""
    _require(_NAME.match(spec.network), "the network's name")
    return {
        "Name": spec.network,
        "Driver": "bridge",
        "CheckDuplicate": True,
        "EnableIPv6": False,
        "Internal": False,
        "Attachable": False,
        "Options": {BRIDGE_OPTION: bridge_name(spec)},
        "Labels": dict(spec.labels),
    }


def container(spec: ContainerSpec, *, disk_quota: bool = False) -> dict[str, Any]:
    """The body of POST /containers/create. Raises EngineRefused for what no container of Berth may have.

    `disk_quota` is for engines that can limit what a container writes (overlay2 on xfs with project quotas).
    """
    check(spec)
    return {
        "Image": spec.image,
        "Cmd": list(spec.command) or None,  # None keeps the image's own
        "Hostname": spec.hostname,
        "Env": [f"{key}={value}" for key, value in spec.environment.items()],
        "Labels": dict(spec.labels),
        "ExposedPorts": {_port(port): {} for port in spec.ports},
        "HostConfig": host_config(spec, disk_quota=disk_quota),
        "NetworkingConfig": {"EndpointsConfig": {spec.network: {}}},
    }


def host_config(spec: ContainerSpec, *, disk_quota: bool = False) -> dict[str, Any]:
    """Everything that concerns the node. What is not here the engine leaves at its default, which is closed."""
    config: dict[str, Any] = {
        "NetworkMode": spec.network,
        "PortBindings": {_port(p): [{"HostIp": p.node_address, "HostPort": str(p.node_port)}] for p in spec.ports},
        "Mounts": _mounts(spec),
        "Tmpfs": dict.fromkeys(spec.scratch, f"rw,nosuid,nodev,noexec,size={SCRATCH_MIB}m,mode=1777"),
        "ReadonlyRootfs": spec.read_only,
        "Memory": spec.ram_mib * 2**20,
        "MemorySwap": spec.ram_mib * 2**20,  # together: no swap
        "CpuPeriod": CPU_PERIOD_US,
        "CpuQuota": int(spec.cores * CPU_PERIOD_US),
        "PidsLimit": spec.pids,
        "ShmSize": SHM_MIB * 2**20,
        "OomScoreAdj": OOM_SCORE,
        "Ulimits": [
            {"Name": "nofile", "Soft": OPEN_FILES, "Hard": OPEN_FILES},
            {"Name": "core", "Soft": 0, "Hard": 0},
        ],
        "Privileged": False,
        "CapDrop": ["ALL"],
        "CapAdd": list(spec.capabilities),
        # Nothing about seccomp: the engine's own profile then holds. Masked and read-only paths likewise.
        "SecurityOpt": ["no-new-privileges"],
        "IpcMode": "private",
        "RestartPolicy": {"Name": "no"},
        "LogConfig": {"Type": "json-file", "Config": {"max-size": f"{spec.log_mib}m", "max-file": "1"}},
        "Init": False,
    }
    if spec.runtime:
        config["Runtime"] = spec.runtime
    if disk_quota and spec.writes_mib:
        config["StorageOpt"] = {"size": f"{spec.writes_mib}m"}
    return config


def check(spec: ContainerSpec) -> None:
    """Raises EngineRefused when the spec asks for what no container of Berth may have, wherever it comes from."""
    _require(_NAME.match(spec.name) and spec.name not in NOT_NETWORKS, "its name")
    if beyond := set(spec.capabilities) - CAPABILITIES:
        raise EngineRefused(f"capabilities that no container may have: {', '.join(sorted(map(str, beyond)))}")
    _require(
        spec.ram_mib > 0 and spec.cores >= Decimal("0.01"), "its RAM or cores: without them it would have no limit"
    )
    _require(0 < spec.pids <= MOST_PIDS, "the number of its processes")
    _require(_HOST_NAME.match(spec.hostname), "its host name")
    _require(spec.log_mib > 0, "the size of its log")
    _require(not spec.runtime or _RUNTIME.match(spec.runtime), "the node's container runtime")
    for port in spec.ports:
        _require(0 < port.container_port < 65_536 and 0 < port.node_port < 65_536, "a port")
        _require(port.protocol in {"tcp", "udp"}, "a port's protocol")
        _require(bool(port.node_address) and port.node_address not in {"0.0.0.0", "::"}, "a port's address")  # noqa: S104
    for folder in (*spec.scratch, *([spec.mount_path] if spec.mount_path else [])):
        if problem := folder_problem(folder):
            raise EngineRefused(problem)
    for key, value in spec.environment.items():
        _require(bool(key) and "=" not in key and "\0" not in f"{key}{value}", "its environment")
    if spec.volume_path is not None:
        path = spec.volume_path
        _require(posixpath.normpath(path) == path and _VOLUME_PATH.match(path), f"the folder {path} of the node")


def _require(good: object, what: str) -> None:
    if not good:
        raise EngineRefused(f"the container cannot be made: {what} is not allowed")


def _port(port: PortSpec) -> str:
    return f"{port.container_port}/{port.protocol}"


def _mounts(spec: ContainerSpec) -> list[dict[str, Any]]:
    if not spec.mount_path:
        return []
    options: dict[str, Any] = {"Labels": dict(spec.labels)}
    if spec.volume_path:
        # A volume entry and not a bare bind: the engine fills an empty one with what the image has there.
        bind = {"type": "none", "o": "bind", "device": spec.volume_path}
        options["DriverConfig"] = {"Name": "local", "Options": bind}
    source = spec.volume_name or spec.name
    return [{"Type": "volume", "Source": source, "Target": spec.mount_path, "VolumeOptions": options}]
