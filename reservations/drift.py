"""Where the machines differ from the rows: one machine after the other, each difference with what would mend it.

The one place that compares: `manage.py doctor` prints these, the page of the monitor shows them with a button, and
`drift_mending` asks again here before it touches anything. What is just being started or ended differs for a moment.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from compute import drivers, forwarding, load_steps, volumes
from compute.gateway import DNAT_CHAIN
from compute.models import Gateway, Node, StorageServer, Volume
from compute.spec import Presence
from reservations import degraded, leftovers, orphans
from reservations.models import Container, Orphan
from reservations.states import State

BY_ITSELF = "The workers mend this within a minute; manage.py reconcile does it now."
QUARANTINED = (
    "If an older backup was restored, look what it holds first; then manage.py quarantine --remove NAME --node NODE."
)


class Kind(StrEnum):
    """What differs."""

    STRAY = "stray"  # our label, and no live reservation
    QUARANTINED = "quarantined"
    LEFT_BEHIND = "left behind"  # of a reservation that has moved
    NOT_RUNNING = "not running"
    MOUNT = "mount"
    IMAGE_LEFT = "image left"
    IMAGE_UNKNOWN = "image unknown"
    VOLUME_DEGRADED = "volume degraded"
    STORED_LEFT = "stored, nobody's"
    VOLUME_MISSING = "volume missing"
    RULE_MISSING = "rule missing"
    RULE_STRANGE = "rule nobody wants"
    PLAN = "plan"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that a machine has and the rows do not, or the other way round."""

    kind: Kind
    machine: str  # node:3, gateway:1, storage:2
    where: str  # the machine's name
    subject: str  # the container, rule or volume
    sentence: str
    mend: str  # for people who have no button
    promise: int = 0  # of docs/promises.md; 0: not checked
    would: str = ""  # what the button would do, word for word; empty: no machine can mend it

    @property
    def key(self) -> str:
        """The same at each look."""
        return hashlib.sha256(f"{self.kind}|{self.machine}|{self.subject}".encode()).hexdigest()[:16]

    @property
    def can_be_mended(self) -> bool:
        return bool(self.would)


def of_node(node: Node) -> Iterator[Difference]:
    """Containers, networks, mounts and images. Raises NoAnswer, EngineRefused or CommandFailed, then or later."""
    yield from _containers(node)
    yield from _volumes(node)


def _containers(node: Node) -> Iterator[Difference]:
    engine, machine = drivers.engine(node), f"node:{node.pk}"
    seen = {observed.name: observed for observed in engine.list_ours()}
    quarantined = set(Orphan.objects.filter(node=node).exclude(quarantined_at=None).values_list("name", flat=True))
    for name in sorted(orphans.names(node, engine.list_traces())):
        if name in quarantined:
            sentence = f"{name} is quarantined: the database does not know it"
            yield Difference(Kind.QUARANTINED, machine, node.name, name, sentence, QUARANTINED, 1)
        else:
            sentence = f"{name} carries Berth's label but belongs to no live reservation"
            would = f"Remove the container, network and volume entry {name} from {node.name}"
            if orphans.unknown(name, seen.get(name)):
                would = f"Stop {name} on {node.name} and keep it there in quarantine: the database does not know it"
            yield Difference(Kind.STRAY, machine, node.name, name, sentence, BY_ITSELF, 1, would)
    for container in Container.objects.left_behind().filter(node=node, allocation__taken_at__isnull=False):
        sentence = f"{container} may still be there, and reservation {container.reservation_id} has moved"
        would = f"Remove {container} with its network and mount from {node.name}, and free its RAM and cores"
        yield Difference(Kind.LEFT_BEHIND, machine, node.name, str(container), sentence, BY_ITSELF, 1, would)
    for container in Container.objects.present().current().filter(node=node, reservation__state=State.RUNNING):
        found = seen.get(container.machine_name)
        if found is None or found.presence != Presence.RUNNING:
            number = container.reservation_id
            sentence = f"{container} should be running for reservation {number} but is not"
            would = f"Have a worker look at reservation {number} now: it starts {container} on {node.name} again"
            yield Difference(Kind.NOT_RUNNING, machine, node.name, str(container), sentence, BY_ITSELF, 1, would)


def _volumes(node: Node) -> Iterator[Difference]:
    host, machine = drivers.host(node), f"node:{node.pk}"
    if host is None:
        return
    # First what needs no answer of the node: one that is slow to give it hides nothing that is known.
    for volume in Volume.objects.filter(node=node, state=Volume.State.ATTACHED).exclude(problem=""):
        sentence = f"{volume} is degraded: {volume.problem}"
        yield Difference(Kind.VOLUME_DEGRADED, machine, node.name, str(volume), sentence, degraded.WILL_HEAL, 3)
    attached = {v.machine_name for v in Volume.objects.filter(node=node, state=Volume.State.ATTACHED)}
    for name in sorted({path.rsplit("/", 1)[-1] for path in volumes.list_mounted(host)} - attached):
        sentence = f"{name} is mounted but no live reservation uses it"
        would = f"Unmount {volumes.MOUNTED_AT}/{name} on {node.name}" if leftovers.is_ours(name) else ""
        mend = "The workers unmount it within two minutes." if would else "Look at it: its name is not one of Berth's."
        yield Difference(Kind.MOUNT, machine, node.name, name, sentence, mend, 3, would)
    local = {v.machine_name for v in Volume.objects.filter(server=None).exclude(state=Volume.State.REMOVED)}
    images = volumes.list_local(host)
    unknown = leftovers.unknown(images)
    for name in sorted(unknown):
        sentence = f"the image of {name} is there, and the database does not know it"
        yield Difference(Kind.IMAGE_UNKNOWN, machine, node.name, name, sentence, leftovers.KEEP, 3)
    left = images - unknown - local
    removed = leftovers.removed(node, left)
    for name in sorted(left):
        file = f"{volumes.ROOT}/images/{name}.img"
        would = f"Delete {file} on {node.name}: its volume was removed" if name in removed else ""
        sentence = f"the image of {name} is left on the disk"
        yield Difference(Kind.IMAGE_LEFT, machine, node.name, name, sentence, f"On {node.name}: rm {file}", 3, would)


def of_storage(server: StorageServer) -> Iterator[Difference]:
    """Its images. Raises NoAnswer or CommandFailed. Nothing on it is ever mended by a machine."""
    machine, where = f"storage:{server.pk}", server.name
    there = volumes.list_remote(drivers.storage(server), server.spec)
    rows = Volume.objects.filter(server=server).exclude(state=Volume.State.REMOVED)
    unknown = leftovers.unknown(there)
    for name in sorted(unknown):
        sentence = f"{name} is stored, and the database does not know it"
        yield Difference(Kind.IMAGE_UNKNOWN, machine, where, name, sentence, leftovers.KEEP, 3)
    for name in sorted(there - unknown - {row.machine_name for row in rows}):
        sentence, mend = f"{name} is stored but belongs to nobody", "Look at it, then remove the file."
        yield Difference(Kind.STORED_LEFT, machine, where, name, sentence, mend, 3)
    for row in rows.filter(kept=True, formatted_at__isnull=False).exclude(state=Volume.State.REMOVING):
        if row.machine_name not in there:
            sentence = f"the kept volume {row} is missing"
            yield Difference(Kind.VOLUME_MISSING, machine, where, str(row), sentence, "Restore it from a backup.", 3)


def of_gateway(gateway: Gateway) -> Iterator[Difference]:
    """Its own two chains; nothing else is looked at. Raises NoAnswer or CommandFailed."""
    if gateway.driver == Gateway.Driver.DIRECT:
        return
    machine, where = f"gateway:{gateway.pk}", gateway.name
    wanted, found = forwarding.wanted_rules(gateway), drivers.gateway(gateway).found()
    have, want = {*found.nat, *found.filter}, {*wanted.nat, *wanted.filter}
    for rule in sorted(want - have):
        would = f"On {where}: {_iptables(rule)}"
        yield Difference(Kind.RULE_MISSING, machine, where, rule, f"lacks the rule {rule}", BY_ITSELF, 2, would)
    for rule in sorted(have - want):
        would = f"On {where}: {_iptables(rule.replace('-A', '-D', 1))}"
        sentence = f"has a rule that nobody wants: {rule}"
        yield Difference(Kind.RULE_STRANGE, machine, where, rule, sentence, BY_ITSELF, 2, would)


def of_plan(now: datetime) -> Iterator[Difference]:
    """Nodes whose plan of what is lent is not the sum of their bookings."""
    ids = dict(Node.objects.values_list("name", "pk"))
    for sentence in load_steps.wrong_steps(now):
        name = sentence.split(":")[0]
        would = f"Compute the plan of {name} anew from its bookings, in the database alone"
        mend = "Run manage.py doctor --mend-plan."
        yield Difference(Kind.PLAN, f"node:{ids[name]}", name, "plan", sentence, mend, 5, would)


def _iptables(rule: str) -> str:
    return f"iptables -t {'nat' if DNAT_CHAIN in rule else 'filter'} {rule}"
