"""What may be in a create payload, written apart from the code that renders it."""

import re
from collections.abc import Callable
from typing import Any

CAPABILITIES = {
    *("CHOWN", "SETUID", "SETGID", "DAC_OVERRIDE", "FOWNER", "NET_BIND_SERVICE", "KILL"),
    *("SYS_CHROOT", "AUDIT_WRITE"),  # sshd
}
FOLDER = re.compile(r"(/[A-Za-z0-9_][A-Za-z0-9._-]*)+")
ON_NODE = re.compile(r"/var/lib/berth/volumes/vol-\d+(/data)?")


def _folder(path: Any) -> bool:
    top = str(path).split("/")[1] if "/" in str(path) else ""
    return bool(FOLDER.fullmatch(path)) and ".." not in path.split("/") and top not in {"proc", "sys", "dev"}


def _mount(mount: Any) -> bool:
    driver = mount["VolumeOptions"].get("DriverConfig")
    bind = driver is None or (
        driver["Name"] == "local"
        and driver["Options"].keys() == {"type", "o", "device"}
        and (driver["Options"]["type"], driver["Options"]["o"]) == ("none", "bind")
        and bool(ON_NODE.fullmatch(driver["Options"]["device"]))
    )
    return (
        mount.keys() == {"Type", "Source", "Target", "VolumeOptions"}
        and mount["Type"] == "volume"
        and bool(re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", mount["Source"]))
        and _folder(mount["Target"])
        and mount["VolumeOptions"].keys() <= {"Labels", "DriverConfig"}
        and bind
    )


def _binding(key: str, places: Any) -> bool:
    [place] = places
    return (
        bool(re.fullmatch(r"\d+/(tcp|udp)", key))
        and place.keys() == {"HostIp", "HostPort"}
        and place["HostIp"] not in {"", "0.0.0.0", "::"}  # noqa: S104
        and 0 < int(place["HostPort"]) < 65_536
    )


HOST_CONFIG: dict[str, Callable[[Any], bool]] = {
    "NetworkMode": lambda v: (
        bool(re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", v)) and v not in {"host", "none", "bridge", "default"}
    ),
    "PortBindings": lambda v: all(_binding(key, places) for key, places in v.items()),
    "Mounts": lambda v: len(v) <= 1 and all(map(_mount, v)),
    "Tmpfs": lambda v: all(
        _folder(path) and options == "rw,nosuid,nodev,noexec,size=64m,mode=1777" for path, options in v.items()
    ),
    "ReadonlyRootfs": lambda v: isinstance(v, bool),
    "Memory": lambda v: v >= 2**20,
    "MemorySwap": lambda v: v >= 2**20,
    "CpuPeriod": lambda v: v == 100_000,
    "CpuQuota": lambda v: v > 0,
    "PidsLimit": lambda v: 0 < v <= 32_768,
    "ShmSize": lambda v: v == 64 * 2**20,
    "OomScoreAdj": lambda v: v > 0,
    "Ulimits": lambda v: {u["Name"] for u in v} == {"nofile", "core"},
    "Privileged": lambda v: v is False,
    "CapDrop": lambda v: v == ["ALL"],
    "CapAdd": lambda v: set(v) <= CAPABILITIES,
    "SecurityOpt": lambda v: v == ["no-new-privileges"],
    "IpcMode": lambda v: v == "private",
    "RestartPolicy": lambda v: v == {"Name": "no"},
    "LogConfig": lambda v: v["Type"] == "json-file" and v["Config"].keys() == {"max-size", "max-file"},
    "Init": lambda v: v is False,
    "Runtime": lambda v: bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", v)),
    "StorageOpt": lambda v: v.keys() == {"size"} and bool(re.fullmatch(r"[1-9]\d*m", v["size"])),
}
ALWAYS = HOST_CONFIG.keys() - {"Runtime", "StorageOpt"}
BODY = {"Image", "Cmd", "Hostname", "Env", "Labels", "ExposedPorts", "HostConfig", "NetworkingConfig"}


def forbidden(payload: dict[str, Any]) -> list[str]:
    """What in the payload no container of Berth may have, or lacks; empty when it is fine."""
    host = payload["HostConfig"]
    found = [f"{key} is not known" for key in host.keys() - HOST_CONFIG.keys()]
    found += [f"{key} is missing" for key in ALWAYS - host.keys()]
    found += [
        f"{key} is {value!r}" for key, value in host.items() if key in HOST_CONFIG and not HOST_CONFIG[key](value)
    ]
    found += [f"the body has {key}" for key in payload.keys() - BODY]
    if host.get("Memory") != host.get("MemorySwap"):
        found.append("it has swap")
    networks = payload["NetworkingConfig"]["EndpointsConfig"]
    if networks != {host["NetworkMode"]: {}}:
        found.append(f"its networks are {networks}")
    return found
