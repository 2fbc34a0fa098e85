"""What operators can do to the machines: each one transaction with its audit row, network calls before it."""

from collections.abc import Sequence
from decimal import Decimal
from typing import TypeVar

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from compute import audit, drivers, forwarding, guarding
from compute.engine import EngineRefused, NoAnswer
from compute.models import Gateway, Node, ObservedContainer, StorageServer
from compute.shell import CommandFailed

Machine = TypeVar("Machine", Gateway, StorageServer, Node)
_FRESH = {"node": ("engine_version", "last_seen_at")}  # seen while it was added
RAM_RESERVE = Decimal("0.10")  # of a node's RAM, kept for its own system when nothing else is said
RAM_RESERVE_LEAST_MIB = 512


class CannotAdd(Exception):
    """The machine could not be taken in; the message says why."""


class InUse(Exception):
    """Something still needs the machine."""


def add_gateway(*, gateway: Gateway, by: object) -> tuple[Gateway, bool]:
    """Take a gateway in, or bring the one of this name up to date; whether it was new."""
    _check_ssh(gateway.ssh)
    return _save_by_name(Gateway, gateway, "gateway", by)


def add_storage(*, server: StorageServer, by: object) -> tuple[StorageServer, bool]:
    """Take a storage server in, or bring the one of this name up to date; whether it was new."""
    try:
        drivers.storage(server).sftp([f"ls -1 {server.path}"])
    except (NoAnswer, CommandFailed) as problem:
        raise CannotAdd(f"The storage server {server.name} cannot be used: {problem}") from problem
    return _save_by_name(StorageServer, server, "storage", by)


def add_node(*, node: Node, by: object) -> tuple[Node, bool]:
    """Take a node in, or bring the one of this name up to date; whether it was new.

    RAM and cores are read from the engine; `node.ram_mib` or `node.cores` of 0 mean "what the engine has, less a
    reserve". Over SSH the node's guard is put there or brought up to date. Raises CannotAdd when the engine or the
    SSH target does not answer, or the guard cannot be put there.
    """
    _check_ssh(node.ssh)
    try:
        info = drivers.engine(node).info()
    except (NoAnswer, EngineRefused) as problem:
        raise CannotAdd(
            f"The node {node.name} cannot be added, since its engine cannot be used: {problem}"
        ) from problem
    host = drivers.host(node)
    if host:
        try:
            host.run(["sh", "-c", "command -v losetup mkfs.ext4 sshfs mountpoint >/dev/null"])
        except NoAnswer as problem:
            raise CannotAdd(f"The node {node.name} cannot be added: {problem}") from problem
        except CommandFailed:
            raise CannotAdd(
                f"The node {node.name} cannot be added: it lacks one of losetup, mkfs.ext4, sshfs and mountpoint"
                " (Debian: apt-get install mount e2fsprogs sshfs util-linux)"
            ) from None
    try:
        guarding.install(node)
    except (NoAnswer, CommandFailed) as problem:
        raise CannotAdd(
            f"The node {node.name} cannot be added, since its guard (the timer and firewall of its own) could not be"
            f" put there: {problem}"
        ) from problem
    reserve = max(int(info.ram_mib * RAM_RESERVE), RAM_RESERVE_LEAST_MIB)
    node.ram_mib = node.ram_mib or max(info.ram_mib - reserve, 1)
    if node.ram_mib > info.ram_mib:
        raise CannotAdd(f"The node {node.name} has {info.ram_mib} MiB of RAM; it cannot lend {node.ram_mib} MiB.")
    node.cores = node.cores or Decimal(info.cores)
    node.engine_version, node.last_seen_at = info.version[:60], timezone.now()
    return _save_by_name(Node, node, "node", by)


def check_node(node: Node) -> None:
    """Whether its row could be, before anything is done to the machine. Raises CannotAdd."""
    _check_ssh(node.ssh)
    try:
        node.full_clean(exclude=["ram_mib", "cores"], validate_unique=False, validate_constraints=False)
    except ValidationError as problem:
        raise CannotAdd(" ".join(problem.messages)) from problem


def note_enrolled(*, node: Node, steps: Sequence[str], by: object, action: str = "node.enrol") -> None:
    """Write down what was done on the machine to make it a node, or to renew its engine's certificate."""
    with transaction.atomic(durable=True):
        audit.record(by=by, action=action, target=f"node:{node.pk}", name=node.name, steps=list(steps))


def set_node_state(*, node: Node, state: Node.State, by: object) -> None:
    """Cordon, drain or put back; the same state again changes nothing."""
    with transaction.atomic(durable=True):
        if Node.objects.filter(pk=node.pk).exclude(state=state).update(state=state):
            audit.record(by=by, action=f"node.{state}", target=f"node:{node.pk}", name=node.name)


def resync_gateway(*, gateway: Gateway, by: object, dry_run: bool = False) -> forwarding.Difference:
    """Bring the gateway's rules to what the rows want; what differed before. Raises CommandFailed or NoAnswer.

    It counts as drift, as when the workers find it. Where nothing differs nothing is changed, and no row is written.
    """
    difference = forwarding.compare(gateway)
    if difference and not dry_run:
        forwarding.check(gateway, timezone.now())
        with transaction.atomic(durable=True):
            audit.record(
                by=by,
                action="gateway.resync",
                target=f"gateway:{gateway.pk}",
                name=gateway.name,
                missing=len(difference.missing),
                unwanted=len(difference.unwanted),
            )
    return difference


def remove_node(*, node: Node, by: object) -> None:
    """Take a node that nothing needs any more out of the fleet; its row stays for the history. Raises InUse."""
    with transaction.atomic(durable=True):
        row = Node.objects.select_for_update(no_key=True).get(pk=node.pk)
        held = row.allocations.held().count()
        if held:
            raise InUse(
                f"The node {row.name} still holds {held} reservations. Drain it and wait, or end them first"
                " (manage.py nodes shows them)."
            )
        row.state = Node.State.REMOVED
        row.save(update_fields=["state"])
        gone = ObservedContainer.State.GONE  # nobody will look at them again
        seen = row.observed_containers.exclude(state=gone)
        seen.update(state=gone, health=ObservedContainer.Health.NONE, changed_at=timezone.now())
        audit.record(by=by, action="node.remove", target=f"node:{row.pk}", name=row.name)


def _check_ssh(target: str) -> None:
    if target.startswith("-") or any(character.isspace() for character in target):
        raise CannotAdd("An SSH target must not begin with a dash or contain a space.")


def _save_by_name(model: type[Machine], wanted: Machine, kind: str, by: object) -> tuple[Machine, bool]:
    with transaction.atomic(durable=True):
        existing = model._default_manager.select_for_update(no_key=True).filter(name=wanted.name).first()
        if existing:
            wanted.pk, wanted._state.adding = existing.pk, False
            if isinstance(existing, Node) and isinstance(wanted, Node):
                removed = existing.state == Node.State.REMOVED
                wanted.state = Node.State.ACTIVE if removed else Node.State(existing.state)
        try:
            wanted.full_clean()
        except ValidationError as problem:
            raise CannotAdd(" ".join(problem.messages)) from problem
        if existing and _facts(existing) == _facts(wanted):
            return existing, False
        if existing:  # what the probes wrote meanwhile stays: adding a lost node again does not make it well
            wanted.save(update_fields=[*_facts(wanted).keys() - {"id"}, *_FRESH.get(kind, ())])
        else:
            wanted.save()
        audit.record(
            by=by,
            action=f"{kind}.{'change' if existing else 'add'}",
            target=f"{kind}:{wanted.pk}",
            name=wanted.name,
        )
        return wanted, not existing


def _facts(machine: Gateway | StorageServer | Node) -> dict[str, object]:
    """What an operator sets, without what the probes write."""
    seen = {
        "applied_at",
        "checked_at",
        "drift",
        "drift_total",
        "problem",
        "health",
        "health_reason",
        "failures",
    }
    seen |= {"last_seen_at", "engine_version", "containers_found", "lost_at", "probe_until"}
    seen |= {"guard_checked_at", "guard_problem", "tls_expires_at", "disk_problem"}
    return {f.attname: getattr(machine, f.attname) for f in machine._meta.concrete_fields if f.name not in seen}
