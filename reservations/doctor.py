"""Checks the promises against the machines themselves, and says in plain words what is wrong and how to mend it.

The promises and their numbers are those of docs/promises.md. What a machine does not answer is reported as not
checked, never as fine.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import Count, F, OuterRef, Q, Subquery

from compute import clocks, drivers, forwarding, guarding, health, load_steps, volumes
from compute.engine import EngineRefused, NoAnswer
from compute.models import Gateway, Node, StorageServer, Volume
from compute.shell import CommandFailed
from compute.spec import Presence
from reservations import degraded, leftovers, orphans
from reservations.models import Container, Event, Orphan, Reservation, UsagePeriod
from reservations.states import State

LATE = timedelta(seconds=60)
BY_ITSELF = "The workers mend this within a minute; manage.py reconcile does it now."
QUARANTINED = (
    "If an older backup was restored, look what it holds first; then manage.py quarantine --remove NAME --node NODE."
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that breaks a promise, or could not be checked."""

    promise: int  # 0: not checked
    where: str
    sentence: str
    mend: str


Check = Callable[[datetime], Iterator[Finding]]


def examine(now: datetime) -> list[Finding]:
    """Everything that is wrong; empty when every promise was checked and holds."""
    return [finding for check in CHECKS for finding in check(now)]


def _nodes(now: datetime) -> Iterator[Finding]:
    """Promises 1 and 3 on every node: containers, networks, mounts, volumes."""
    if health.brake(now):
        sentence = "most nodes gave no answer at once: nothing is moved and nothing is torn down meanwhile"
        yield Finding(0, "fleet", sentence, "See that this machine reaches its private network.")
    for node in Node.objects.present().exclude(disk_problem=""):
        yield Finding(5, node.name, node.disk_problem, "Make room on it; it is given nothing new until then.")
    for node in Node.objects.present():
        try:
            yield from _containers(node)
            yield from _volumes(node)
        except (NoAnswer, EngineRefused, CommandFailed) as problem:
            yield Finding(0, node.name, f"could not be checked: {problem}", "See that its engine and SSH answer.")


def _containers(node: Node) -> Iterator[Finding]:
    engine = drivers.engine(node)
    running = {seen.name for seen in engine.list_ours() if seen.presence == Presence.RUNNING}
    quarantined = set(Orphan.objects.filter(node=node).exclude(quarantined_at=None).values_list("name", flat=True))
    for name in sorted(orphans.names(node, engine.list_traces())):
        if name in quarantined:
            yield Finding(1, node.name, f"{name} is quarantined: the database does not know it", QUARANTINED)
        else:
            yield Finding(1, node.name, f"{name} carries Berth's label but belongs to no live reservation", BY_ITSELF)
    older = Container.objects.left_behind().filter(node=node)
    for container in older.filter(allocation__taken_at__isnull=False):
        sentence = f"{container} may still be there, and reservation {container.reservation_id} has moved"
        yield Finding(1, node.name, sentence, BY_ITSELF)
    for container in Container.objects.present().current().filter(node=node, reservation__state=State.RUNNING):
        if container.machine_name not in running:
            yield Finding(
                1,
                node.name,
                f"{container} should be running for reservation {container.reservation_id} but is not",
                BY_ITSELF,
            )


def _volumes(node: Node) -> Iterator[Finding]:
    host = drivers.host(node)
    if host is None:
        return
    attached = {v.machine_name for v in Volume.objects.filter(node=node, state=Volume.State.ATTACHED)}
    for name in sorted({path.rsplit("/", 1)[-1] for path in volumes.list_mounted(host)} - attached):
        yield Finding(
            3,
            node.name,
            f"{name} is mounted but no live reservation uses it",
            "The workers unmount it within two minutes.",
        )
    local = {v.machine_name for v in Volume.objects.filter(server=None).exclude(state=Volume.State.REMOVED)}
    images = volumes.list_local(host)
    unknown = leftovers.unknown(images)
    for name in sorted(unknown):
        yield Finding(3, node.name, f"the image of {name} is there, and the database does not know it", leftovers.KEEP)
    for volume in Volume.objects.filter(node=node, state=Volume.State.ATTACHED).exclude(problem=""):
        yield Finding(3, node.name, f"{volume} is degraded: {volume.problem}", degraded.WILL_HEAL)
    for name in sorted(images - unknown - local):
        yield Finding(
            3,
            node.name,
            f"the image of {name} is left on the disk",
            f"On {node.name}: rm {volumes.ROOT}/images/{name}.img",
        )


def _storage(now: datetime) -> Iterator[Finding]:
    for server in StorageServer.objects.all():
        try:
            there = volumes.list_remote(drivers.storage(server), server.spec)
        except (NoAnswer, CommandFailed) as problem:
            yield Finding(0, server.name, f"could not be checked: {problem}", "See that its sftp answers.")
            continue
        rows = Volume.objects.filter(server=server).exclude(state=Volume.State.REMOVED)
        unknown = leftovers.unknown(there)
        for name in sorted(unknown):
            yield Finding(3, server.name, f"{name} is stored, and the database does not know it", leftovers.KEEP)
        if server.problem:
            yield Finding(3, server.name, f"gets no new volumes: {server.problem}", "See that its disk has room.")
        for name in sorted(there - unknown - {row.machine_name for row in rows}):
            yield Finding(
                3, server.name, f"{name} is stored but belongs to nobody", "Look at it, then remove the file."
            )
        for row in rows.filter(kept=True, formatted_at__isnull=False).exclude(state=Volume.State.REMOVING):
            if row.machine_name not in there:
                yield Finding(3, server.name, f"the kept volume {row} is missing", "Restore it from a backup.")


def _guards(now: datetime) -> Iterator[Finding]:
    """Promise 8 where the portal does not reach: each node's own timer and firewall, its clock, the certificates."""
    for trouble in guarding.troubles(now):
        yield Finding(8 if trouble.checked else 0, trouble.where, trouble.sentence, trouble.mend)


def _gateways(now: datetime) -> Iterator[Finding]:
    for gateway in Gateway.objects.exclude(driver=Gateway.Driver.DIRECT):
        wanted = forwarding.wanted_rules(gateway)
        try:
            found = drivers.gateway(gateway).found()
        except (NoAnswer, CommandFailed) as problem:
            yield Finding(0, gateway.name, f"could not be checked: {problem}", "See that its SSH answers.")
            continue
        have, want = {*found.nat, *found.filter}, {*wanted.nat, *wanted.filter}
        for rule in sorted(want - have):
            yield Finding(2, gateway.name, f"lacks the rule {rule}", BY_ITSELF)
        for rule in sorted(have - want):
            yield Finding(2, gateway.name, f"has a rule that nobody wants: {rule}", BY_ITSELF)


def _capacity(now: datetime) -> Iterator[Finding]:
    for sentence in load_steps.wrong_steps(now):
        yield Finding(5, sentence.split(":")[0], sentence, "Run manage.py doctor --mend-plan.")
    for node in Node.objects.present():
        used = node.allocations.held().filter(taken_at__isnull=False)
        ram = sum(row.ram_mib for row in used)
        cores = sum((row.cores for row in used), Decimal(0))
        if ram > node.ram_mib or cores > node.cores:
            yield Finding(
                5,
                node.name,
                f"{ram} MiB and {cores} cores are in use, {node.ram_mib} MiB and {node.cores} are lent",
                "End something on it, or let it lend more.",
            )


def _clocks(now: datetime) -> Iterator[Finding]:
    """Promise 7: a process of the portal whose clock is off does nothing, so nothing may be left to do the work."""
    keep = "See that the time of its machine is kept (chrony, ntpd)."
    if own := clocks.problem():
        yield Finding(7, clocks.process_name, f"{own}: what goes by time is not checked rightly either", keep)
    for name, sentence in sorted(clocks.others_off().items()):
        yield Finding(7, name, sentence, keep)


def _rows(now: datetime) -> Iterator[Finding]:
    """Promises 6, 7 and 10: bills, deadlines, history."""
    for period in UsagePeriod.objects.filter(during__endswith=None).exclude(reservation__state=State.RUNNING):
        yield Finding(6, f"reservation {period.reservation_id}", "is charged although it does not run", "Report this.")
    late = Q(deadline__lt=now - LATE) | Q(look_at__lt=now - LATE)
    for row in Reservation.objects.live().filter(late):
        yield Finding(
            7,
            f"reservation {row.pk}",
            f"is {row.state} and late: {row.reason or 'nobody looked at it'}",
            "See that a worker and beat are running (/readyz).",
        )
    last = Event.objects.filter(reservation=OuterRef("pk")).exclude(new_state="").order_by("-at", "-pk")
    rows = Reservation.objects.annotate(last=Subquery(last.values("new_state")[:1])).exclude(last=F("state"))
    for row in rows[:50]:
        yield Finding(10, f"reservation {row.pk}", f"is {row.state}, but its history ends otherwise", "Report this.")
    double = Container.objects.present().values("reservation", "generation").annotate(n=Count("pk"))
    for found in double.filter(n__gt=1):
        yield Finding(1, f"reservation {found['reservation']}", "has two containers of one generation", "Report this.")


CHECKS: tuple[Check, ...] = (_clocks, _nodes, _guards, _storage, _gateways, _capacity, _rows)
