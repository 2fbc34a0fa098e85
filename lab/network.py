"""The cables: a switch with a bridge per network, a veth pair per network card, and the host's two legs.

The switch is a machine of its own, so that the gateway can be switched off without unplugging everybody else, and so
that nothing of it lies in the host: both of the host's legs vanish with the switch.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import re
from collections.abc import Iterator
from pathlib import Path

from .machine import Machine
from .machines import GATEWAY, HOST_NUMBER, Link, Network, Plan
from .process import LabError, run

NETWORKS: tuple[Network, ...] = ("private", "public")
_LAST_SLOT = 254


def free_slot(preferred: int | None = None) -> int:
    """The preferred slot if nothing on the host uses its addresses, else the lowest free one."""
    routes = json.loads(run(["ip", "-json", "-4", "route", "show", "table", "all"]).stdout or "[]")
    used = [ipaddress.IPv4Network(route["dst"]) for route in routes if re.match(r"\d+\.[\d./]+$", route["dst"])]
    candidates: list[int] = [*([preferred] if preferred else []), *range(1, _LAST_SLOT + 1)]
    for slot in candidates:
        plan = Plan("", slot)
        if not any(plan.subnet(network).overlaps(other) for network in NETWORKS for other in used):
            return slot
    raise LabError("all of 10.99.0.0/16 and 198.18.0.0/16 is in use on this machine: take a lab down first")


def lay_switch(switch: Machine) -> None:
    """The switch's bridges, unless it has them."""
    for network in NETWORKS:
        if network not in _interfaces(str(switch.pid)):
            _ip(switch, [f"link add {network} type bridge"])
    _ip(switch, [f"link set {network} up" for network in NETWORKS])


def lay_host_leg(switch: Machine, plan: Plan, network: Network) -> None:
    """The host's leg in one network; an old one is replaced."""
    leg = plan.host_link(network)
    run(["ip", "link", "del", leg], check=False)
    _ip(switch, [f"link del host-{network}"], check=False)
    mac = plan.mac(network, HOST_NUMBER)
    add = f"link add {leg} address {mac} type veth peer name host-{network} netns {switch.pid}"
    run(["ip", "-batch", "-"], input=f"{add}\nlink set {leg} addrgenmode none\n")
    _ip(switch, [f"link set host-{network} master {network} up"])
    # The address comes last: it is what tells a finished leg from one that was given up half-way.
    lines = [f"link set {leg} up", f"addr add {plan.address(network, HOST_NUMBER)}/24 broadcast + dev {leg}"]
    run(["ip", "-batch", "-"], input="\n".join(lines) + "\n")


def pull_cards(machine: Machine) -> None:
    """Remove the machine's network cards whose switch died, at once instead of when the kernel gets to it."""
    run(
        [*_enter(machine), "ip", "-batch", "-force", "-"],
        input="".join(f"link del {link.interface}\n" for link in machine.spec.links),
        check=False,
    )


@contextlib.contextmanager
def slot_lock(cache: Path) -> Iterator[None]:
    """Held between looking for a free slot and using its addresses, by labs of any state directory."""
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "slots.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def has_host_leg(plan: Plan, network: Network) -> bool:
    """Whether it is there, finished."""
    return plan.host_link(network) in _interfaces("self") and _has_addresses(
        "self", [plan.address(network, HOST_NUMBER)]
    )


def plug_in(machine: Machine, switch: Machine, plan: Plan) -> None:
    """Give the machine its network cards, addresses and routes, unless it has all of them."""
    if plugged_in(machine, plan):
        return
    pull_cards(machine)
    unplug(machine, switch)
    for link in machine.spec.links:
        port, mac = port_name(machine, link), plan.mac(link.network, link.number)
        _ip(
            switch,
            [
                f"link add {port} type veth peer name {link.interface} address {mac} netns {machine.pid}",
                f"link set {port} master {link.network} up",
            ],
        )
    lines = [f"link set {link.interface} up" for link in machine.spec.links]
    # All in one go and the cables before them: a machine with its addresses is finished.
    for link in machine.spec.links:
        lines.append(f"addr add {plan.address(link.network, link.number)}/24 broadcast + dev {link.interface}")
    if machine.spec.default_route is not None:
        lines.append(f"route replace default via {plan.address(machine.spec.default_route, 1)}")
    _ip(machine, lines)


def plugged_in(machine: Machine, plan: Plan) -> bool:
    """Whether the machine has all of its network cards, with their addresses."""
    pid, links = str(machine.pid), machine.spec.links
    addresses = [plan.address(link.network, link.number) for link in links]
    return {link.interface for link in links} <= _interfaces(pid) and _has_addresses(pid, addresses)


def unplug(machine: Machine, switch: Machine) -> None:
    """Remove the switch's ends of the machine's cables at once, instead of when the kernel gets to it."""
    for link in machine.spec.links:
        # One that the kernel has not cleared away yet, or that is gone.
        _ip(switch, [f"link del {port_name(machine, link)}"], check=False)


def set_cables(machine: Machine, switch: Machine, *, up: bool) -> None:
    """Pull or plug the machine's cables at the switch; addresses and routes inside stay."""
    state = "up" if up else "down"
    _ip(switch, [f"link set {port_name(machine, link)} {state}" for link in machine.spec.links])


def cut_ports(switch: Machine) -> set[str]:
    """Names of the switch's ports that are switched off."""
    links = json.loads(run([*_enter(switch), "ip", "-json", "link", "show"]).stdout)
    return {link["ifname"] for link in links if link["ifname"] != "lo" and "UP" not in link["flags"]}


def port_name(machine: Machine, link: Link) -> str:
    """The switch's end of a cable; only the gateway has two."""
    return f"{machine.name}-{link.network[:3]}" if machine.spec is GATEWAY else machine.name


def remove_host_legs(plan: Plan) -> None:
    """Success when they are gone already."""
    for network in NETWORKS:
        if has_host_leg(plan, network):
            run(["ip", "link", "del", plan.host_link(network)], check=False)


def _interfaces(pid: str) -> set[str]:
    lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    return {line.partition(":")[0].strip() for line in lines}


def _has_addresses(pid: str, addresses: list[str]) -> bool:
    if not addresses:
        return True
    local = re.findall(r"-- (\S+)\n\s+/32 host LOCAL", Path(f"/proc/{pid}/net/fib_trie").read_text())
    return set(addresses) <= set(local)


def _enter(machine: Machine) -> list[str]:
    # Only the network: `netns PID` below counts as the host counts.
    return ["nsenter", "-t", str(machine.pid), "-n", "--"]


def _ip(machine: Machine, lines: list[str], *, check: bool = True) -> None:
    run([*_enter(machine), "ip", "-batch", "-"], input="\n".join(lines) + "\n", check=check)
