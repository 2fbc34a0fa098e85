"""What of a lab runs and answers."""

from __future__ import annotations

from dataclasses import dataclass

from . import daemons, network
from .machine import Machine
from .machines import Plan


@dataclass(frozen=True)
class MachineStatus:
    """A machine as seen now. `daemons` says of each whether it answers."""

    name: str
    address: str
    running: bool
    connected: bool
    daemons: dict[str, bool]

    @property
    def ok(self) -> bool:
        return self.running and self.connected and all(self.daemons.values())


@dataclass(frozen=True)
class LabStatus:
    name: str
    exists: bool
    machines: tuple[MachineStatus, ...]

    @property
    def ok(self) -> bool:
        return self.exists and all(machine.ok for machine in self.machines)


def of(machine: Machine, plan: Plan, cut: set[str]) -> MachineStatus:
    """What of the machine runs and answers; `cut` are the ports without a cable."""
    running = machine.init is not None
    links = machine.spec.links
    connected = (
        running
        and network.plugged_in(machine, plan)
        and not any(network.port_name(machine, link) in cut for link in links)
    )
    # Asking a machine that is cut off would only take the time of the time-outs.
    answering = {
        str(daemon): daemons.answers(machine, daemon, plan) if connected else machine.daemon_pid(daemon) is not None
        for daemon in machine.spec.daemons
    }
    address = plan.listen_address(machine.spec) if links else ""
    return MachineStatus(machine.name, address, running, connected, answering)
