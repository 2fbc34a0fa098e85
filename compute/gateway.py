"""What a gateway must hold: rendered from the wanted forwards, pure, and applied whole by a driver.

Berth owns two chains and touches nothing else: BERTH-DNAT (nat, jumped to from PREROUTING) and BERTH-FORWARD
(filter, jumped to from FORWARD). Applying the same content twice changes nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from compute.spec import ForwardSpec

DNAT_CHAIN = "BERTH-DNAT"
FORWARD_CHAIN = "BERTH-FORWARD"


@dataclass(frozen=True, slots=True)
class Rules:
    """The whole content of Berth's chains, one rule a line as iptables-save prints it."""

    nat: tuple[str, ...]
    filter: tuple[str, ...]

    def difference(self, found: "Rules") -> int:
        """How many rules are missing, wrong or too many."""
        return len(set(self.nat) ^ set(found.nat)) + len(set(self.filter) ^ set(found.filter))


class Gateway(Protocol):
    """One way in. Every call may raise NoAnswer or CommandFailed; each is idempotent."""

    def apply(self, rules: Rules) -> None:
        """Make the chains exactly this, in one step that no packet can fall between."""

    def found(self) -> Rules:
        """What the chains hold now; empty when they do not exist."""

    def cut(self, forwards: Iterable[ForwardSpec]) -> None:
        """End the connections that still run through these forwards; none there is success."""

    def cut_strangers(self, forwards: Iterable[ForwardSpec]) -> None:
        """End the connections through these forwards from sources that they do not allow; the others stay."""

    def cut_all_but(self, forwards: Iterable[ForwardSpec], public_address: str, first: int, last: int) -> int:
        """End every forwarded TCP connection to `public_address`:[first, last] that none of `forwards` explains.

        One from a source that its forward does not allow is not explained. Others are not ours: those to the
        machine's other addresses, and those of other protocols. Returns how many were ended.
        """


def render(forwards: Iterable[ForwardSpec], private_subnet: str) -> Rules:
    """The rules for these forwards, in the order of their ports.

    From outside to the private subnet pass: answers, and new connections that this gateway forwarded itself to
    one of these node ports. Everything else to the private subnet is dropped; other traffic is left to the
    gateway's own rules.

    A forward with sources leads everybody to the node all the same, and lets pass only them: whoever is not led on
    would be the gateway's own guest, and would reach what listens there on this port. The others are dropped by a rule
    of the forward, since the last one spares who comes from the private subnet.

    Of a connection that was ended the node knows nothing and goes on sending. Where the gateway hides the nodes behind
    its own address, its first packet would begin the connection anew, from inside, and the client's would pass as
    answers. So what a node sends from the port of such a forward begins no connection in its middle.
    """
    ordered = sorted(forwards, key=lambda f: (f.public_port, f.protocol))
    nat = tuple(
        f"-A {DNAT_CHAIN} -d {f.public_address}/32 -p {f.protocol} -m {f.protocol} --dport {f.public_port}"
        f" -j DNAT --to-destination {f.node_address}:{f.node_port}"
        for f in ordered
    )
    passing = tuple(rule for f in ordered for rule in _passing(f))
    return Rules(
        nat,
        (
            f"-A {FORWARD_CHAIN} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            *passing,
            f"-A {FORWARD_CHAIN} ! -s {private_subnet} -d {private_subnet} -j DROP",
        ),
    )


def _passing(forward: ForwardSpec) -> list[str]:
    """Who may pass through a forward, and nobody else."""
    through = (
        f"-d {forward.node_address}/32 -p {forward.protocol} -m conntrack --ctstate DNAT"
        f" --ctorigdstport {forward.public_port} -m {forward.protocol} --dport {forward.node_port}"
    )
    if forward.is_open:
        return [f"-A {FORWARD_CHAIN} {through} -j ACCEPT"]
    allowed = [f"-A {FORWARD_CHAIN} -s {source} {through} -j ACCEPT" for source in forward.sources]
    return [*allowed, f"-A {FORWARD_CHAIN} {through} -j DROP", *_not_begun_anew(forward)]


def _not_begun_anew(forward: ForwardSpec) -> list[str]:
    """What the node sends of a connection that the gateway does not know is dropped."""
    if forward.protocol != "tcp":
        return []
    return [
        f"-A {FORWARD_CHAIN} -s {forward.node_address}/32 -p tcp -m conntrack --ctstate NEW"
        f" -m tcp --sport {forward.node_port} ! --tcp-flags FIN,SYN,RST,ACK SYN -j DROP"
    ]
