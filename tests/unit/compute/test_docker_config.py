"""Whatever a spec says, the engine is told only what a container of Berth may have."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute import docker_config
from compute.engine import EngineRefused
from compute.spec import CAPABILITIES, ContainerSpec, PortSpec
from tests.unit.compute.payload import forbidden

SPEC = ContainerSpec(
    name="berth-7-1-main",
    image="10.99.0.31:5000/library/nginx@sha256:" + "a" * 64,
    labels={"berth.reservation": "7"},
    ram_mib=256,
    cores=Decimal("0.25"),
    ports=(PortSpec(80, "10.99.0.11", 20_001),),
    capabilities=("CHOWN", "SETUID"),
    hostname="nginx-7",
    volume_path="/var/lib/berth/volumes/vol-3/data",
    mount_path="/data",
    read_only=True,
    scratch=("/run", "/scratch"),
)


def test_a_usual_container_has_nothing_forbidden() -> None:
    payload = docker_config.container(SPEC)

    assert forbidden(payload) == []
    assert payload["HostConfig"]["ReadonlyRootfs"] is True
    assert payload["HostConfig"]["Tmpfs"] == {
        "/run": "rw,nosuid,nodev,noexec,size=64m,mode=1777",
        "/scratch": "rw,nosuid,nodev,noexec,size=64m,mode=1777",
    }


def test_the_nodes_runtime_and_the_disk_quota_are_told_where_there_are_any() -> None:
    host = docker_config.host_config(replace(SPEC, runtime="runsc", writes_mib=100), disk_quota=True)

    assert (host["Runtime"], host["StorageOpt"]) == ("runsc", {"size": "100m"})
    assert not {"Runtime", "StorageOpt"} & docker_config.host_config(replace(SPEC, writes_mib=100)).keys()


@pytest.mark.parametrize(
    "values",
    [
        {"capabilities": ("NET_RAW",)},
        {"capabilities": ("SYS_ADMIN",)},
        {"capabilities": ("MKNOD",)},
        {"capabilities": ("ALL",)},
        {"capabilities": ("chown",)},
        {"volume_path": "/"},
        {"volume_path": "/var/run/docker.sock"},
        {"volume_path": "/var/lib/berth/volumes"},
        {"volume_path": "/var/lib/berth/volumes/../../../etc"},
        {"volume_path": "/var/lib/berth/volumes/vol-3/data/../.."},
        {"volume_path": "/var/lib/berth/volumes/vol-3/data\n"},
        {"volume_path": "/var/lib/berth/images"},
        {"volume_path": ""},
        {"mount_path": "/proc/sys"},
        {"mount_path": "/"},
        {"mount_path": "data"},
        {"scratch": ("/dev/x",)},
        {"scratch": ("/run:exec",)},
        {"scratch": ("/run,suid",)},
        {"scratch": ("/a/../../b",)},
        {"ram_mib": 0},
        {"ram_mib": -1},
        {"cores": Decimal(0)},
        {"pids": 0},
        {"pids": -1},
        {"log_mib": 0},
        {"runtime": "/usr/bin/evil"},
        {"runtime": "a b"},
        {"name": "../x"},
        {"hostname": "a b"},
        {"ports": (PortSpec(80, "", 20_001),)},
        {"ports": (PortSpec(80, "0.0.0.0", 20_001),)},  # noqa: S104
        {"ports": (PortSpec(80, "10.99.0.11", 0),)},
        {"ports": (PortSpec(80, "10.99.0.11", 20_001, "sctp"),)},
        {"environment": {"A=B": "c"}},
        {"environment": {"A": "b\0c"}},
    ],
)
def test_what_no_container_may_have_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(EngineRefused):
        docker_config.container(replace(SPEC, **values))


texts = st.one_of(
    st.text(max_size=30),
    st.sampled_from(["/", "..", "/etc", "/proc", "ALL", "NET_RAW", "CHOWN", "host", "a,exec", "a:rw", "\0", "\n", "="]),
)
folders = st.one_of(texts, st.lists(texts, max_size=4).map(lambda parts: "/" + "/".join(parts)))
fields: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "name": st.one_of(st.just("berth-7-1-main"), texts),
        "image": texts,
        "labels": st.dictionaries(texts, texts, max_size=3),
        "ram_mib": st.integers(-2, 4096),
        "cores": st.decimals(-1, 8, places=2),
        "ports": st.lists(
            st.builds(
                PortSpec,
                st.integers(-1, 70_000),
                st.one_of(st.just("10.99.0.11"), texts),
                st.integers(-1, 70_000),
                st.one_of(st.just("tcp"), texts),
            ),
            max_size=2,
        ).map(tuple),
        "environment": st.dictionaries(texts, texts, max_size=3),
        "command": st.lists(texts, max_size=3).map(tuple),
        "capabilities": st.lists(st.one_of(st.sampled_from(sorted(CAPABILITIES)), texts), max_size=3).map(tuple),
        "pids": st.integers(-1, 100_000),
        "log_mib": st.integers(-1, 100),
        "hostname": st.one_of(st.just("nginx-7"), texts),
        "volume_path": st.one_of(st.none(), st.just("/var/lib/berth/volumes/vol-3/data"), folders),
        "mount_path": st.one_of(st.none(), st.just("/data"), folders),
        "read_only": st.booleans(),
        "scratch": st.lists(st.one_of(st.just("/scratch"), folders), max_size=3).map(tuple),
        "runtime": st.one_of(st.just(""), texts),
        "internet": st.booleans(),
        "writes_mib": st.integers(0, 10_000),
    },
)


@given(fields, st.booleans())
def test_whatever_a_spec_says_it_is_refused_or_has_nothing_forbidden(values: dict[str, Any], quota: bool) -> None:
    try:
        payload = docker_config.container(replace(SPEC, **values), disk_quota=quota)
    except EngineRefused:
        return
    assert forbidden(payload) == []


@given(st.from_regex(r"berth-[0-9]{1,12}-[0-9]{1,4}-main", fullmatch=True), st.booleans())
def test_a_bridges_name_fits_and_tells_whether_it_leads_to_the_internet(name: str, internet: bool) -> None:
    made = docker_config.network(replace(SPEC, name=name, internet=internet))
    bridge = made["Options"]["com.docker.network.bridge.name"]

    assert len(bridge) == 14 <= 15
    assert bridge.startswith("bi" if internet else "bx")
    assert bridge != docker_config.bridge_name(replace(SPEC, name=name, internet=not internet))
