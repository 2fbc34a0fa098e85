"""Which machines a lab consists of, and their addresses. Values only; nothing here touches the system."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Literal

Network = Literal["private", "public"]
Daemon = Literal["sshd", "dockerd", "registry"]

ENGINE_PORT = 2376
REGISTRY_PORT = 5000
#: The last number of the host's own addresses, the lab's management node.
HOST_NUMBER = 2


@dataclass(frozen=True)
class Link:
    """A network card: `interface` in the machine, plugged into the switch's bridge of that network."""

    network: Network
    interface: str
    number: int


@dataclass(frozen=True)
class MachineSpec:
    """What one machine is made of. `binds` maps a directory kept over a reboot to where the machine sees it."""

    name: str
    links: tuple[Link, ...] = ()
    daemons: tuple[Daemon, ...] = ()
    binds: tuple[tuple[str, str], ...] = ()
    forwards: bool = False
    default_route: Network | None = None
    ram_mib: int = 0
    cores: int = 0

    def number(self, network: Network) -> int:
        return next(link.number for link in self.links if link.network == network)


def _node(name: str, number: int, *, ram_mib: int, cores: int) -> MachineSpec:
    return MachineSpec(
        name,
        links=(Link("private", "eth0", number),),
        daemons=("sshd", "dockerd"),
        binds=(("docker", "/var/lib/docker"), ("berth", "/var/lib/berth")),
        forwards=True,
        default_route="private",
        ram_mib=ram_mib,
        cores=cores,
    )


SWITCH = MachineSpec("switch")
GATEWAY = MachineSpec(
    "gateway",
    links=(Link("private", "eth0", 1), Link("public", "eth1", 1)),
    daemons=("sshd",),
    forwards=True,
)
NODES = (
    _node("node1", 11, ram_mib=4096, cores=4),
    _node("node2", 12, ram_mib=8192, cores=8),
)
STORAGE = MachineSpec(
    "storage",
    links=(Link("private", "eth0", 21),),
    daemons=("sshd",),
    binds=(("chroot", "/var/lib/storage"),),
)
REGISTRY = MachineSpec(
    "registry",
    links=(Link("private", "eth0", 31),),
    daemons=("registry",),
    binds=(("registry", "/var/lib/registry"),),
)
OUTSIDE = MachineSpec("outside", links=(Link("public", "eth0", 100),), default_route="public")
UPSTREAM = MachineSpec(
    "upstream",
    links=(Link("public", "eth0", 50),),
    daemons=("registry",),
    binds=(("registry", "/var/lib/registry"),),
)


@dataclass(frozen=True)
class Plan:
    """The addresses of the lab in slot `slot`, 1 to 254."""

    name: str
    slot: int

    def subnet(self, network: Network) -> ipaddress.IPv4Network:
        first = "10.99" if network == "private" else "198.18"
        return ipaddress.IPv4Network(f"{first}.{self.slot}.0/24")

    def address(self, network: Network, number: int) -> str:
        return str(self.subnet(network)[number])

    def private(self, machine: MachineSpec) -> str:
        return self.address("private", machine.number("private"))

    def public(self, machine: MachineSpec) -> str:
        return self.address("public", machine.number("public"))

    def listen_address(self, machine: MachineSpec) -> str:
        """Where the machine's daemons listen: the private side if it has one."""
        link = machine.links[0]
        return self.address(link.network, link.number)

    def mac(self, network: Network, number: int) -> str:
        """Fixed, so that neighbours find a rebooted machine at once."""
        return f"02:be:{0 if network == 'private' else 1:02x}:{self.slot:02x}:00:{number:02x}"

    def host_link(self, network: Network) -> str:
        """The host's leg; at most 15 characters, made unique by the slot."""
        return f"bl{self.slot}{network[:2]}-{self.name}"[:15]

    def cgroup(self, machine: MachineSpec) -> str:
        """Name of the top-level cgroup below which the machine's containers live."""
        return f"berth-lab-{self.slot}-{self.name}-{machine.name}"
