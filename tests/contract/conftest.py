"""Each promise of a protocol is tried on the fake and on the real thing: the same test, by parameter.

The real half uses the lab that BERTH_LAB names (default test); `-k fake` needs none.
"""

import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from compute.docker_engine import DockerEngine
from compute.engine import ContainerEngine
from compute.shell import Host, SshOptions
from compute.spec import LABEL_EXPIRES_AT, LABEL_GENERATION, LABEL_RESERVATION, LABEL_WORKSPACE, ContainerSpec
from lab import Lab
from tests.contract.benches import EngineBench, FakeEngineBench, FakeGatewayBench, GatewayBench
from tests.contract.real import RealEngineBench, RealGatewayBench
from tests.live import RunningStack

BOTH = ["fake", "real"]
MakeSpec = Callable[..., ContainerSpec]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "contract" in item.path.parts:
            item.add_marker(pytest.mark.contract)


@pytest.fixture(scope="session")
def quiet_lab(lab: Lab) -> Iterator[Lab]:
    """The lab, left to this suite: a portal that watches it would mend its rules and remove its containers."""
    stack = RunningStack(os.environ.get("BERTH_STACK", "test"))
    watching = [name for name in ("beat", "worker") if stack.status().programs.get(name) == "RUNNING"]
    if watching:
        stack.stop(*watching)
    yield lab
    if watching:
        stack.start(*watching)


@pytest.fixture(scope="session")
def ssh_options(quiet_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshOptions]:
    keys = quiet_lab.info.keys
    # A short path, which goes with the stack: the names of sockets are limited to about 100 characters.
    scratch = RunningStack(os.environ.get("BERTH_STACK", "test")).stack.layout.scratch
    control_dir = scratch / f"contract-{secrets.token_hex(3)}"
    yield SshOptions(Path(keys.ssh_key), Path(keys.known_hosts), control_dir)
    for socket in control_dir.glob("*"):
        subprocess.run(["ssh", "-O", "exit", "-o", f"ControlPath={socket}", "x"], capture_output=True, check=False)
    shutil.rmtree(control_dir, ignore_errors=True)  # a connection removes its socket a moment later


@pytest.fixture(scope="session")
def image(quiet_lab: Lab) -> str:
    """The probe image in the lab's private registry, by digest, as nodes pull it."""
    source = f"docker://{quiet_lab.info.upstream.address}/berth/probe:1"
    target = f"docker://{quiet_lab.info.registry.address}/berth/probe:1"
    flags = ["--src-tls-verify=false", "--dest-tls-verify=false"]
    subprocess.run(["skopeo", "copy", "--quiet", *flags, source, target], check=True, timeout=60)
    inspect = ["skopeo", "inspect", "--no-tags", "--tls-verify=false", "--format", "{{.Digest}}", target]
    digest = subprocess.run(inspect, check=True, timeout=60, capture_output=True, text=True).stdout.strip()
    return f"{quiet_lab.info.registry.address}/berth/probe@{digest}"


@pytest.fixture(scope="session")
def docker_engine(quiet_lab: Lab) -> DockerEngine:
    """node1's engine over mutual TLS."""
    return DockerEngine(quiet_lab.info.nodes[0].engine_url, Path(quiet_lab.info.keys.tls_dir))


@pytest.fixture(params=BOTH)
def bench(request: pytest.FixtureRequest) -> Iterator[EngineBench]:
    """An engine and what a test needs around it."""
    made: EngineBench
    if request.param == "fake":
        made = FakeEngineBench()
    else:
        engine = request.getfixturevalue("docker_engine")
        info = request.getfixturevalue("quiet_lab").info
        image = request.getfixturevalue("image")
        made = RealEngineBench(engine, Path(info.keys.tls_dir), image, info.nodes[0].address)
    yield made
    made.clean_up()


@pytest.fixture
def engine(bench: EngineBench) -> ContainerEngine:
    return bench.engine


@pytest.fixture
def make_spec(bench: EngineBench) -> MakeSpec:
    """A container of its own name at each call; the image is on the node."""

    def make(**values: Any) -> ContainerSpec:
        number = str(secrets.randbelow(10**8) + 10**8)
        labels = {
            LABEL_RESERVATION: number,
            LABEL_GENERATION: "1",
            LABEL_EXPIRES_AT: "2999-05-04T11:00:00+00:00",
            LABEL_WORKSPACE: "1",
        }
        defaults: dict[str, Any] = {
            "name": f"berth-{number}-1-contract",
            "image": bench.image,
            "labels": labels,
            "ram_mib": 64,
            "cores": Decimal("0.25"),
        }
        bench.names.append(defaults["name"])
        if not bench.engine.has_image(bench.image):
            bench.engine.pull(bench.image, lambda done, total: None)
        return ContainerSpec(**{**defaults, **values})

    return make


@pytest.fixture(params=BOTH)
def gateway_bench(request: pytest.FixtureRequest) -> Iterator[GatewayBench]:
    made: GatewayBench
    if request.param == "fake":
        made = FakeGatewayBench()
    else:
        lab: Lab = request.getfixturevalue("quiet_lab")
        made = RealGatewayBench(lab, Host(lab.info.gateway.ssh, request.getfixturevalue("ssh_options")))
    yield made
    made.clean_up()
