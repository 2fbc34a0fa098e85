"""A lab: brings its machines up, mends them, takes them down."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal as signals
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import daemons, engine, images, leftovers, network, registry, ssh, status
from .info import LabInfo, describe, lab_json
from .machine import Machine
from .machines import GATEWAY, NODES, OUTSIDE, REGISTRY, STORAGE, SWITCH, UPSTREAM, Daemon, MachineSpec, Plan
from .packages import require_programs
from .process import LabError, wait_until
from .state import Store, cache_dir, default_state_dir, write_file
from .status import LabStatus

Echo = Callable[[str], None]
#: A rule that is not Berth's, so that tests can see that such rules stay as they are.
_FOREIGN_RULE = [
    *("FORWARD", "-p", "icmp", "-m", "comment", "--comment", "not Berth's: pings may pass"),
    "-j",
    "ACCEPT",
]


class Lab:
    """The lab called `name`. Needs root. Methods raise LabError with a sentence for a person."""

    def __init__(self, name: str, state_dir: Path | str | None = None) -> None:
        self.name = name
        self.store = Store(name, Path(state_dir).resolve() if state_dir else default_state_dir())

    # Life

    def up(self, owner: str | None = None, upstream: str | None = None, echo: Echo = print) -> None:
        """Bring everything up, or mend what is down; quick when nothing is.

        `owner` is the system user who may read lab.json and the keys. `upstream` is the address of an outside registry
        to use instead of building images and starting a stand-in. Both are remembered.
        """
        _require_root()
        require_programs()
        account = _account(owner) if owner else None
        begin = time.monotonic()
        with self.store.lock(), _umask(0o022):
            self.store.create()
            self._adopt_strays()
            if (problem := engine.check_storage(self.store.directory)) is not None:
                raise LabError(problem)
            state = self.store.state
            state.owner = owner or state.owner
            state.upstream = upstream or state.upstream
            account = account or (_account(state.owner) if state.owner else None)
            if state.upstream is None:
                images.ensure(cache_dir(), echo)
            with _step(echo, "addresses, keys, certificates"):
                self._take_slot()
            if state.upstream is None:
                images.publish(cache_dir(), self.machine("upstream").root / "data/registry")
            with _step(echo, "machines"):
                self._start_machines(echo)
            self._publish(account)
        echo(f"lab {self.name} is up in {time.monotonic() - begin:.1f} s: {lab_json(self.store)}")

    def down(self, echo: Echo = print) -> None:
        """Remove all of it: processes, network, mounts, cgroups, loop devices, data. Success when there is none."""
        _require_root()
        if not self.store.state_dir.exists():
            return
        begin = time.monotonic()
        with self.store.lock():
            self._forget_everything()
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(self.store.directory)
        echo(f"lab {self.name} is down in {time.monotonic() - begin:.1f} s")

    def status(self) -> LabStatus:
        """What runs and answers at this moment; changes nothing."""
        _require_root()
        self.store.reload()
        slot = self.store.state.slot
        if slot is None:
            return LabStatus(self.name, False, ())
        plan = Plan(self.name, slot)
        switch = self.machine("switch")
        cut = network.cut_ports(switch) if switch.init else set()
        with ThreadPoolExecutor(8) as pool:
            rows = pool.map(lambda spec: status.of(Machine(spec, self.store), plan, cut), self.specs)
            return LabStatus(self.name, True, tuple(rows))

    @property
    def info(self) -> LabInfo:
        """lab.json. Raises LabError when the lab was never brought up."""
        try:
            return LabInfo.from_json(lab_json(self.store).read_text())
        except FileNotFoundError:
            raise LabError(f"there is no lab {self.name}: run `python -m lab up {self.name}`") from None

    # Work inside, and faults on purpose

    def exec(
        self,
        machine: str,
        argv: Sequence[str],
        *,
        input: str | None = None,  # noqa: A002 - named as in the subprocess module
        timeout: float = 30,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on a machine to its end. Raises CommandFailed on a time-out, and on failure if `check`."""
        return self.machine(machine).run(argv, input=input, timeout=timeout, check=check)

    def popen(
        self,
        machine: str,
        argv: Sequence[str],
        *,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> subprocess.Popen[str]:
        """Start a program on a machine; the caller ends it."""
        return self.machine(machine).popen(argv, stdin=stdin, stdout=stdout, stderr=stderr)

    def kill_daemon(self, machine: str, daemon: Daemon, signal: int = signals.SIGKILL) -> None:
        """Send the daemon a signal; after SIGKILL and SIGTERM wait until it is gone."""
        target = self.machine(machine)
        target.signal_daemon(daemon, signal)
        if signal in (signals.SIGKILL, signals.SIGTERM) and not wait_until(
            lambda: target.daemon_pid(daemon) is None, seconds=20
        ):
            raise LabError(f"{daemon} on {machine} does not end")

    def start_daemon(self, machine: str, daemon: Daemon) -> None:
        """Start it unless it runs; returns when it answers."""
        daemons.ensure(self.machine(machine), daemon, self.plan)

    def stop_machine(self, machine: str) -> None:
        """Switch it off without warning; its disks stay. Success when it is off already."""
        with self.store.lock():
            self._switch_off(self.machine(machine))

    def start_machine(self, machine: str) -> None:
        """Switch it on; returns when its daemons answer. Success when it is on already."""
        with self.store.lock(), _umask(0o022):
            self._start(self.machine(machine), self.plan)

    def reboot(self, machine: str) -> None:
        self.stop_machine(machine)
        self.start_machine(machine)

    def cut(self, machine: str) -> None:
        """Pull the machine's network cables."""
        network.set_cables(self.machine(machine), self.machine("switch"), up=False)

    def heal(self, machine: str) -> None:
        """Plug them in again."""
        network.set_cables(self.machine(machine), self.machine("switch"), up=True)

    # Parts

    @property
    def specs(self) -> tuple[MachineSpec, ...]:
        standard = (SWITCH, GATEWAY, *NODES, STORAGE, REGISTRY, OUTSIDE)
        return standard if self.store.state.upstream else (*standard, UPSTREAM)

    @property
    def plan(self) -> Plan:
        if self.store.state.slot is None:
            raise LabError(f"there is no lab {self.name}: run `python -m lab up {self.name}`")
        return Plan(self.name, self.store.state.slot)

    def machine(self, name: str) -> Machine:
        """A machine by its name; raises LabError for an unknown one."""
        for spec in self.specs:
            if spec.name == name:
                return Machine(spec, self.store)
        raise LabError(f"no machine {name!r}; there are {', '.join(spec.name for spec in self.specs)}")

    def _take_slot(self) -> None:
        """Fix the addresses, make the keys, and see that the switch runs with the host plugged in."""
        state, switch = self.store.state, self.machine("switch")
        with network.slot_lock(cache_dir()):
            if switch.init is None or state.slot is None:
                live = [machine for machine in map(self.machine, self._names()) if machine.init]
                if state.slot is not None:
                    network.remove_host_legs(self.plan)
                if state.slot is None or not live:
                    # After a reboot of the computer another lab may have taken our addresses.
                    state.slot = network.free_slot(state.slot)
                self.store.save()
                for machine in live:
                    network.pull_cards(machine)
                switch.boot()
            network.lay_switch(switch)
            for name in network.NETWORKS:
                if not network.has_host_leg(self.plan, name):
                    network.lay_host_leg(switch, self.plan, name)
        self.store.save()
        ssh.make_keys(self.store, self.plan)
        engine.make_certificates(self.store, self.plan, NODES)

    def _start_machines(self, echo: Echo) -> None:
        switch, plan = self.machine("switch"), self.plan
        cut = network.cut_ports(switch)
        names = [name for name in self._names() if name != "switch"]

        def start(name: str) -> str:
            machine = self.machine(name)
            if any(network.port_name(machine, link) in cut for link in machine.spec.links):
                network.set_cables(machine, switch, up=True)
            begin = time.monotonic()
            done = self._start(machine, plan)
            return f"  {name}: {', '.join(done)} ({time.monotonic() - begin:.1f} s)" if done else ""

        with ThreadPoolExecutor(len(names)) as pool:
            for line in pool.map(start, names):
                if line:
                    echo(line)

    def _start(self, machine: Machine, plan: Plan) -> list[str]:
        """Boot, plug in, start daemons: whatever is missing. What was done."""
        done = []
        if machine.init is None:
            self._switch_off(machine)
            self._prepare(machine, plan)
            machine.boot()
            done.append("booted")
        if not network.plugged_in(machine, plan):
            network.plug_in(machine, self.machine("switch"), plan)
            done.append("connected")
        if machine.spec is GATEWAY:
            _close_private_side(machine, plan)
            _add_foreign_rule(machine)
        for daemon in machine.spec.daemons:
            if daemons.ensure(machine, daemon, plan):
                done.append(f"{daemon} started")
        return done

    def _prepare(self, machine: Machine, plan: Plan) -> None:
        """Write the machine's own /etc and fill its disks, before it boots."""
        spec, etc = machine.spec, machine.root / "etc"
        hosts = ["127.0.0.1 localhost"]
        for other in self.specs:
            if other.links:
                hosts.append(f"{plan.listen_address(other)} {other.name}")
        write_file(etc / "hosts", "\n".join(hosts) + "\n")
        write_file(etc / "hostname", f"{spec.name}\n")
        write_file(etc / "resolv.conf", "# There is no name server in the lab.\n")
        ssh.write_accounts(etc, spec)
        if "sshd" in spec.daemons:
            ssh.write_server(etc, spec, self.store, plan)
        if "dockerd" in spec.daemons:
            engine.write_config(etc, spec, self.store, plan)
        if "registry" in spec.daemons:
            registry.write_config(etc, spec, plan)
        if spec is STORAGE:
            ssh.prepare_storage(machine.root / "data/chroot")

    def _switch_off(self, machine: Machine) -> None:
        """Kill it and remove what it leaves outside of its namespaces. Success when it is off already."""
        plan, init = self.plan, self.store.state.inits.get(machine.name)
        loops = leftovers.mounted_loop_devices(init.pid) if init is not None and init.alive() else set()
        leftovers.thaw(plan.cgroup(machine.spec))
        machine.kill()
        switch = self.machine("switch")
        if machine.name != "switch" and switch.init is not None:
            network.unplug(machine, switch)
        leftovers.remove_cgroups(plan.cgroup(machine.spec))
        leftovers.release_loop_devices(loops)
        leftovers.detach_loop_devices(leftovers.forgotten_loop_devices(machine.root))

    def _adopt_strays(self) -> None:
        """Know the machines that run again after the state file was lost, so that nothing is started twice."""
        state = self.store.state
        if state.slot is not None:
            return
        for stray in leftovers.strays(self.store.directory):
            state.slot = stray.slot
            state.inits[stray.machine] = stray.init

    def _forget_everything(self) -> None:
        self._adopt_strays()
        if self.store.state.slot is not None:
            self.store.create()
            machines = [self.machine(name) for name in self._names()]
            with ThreadPoolExecutor(len(machines)) as pool:
                list(pool.map(self._switch_off, machines[1:]))
            self._switch_off(machines[0])
            network.remove_host_legs(self.plan)
        for stray in leftovers.strays(self.store.directory):
            stray.init.kill()
            if not stray.init.wait(seconds=20):
                raise LabError(f"process {stray.init.pid} of an earlier lab does not die")

    def _names(self) -> list[str]:
        return [spec.name for spec in self.specs]

    def _publish(self, account: pwd.struct_passwd | None) -> None:
        """Write lab.json, and let the owner read it and the portal's keys."""
        path = lab_json(self.store)
        text = describe(self.store, self.plan, self.store.state.upstream).to_json()
        if not path.exists() or path.read_text() != text:
            write_file(path, text, mode=0o600)
        self.store.save()
        if account is None:
            return
        self.store.directory.chmod(0o711)
        for target in (path, self.store.portal, *self.store.portal.rglob("*")):
            os.chown(target, account.pw_uid, account.pw_gid)


def _close_private_side(gateway: Machine, plan: Plan) -> None:
    """Who comes from outside does not reach the gateway's own private address: Linux answers on any card."""
    rule = ["INPUT", "-i", "eth1", "-d", str(plan.subnet("private")), "-j", "DROP"]
    if gateway.run(["iptables", "-w", "5", "-C", *rule], check=False).returncode != 0:
        gateway.run(["iptables", "-w", "5", "-I", *rule])


def _add_foreign_rule(gateway: Machine) -> None:
    if gateway.run(["iptables", "-w", "5", "-C", *_FOREIGN_RULE], check=False).returncode != 0:
        gateway.run(["iptables", "-w", "5", "-A", *_FOREIGN_RULE])


def _require_root() -> None:
    if os.geteuid() != 0:
        raise LabError("the lab makes namespaces and mounts: run it as root")


def _account(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise LabError(f"there is no user {user!r} on this machine to own the lab's keys") from None


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    """The machines' files get the same modes whoever calls."""
    previous = os.umask(mask)
    try:
        yield
    finally:
        os.umask(previous)


@contextlib.contextmanager
def _step(echo: Echo, what: str) -> Iterator[None]:
    begin = time.monotonic()
    yield
    echo(f"{what}: {time.monotonic() - begin:.1f} s")
