"""What the contract suites hold in their hands: the thing itself, and ways to look at and to disturb it from outside.

The fakes' halves are here, the lab's in `real`.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Protocol

from compute import gateway as gateways
from compute.engine import ContainerEngine
from compute.spec import ForwardSpec
from tests.fakes import FakeEngine, FakeGateway


class EngineBench(Protocol):
    """An engine on a node at `address`; `image` can be pulled. `names` are removed at the end."""

    engine: ContainerEngine
    image: str
    address: str
    names: list[str]

    def put_stranger(self, name: str) -> None:
        """A running container that Berth did not make."""

    def stranger_runs(self, name: str) -> bool: ...

    def occupy(self, port: int) -> None:
        """Something else sits on this port of the node until the end of the test."""

    def lose_container(self, name: str) -> None:
        """The container alone goes; its network and volume entry stay."""

    def say(self, name: str, *lines: str, error: bool = False) -> None:
        """The running container writes these lines into its log."""

    def write(self, name: str, mib: int) -> None:
        """The running container writes so much on its own root file system."""

    def left(self, name: str) -> list[str]:
        """What the engine still has under this name: container, network, volume."""

    def unreachable(self) -> ContainerEngine:
        """The driver of an engine that gives no answer."""

    def clean_up(self) -> None: ...


class FakeEngineBench:
    def __init__(self) -> None:
        self.fake = FakeEngine(registry={"registry/probe@sha256:1"})
        self.engine: ContainerEngine = self.fake
        self.image = "registry/probe@sha256:1"
        self.address = "10.99.0.11"
        self.names: list[str] = []

    def put_stranger(self, name: str) -> None:
        self.fake.put_stranger(name)

    def stranger_runs(self, name: str) -> bool:
        return name in self.fake.containers

    def occupy(self, port: int) -> None:
        self.fake.strangers_ports.add((self.address, port))

    def lose_container(self, name: str) -> None:
        del self.fake.containers[name]

    def say(self, name: str, *lines: str, error: bool = False) -> None:
        self.fake.write_log(name, *lines, error=error)

    def write(self, name: str, mib: int) -> None:
        self.fake.written[name] = mib

    def left(self, name: str) -> list[str]:
        kept = {
            "container": self.fake.containers.keys(),
            "network": self.fake.networks,
            "volume": self.fake.volumes,
        }
        return [kind for kind, names in kept.items() if name in names]

    def unreachable(self) -> ContainerEngine:
        self.fake.trouble.silent = True
        return self.fake

    def clean_up(self) -> None:
        self.fake.trouble.silent = False
        for name in self.names:
            self.fake.remove(name)


class GatewayBench(Protocol):
    """A gateway with nothing of Berth's on it yet; `forwards` are ports that may be tried on it."""

    gateway: gateways.Gateway
    forwards: list[ForwardSpec]
    private_subnet: str
    clients: tuple[str, str]
    """Two addresses outside from which a customer may come."""

    def everything(self) -> list[str]:
        """All rules of the gateway, as it prints them."""

    def foreign(self) -> list[str]:
        """Those that are not Berth's: what must stay byte for byte."""

    def jumps(self) -> int:
        """How many jumps lead to Berth's chains."""

    def flush(self) -> None:
        """Somebody empties all chains, jumps too."""

    def connected(self, forward: ForwardSpec, source: str = "") -> AbstractContextManager[None]:
        """While inside, a customer's connection (from `source`) runs through the forward."""

    def gets_in(self, forward: ForwardSpec, source: str) -> bool:
        """Whether a new connection from `source`, one of `clients`, reaches what listens behind the forward."""

    def listens_itself(self, forward: ForwardSpec) -> AbstractContextManager[None]:
        """While inside, something on the gateway itself listens on the forward's public port."""

    def sources(self) -> set[tuple[int, str]]:
        """The public ports that a tracked connection runs through, each with where it comes from."""

    def tracked(self) -> set[int]:
        """The public ports that a tracked connection runs through."""

    def unreachable(self) -> gateways.Gateway: ...

    def clean_up(self) -> None: ...


class FakeGatewayBench:
    def __init__(self) -> None:
        self.fake = FakeGateway()
        self.gateway: gateways.Gateway = self.fake
        self.private_subnet = "10.99.0.0/24"
        self.forwards = [ForwardSpec("198.18.0.1", 30_000 + n, "10.99.0.11", 30_000 + n) for n in range(3)]
        self.clients = ("198.18.0.100", "198.18.0.101")

    def everything(self) -> list[str]:
        return [f"jumps {self.jumps()}", *self.fake.rules.nat, *self.fake.rules.filter]

    def foreign(self) -> list[str]:
        return []

    def jumps(self) -> int:
        return 2 * self.fake.jumps

    def flush(self) -> None:
        self.fake.flush()

    @contextmanager
    def _connected(self, forward: ForwardSpec) -> Iterator[None]:
        self.fake.connections.add(forward)
        yield

    def connected(self, forward: ForwardSpec, source: str = "") -> AbstractContextManager[None]:
        return self._connected(replace(forward, sources=(source,) if source else ()))

    def gets_in(self, forward: ForwardSpec, source: str) -> bool:
        return self.fake.lets_in(source, forward.public_port)

    def listens_itself(self, forward: ForwardSpec) -> AbstractContextManager[None]:
        return nullcontext()  # what is led to a node never gets to it

    def sources(self) -> set[tuple[int, str]]:
        return {(one.public_port, source) for one in self.fake.connections for source in one.sources}

    def tracked(self) -> set[int]:
        return {forward.public_port for forward in self.fake.connections}

    def unreachable(self) -> gateways.Gateway:
        self.fake.trouble.silent = True
        return self.fake

    def clean_up(self) -> None:
        """Nothing outlives the test."""
