"""A Gateway in memory."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network

from compute.gateway import Rules
from compute.spec import ForwardSpec
from tests.fakes.trouble import Trouble

_FROM, _PORT, _VERDICT = r" -s (\S+) ", r" --ctorigdstport (\d+) ", r" -j (\w+)$"


@dataclass
class FakeGateway:
    """Keeps the promises of compute.gateway.Gateway.

    `connections` are those that run through it, each as its forward; the `sources` of one that matters by where it
    comes from are that one address.
    """

    name: str = "gateway"
    rules: Rules = field(default_factory=lambda: Rules((), ()))
    jumps: bool = False
    connections: set[ForwardSpec] = field(default_factory=set)
    applied: int = 0

    def __post_init__(self) -> None:
        self.trouble = Trouble(self.name)

    # ---- what a test does to it ---------------------------------------------------------------------------

    def flush(self) -> None:
        """What `iptables -F` and `-t nat -F` leave."""
        self.rules, self.jumps = Rules((), ()), False

    @property
    def open_ports(self) -> set[int]:
        """The public ports that lead somewhere."""
        return {int(line.split("--dport ")[1].split()[0]) for line in self.rules.nat} if self.jumps else set()

    def lets_in(self, source: str, public_port: int) -> bool:
        """Whether a new connection from there to the public port reaches a node, by the rules as they stand."""
        led = next((line for line in self.rules.nat if f"--dport {public_port} " in line), "")
        if not self.jumps or not led:
            return False
        node = led.rpartition(" ")[2].partition(":")[0]
        for rule in self.rules.filter:
            origin, port, verdict = (re.search(word, rule) for word in (_FROM, _PORT, _VERDICT))
            if not port or int(port[1]) != public_port or f"-d {node}/32 " not in rule or not verdict:
                continue
            if not origin or ip_address(source) in ip_network(origin[1]):
                return verdict[1] == "ACCEPT"
        return False

    # ---- compute.gateway.Gateway --------------------------------------------------------------------------

    def apply(self, rules: Rules) -> None:
        with self.trouble.during("apply"):
            self.rules, self.jumps = rules, True
            self.applied += 1

    def found(self) -> Rules:
        with self.trouble.during("found", changes=False):
            return self.rules if self.jumps else Rules((), ())

    def cut(self, forwards: Iterable[ForwardSpec]) -> None:
        with self.trouble.during("cut"):
            dead = {(f.public_address, f.public_port, f.protocol) for f in forwards}
            self.connections = {
                c for c in self.connections if (c.public_address, c.public_port, c.protocol) not in dead
            }

    def cut_strangers(self, forwards: Iterable[ForwardSpec]) -> None:
        with self.trouble.during("cut_strangers"):
            guarded = {_open_to_all(forward): forward for forward in forwards}
            self.connections -= {
                c for c in self.connections if (forward := guarded.get(_open_to_all(c))) and not _allows(forward, c)
            }

    def cut_all_but(self, forwards: Iterable[ForwardSpec], public_address: str, first: int, last: int) -> int:
        with self.trouble.during("cut_all_but"):
            ours = {
                c
                for c in self.connections
                if c.protocol == "tcp" and c.public_address == public_address and first <= c.public_port <= last
            }
            wanted = {_open_to_all(forward): forward for forward in forwards}
            stale = {c for c in ours if (to := wanted.get(_open_to_all(c))) is None or not _allows(to, c)}
            self.connections -= stale
            return len(stale)


def _open_to_all(forward: ForwardSpec) -> ForwardSpec:
    return replace(forward, sources=())


def _allows(forward: ForwardSpec, connection: ForwardSpec) -> bool:
    return not connection.sources or forward.allows(connection.sources[0])
