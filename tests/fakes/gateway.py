"""A Gateway in memory."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from compute.gateway import Rules
from compute.spec import ForwardSpec
from tests.fakes.trouble import Trouble


@dataclass
class FakeGateway:
    """Keeps the promises of compute.gateway.Gateway; `connections` are those that run through it."""

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

    def cut_all_but(self, forwards: Iterable[ForwardSpec], public_address: str, first: int, last: int) -> int:
        with self.trouble.during("cut_all_but"):
            ours = {
                c
                for c in self.connections
                if c.protocol == "tcp" and c.public_address == public_address and first <= c.public_port <= last
            }
            stale = ours - set(forwards)
            self.connections -= stale
            return len(stale)
