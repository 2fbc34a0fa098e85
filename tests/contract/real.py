"""The lab's halves of the benches: node1's Docker Engine over mutual TLS, and the gateway over SSH."""

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import docker
from docker.errors import NotFound

from compute import gateway as gateways
from compute.docker_engine import DockerEngine
from compute.engine import ContainerEngine
from compute.gateway import DNAT_CHAIN, FORWARD_CHAIN
from compute.iptables_gateway import IptablesGateway
from compute.shell import Host
from compute.spec import ForwardSpec
from lab import Lab

OURS = (DNAT_CHAIN, FORWARD_CHAIN)
LISTEN = """
import socket, sys
server = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("listening", flush=True)
sys.stdin.read()
"""
CONNECT = """
import socket, sys
source = (sys.argv[3], 0) if len(sys.argv) > 3 else None
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5, source_address=source)
print("connected", flush=True)
sys.stdin.read()
"""
TRY = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=1.5, source_address=(sys.argv[3], 0)).close()
    print("in")
except OSError as problem:
    print(problem)
"""
PYTHON = "/usr/bin/python3"


class RealEngineBench:
    def __init__(self, engine: DockerEngine, tls_dir: Path, image: str, address: str) -> None:
        self.driver, self.tls_dir = engine, tls_dir
        self.engine: ContainerEngine = engine
        self.image, self.address = image, address
        self.names: list[str] = []
        self._strangers: list[str] = []

    @property
    def api(self) -> docker.APIClient:
        """The engine's API without our driver, to look at what the driver did."""
        return self.driver._api

    def inspect(self, name: str) -> dict[str, Any]:
        return dict(self.api.inspect_container(name))

    def put_stranger(self, name: str) -> None:
        self._run(name)

    def occupy(self, port: int) -> None:
        self._run(f"stranger-on-{port}", port)

    def _run(self, name: str, port: int | None = None) -> None:
        bindings: dict[int | str, Any] = {80: (self.address, port)} if port else {}
        host_config = self.api.create_host_config(port_bindings=bindings)
        with suppress(NotFound):
            self.api.remove_container(name, force=True)
        if not self.engine.has_image(self.image):
            self.engine.pull(self.image, lambda done, total: None)
        made = self.api.create_container(self.image, name=name, ports=[80], host_config=host_config)
        self._strangers.append(made["Id"])
        self.api.start(made["Id"])

    def stranger_runs(self, name: str) -> bool:
        return bool(self.inspect(name)["State"]["Running"])

    def lose_container(self, name: str) -> None:
        self.api.remove_container(name, force=True)

    def say(self, name: str, *lines: str, error: bool = False) -> None:
        text = "".join(f"{line}\n" for line in lines)
        script = f"printf '%s' \"$0\" > /proc/1/fd/{2 if error else 1}"
        made = self.api.exec_create(name, ["sh", "-c", script, text])
        self.api.exec_start(made["Id"])

    def write(self, name: str, mib: int) -> None:
        command = ["dd", "if=/dev/zero", "of=/filled", "bs=1048576", f"count={mib}"]
        self.api.exec_start(self.api.exec_create(name, command)["Id"])

    def left(self, name: str) -> list[str]:
        looks: dict[str, Callable[[str], Any]] = {
            "container": self.api.inspect_container,
            "network": self.api.inspect_network,
            "volume": self.api.inspect_volume,
        }
        found = []
        for kind, look in looks.items():
            with suppress(NotFound):
                look(name)
                found.append(kind)
        return found

    def unreachable(self) -> ContainerEngine:
        """Port 1 of the node: nothing listens there."""
        far = DockerEngine(self.driver.url, self.tls_dir, timeout_s=2)
        far._api.base_url = f"https://{self.address}:1"
        return far

    def clean_up(self) -> None:
        for name in self.names:
            self.engine.remove(name)
        for engine_id in self._strangers:
            with suppress(NotFound):
                self.api.remove_container(engine_id, force=True, v=True)


class RealGatewayBench:
    def __init__(self, lab: Lab, host: Host) -> None:
        self.lab, self.host = lab, host
        self.gateway: gateways.Gateway = IptablesGateway(host)
        self.private_subnet = lab.info.private_subnet
        public, node = lab.info.gateway.public_address, lab.info.nodes[0].address
        # Other ports than those that a portal lends.
        self.forwards = [ForwardSpec(public, 30_000 + n, node, 30_000 + n) for n in range(3)]
        self.clients = _two_addresses(lab)
        self._listens: set[ForwardSpec] = set()
        self._before = self._save()

    def _save(self) -> str:
        """Everything, as iptables-save prints it, without counters and times."""
        text = self.lab.exec("gateway", ["iptables-save"]).stdout
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        return "".join(f"{line.split(' [')[0] if line.startswith(':') else line}\n" for line in lines)

    def everything(self) -> list[str]:
        return self._save().splitlines()

    def foreign(self) -> list[str]:
        return [line for line in self.everything() if not any(chain in line for chain in OURS)]

    def jumps(self) -> int:
        lines = ["-A PREROUTING -j BERTH-DNAT", "-A FORWARD -j BERTH-FORWARD"]
        return sum(line in lines for line in self.everything())

    def flush(self) -> None:
        # The built-in chains of the nat table, and in FORWARD only our jump: the lab has a rule of its own there.
        self.lab.exec("gateway", ["iptables", "-w", "5", "-t", "nat", "-F", "PREROUTING"])
        self.lab.exec("gateway", ["iptables", "-w", "5", "-D", "FORWARD", "-j", FORWARD_CHAIN])
        for table, chain in (("nat", DNAT_CHAIN), ("filter", FORWARD_CHAIN)):
            self.lab.exec("gateway", ["iptables", "-w", "5", "-t", table, "-F", chain])

    def connected(self, forward: ForwardSpec, source: str = "") -> AbstractContextManager[None]:
        return self._connected(forward, *([source] if source else []))

    @contextmanager
    def _connected(self, forward: ForwardSpec, *source: str) -> Iterator[None]:
        with (
            self._listening(forward),
            self._python("outside", CONNECT, forward.public_address, forward.public_port, *source),
        ):
            yield

    @contextmanager
    def _listening(self, forward: ForwardSpec) -> Iterator[None]:
        """Something listens on the node; the second one to ask for it shares the first one's."""
        if forward in self._listens:
            yield
            return
        self._listens.add(forward)
        try:
            with self._python("node1", LISTEN, forward.node_address, forward.node_port):
                yield
        finally:
            self._listens.discard(forward)

    def gets_in(self, forward: ForwardSpec, source: str) -> bool:
        argv = [PYTHON, "-c", TRY, forward.public_address, str(forward.public_port), source]
        with self._listening(forward):
            return self.lab.exec("outside", argv).stdout.strip() == "in"

    def listens_itself(self, forward: ForwardSpec) -> AbstractContextManager[None]:
        return self._python("gateway", LISTEN, "0.0.0.0", forward.public_port)  # noqa: S104 - of the lab's gateway

    def sources(self) -> set[tuple[int, str]]:
        return {
            (int(line.split("dport=")[1].split()[0]), line.split("src=")[1].split()[0]) for line in self._connections()
        }

    @contextmanager
    def _python(self, machine: str, program: str, address: str, port: int, *more: str) -> Iterator[None]:
        """The program runs there from its first line of output until the end."""
        argv = [PYTHON, "-c", program, address, str(port), *more]
        with tempfile.TemporaryFile("w+") as errors:
            process = self.lab.popen(
                machine, argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors.fileno()
            )
            with process:
                try:
                    first = process.stdout.readline() if process.stdout else ""
                    errors.seek(0)
                    assert first, f"{machine}: {errors.read()}"
                    yield
                finally:
                    process.communicate(timeout=10)  # the end of its input ends it

    def tracked(self) -> set[int]:
        return {int(line.split("dport=")[1].split()[0]) for line in self._connections()}

    def _connections(self) -> list[str]:
        listing = self.lab.exec("gateway", ["conntrack", "-L", "--dst-nat", "-p", "tcp"]).stdout
        return [line for line in listing.splitlines() if "ESTABLISHED" in line]

    def unreachable(self) -> gateways.Gateway:
        """A machine without an sshd."""
        address = self.lab.info.registry.address.split(":")[0]
        return IptablesGateway(Host(f"root@{address}", self.host.options))

    def clean_up(self) -> None:
        """The gateway as it was."""
        prefix = self.clients[1] + "/32"
        self.lab.exec("outside", ["ip", "address", "del", prefix, "dev", "eth0"], check=False)
        for chain, table in ((DNAT_CHAIN, "nat"), (FORWARD_CHAIN, "filter")):
            builtin = "PREROUTING" if table == "nat" else "FORWARD"
            iptables = ["iptables", "-w", "5", "-t", table]
            for argv in (["-D", builtin, "-j", chain], ["-F", chain], ["-X", chain]):
                self.lab.exec("gateway", [*iptables, *argv], check=False)
        if any(chain in self._before for chain in OURS):
            self.lab.exec("gateway", ["iptables-restore", "--noflush"], input=_only_ours(self._before))


def _only_ours(saved: str) -> str:
    """Berth's chains and jumps out of what iptables-save printed."""
    kept = [
        line
        for line in saved.splitlines()
        if line.startswith("*") or line == "COMMIT" or any(chain in line for chain in OURS)
    ]
    return "".join(f"{line} [0:0]\n" if line.startswith(":") else f"{line}\n" for line in kept)


def _two_addresses(lab: Lab) -> tuple[str, str]:
    """The outside client's own, and a second one that it gets for the test."""
    first = lab.info.outside.address
    second = str(IPv4Address(first) + 1)
    lab.exec("outside", ["ip", "address", "add", f"{second}/32", "dev", "eth0"], check=False)
    return first, second
