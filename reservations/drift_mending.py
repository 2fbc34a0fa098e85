"""Mends one difference between a machine and the rows, in the way that the rounds mend it, with their graces.

Who calls has just seen the difference (`drift`). What is nobody's is only taken away once it was noted a minute ago.
"""

from collections.abc import Callable
from datetime import datetime

from compute import drivers, forwarding, health, load_steps
from compute.models import Gateway, Node
from reservations import drift, ending, leftovers, orphans, watch
from reservations.drift import Difference, Kind
from reservations.hints import hint
from reservations.leftovers import PREFIX
from reservations.models import Container, Orphan, Reservation
from reservations.sightings import GRACE
from reservations.states import State


class NotNow(Exception):
    """Nothing was done; the message says why, and when it can be."""


def mend(found: Difference, now: datetime) -> str:
    """Do it, and say what was done. Raises NotNow; NoAnswer, EngineRefused or CommandFailed of the machine."""
    if found.kind not in MENDERS or not found.can_be_mended:
        raise NotNow(f"No machine can mend this. {found.mend}")
    if found.kind in TAKES_AWAY and health.brake(now):
        raise NotNow(
            "Most nodes gave no answer at once: nothing is taken away before they do. Look at our own network."
        )
    return MENDERS[found.kind](found, now)


def note(found: Difference, now: datetime) -> None:
    """Note what is nobody's as the rounds do, so that its grace begins with this look."""
    name = {Kind.STRAY: found.subject, Kind.MOUNT: PREFIX + found.subject, Kind.IMAGE_LEFT: PREFIX + found.subject}
    if found.kind in name and found.can_be_mended:
        _note(found, name[found.kind], now)


def _note(found: Difference, name: str, now: datetime) -> Orphan:
    row, _ = Orphan.objects.get_or_create(node=_node(found), name=name, defaults={"first_seen_at": now})
    return row


def _stray(found: Difference, now: datetime) -> str:
    row = _note(found, found.subject, now)
    engine = drivers.engine(row.node)
    seen = {observed.name: observed for observed in engine.list_ours()}.get(row.name)
    if not orphans.names(row.node, {row.name}):
        raise NotNow(f"{row.name} belongs to a reservation by now.")
    if orphans.unknown(row.name, seen):
        orphans.take_away(row, False, seen, engine, now)
        return f"Stopped {row.name} on {row.node.name} and put it into quarantine, since the database does not know it."
    _wait_for_grace(row, now)
    orphans.take_away(row, True, seen, engine, now)
    return f"Removed {row.name} from {row.node.name}."


def _left_on_disk(found: Difference, now: datetime) -> str:
    row = _note(found, PREFIX + found.subject, now)
    _wait_for_grace(row, now)
    if not leftovers.take_away(row):
        raise NotNow(f"{found.subject} on {found.where} could not be taken away: somebody uses it, or it is busy.")
    return f"Took {found.subject} away from {found.where}."


def _mount(found: Difference, now: datetime) -> str:
    row = _note(found, PREFIX + found.subject, now)
    _wait_for_grace(row, now)
    if not leftovers.unmount(row):
        raise NotNow(f"{found.subject} on {found.where} was not unmounted: somebody uses it.")
    return f"Unmounted {found.subject} on {found.where}."


def _wait_for_grace(row: Orphan, now: datetime) -> None:
    left = GRACE - (now - row.first_seen_at)
    if left.total_seconds() > 0:
        seconds = int(left.total_seconds()) + 1
        raise NotNow(
            f"{row.name.removeprefix(PREFIX)} was first seen a moment ago, and somebody may just be making it."
            f" It can be taken away in {seconds} s."
        )


def _left_behind(found: Difference, now: datetime) -> str:
    node = _node(found)
    for container in watch.left_behind(node):
        if container.machine_name == found.subject:
            ending.remove_container(container, lambda: now)
            return f"Removed {container} from {node.name}; its RAM and cores are free."
    raise NotNow(f"{found.subject} is being moved in this moment; whoever starts the new one removes it.")


def _not_running(found: Difference, now: datetime) -> str:
    running = Container.objects.present().current().filter(node=_node(found), reservation__state=State.RUNNING)
    for container in running.select_related("reservation"):
        if container.machine_name == found.subject:
            Reservation.objects.filter(pk=container.reservation_id, state=State.RUNNING).update(look_at=now)
            hint(container.reservation_id)
            return f"A worker looks at reservation {container.reservation_id} now and starts {container} again."
    raise NotNow(f"{found.subject} is not meant to run any more.")


def _rules(found: Difference, now: datetime) -> str:
    gateway = Gateway.objects.get(pk=_number(found))
    differed = forwarding.check(gateway, now)
    if any(difference.key == found.key for difference in drift.of_gateway(gateway)):
        raise NotNow(f"The rules of {gateway.name} are being applied in this moment; look again.")
    many = f"{differed} rule{'' if differed == 1 else 's'} differed"
    return f"Applied the rules of {gateway.name} anew: {many}, and they are as the database has them."


def _plan(found: Difference, now: datetime) -> str:
    node = _node(found)
    load_steps.rebuild(node)
    return f"Computed the plan of {node.name} anew from its bookings."


def _node(found: Difference) -> Node:
    return Node.objects.get(pk=_number(found))


def _number(found: Difference) -> int:
    return int(found.machine.partition(":")[2])


TAKES_AWAY = {Kind.STRAY, Kind.LEFT_BEHIND, Kind.MOUNT, Kind.IMAGE_LEFT}
MENDERS: dict[Kind, Callable[[Difference, datetime], str]] = {
    Kind.STRAY: _stray,
    Kind.LEFT_BEHIND: _left_behind,
    Kind.NOT_RUNNING: _not_running,
    Kind.MOUNT: _mount,
    Kind.IMAGE_LEFT: _left_on_disk,
    Kind.RULE_MISSING: _rules,
    Kind.RULE_STRANGE: _rules,
    Kind.PLAN: _plan,
}
