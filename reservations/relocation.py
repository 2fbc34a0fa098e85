"""A move that an operator asks for: one reservation leaves its node, and keeps its address.

The row is the queue: what is written here is a new generation on another node, and the workers do the rest as they
do for a node that is being emptied. What cannot be moved is refused with the reason, and stays as it is.
"""

from collections.abc import Collection
from datetime import datetime

from compute import capacity, clocks, drivers, scheduler
from compute.capacity import NoCapacity
from compute.engine import EngineRefused
from compute.models import Node
from compute.scheduler import Request, Short
from compute.shell import NoAnswer
from compute.spec import Presence
from reservations import actions, claims, moving, starting
from reservations.hints import hint
from reservations.models import Container, Reservation
from reservations.states import State
from reservations.transitions import Stale


class CannotMove(Exception):
    """It stays where it is; the message says why."""


class Busy(CannotMove):
    """A worker has it in its hands at this moment: the same again may help."""


def relocate(
    *, reservation: Reservation, to: Node | None = None, lose_local_data: bool = False, by: object, now: datetime
) -> Node:
    """Have it started on another node (`to`, or the one that the scheduler picks) at the same address; that node.

    One that runs is away for the moment between its old container's end and its new one's answer, and is billed
    until it was last known to serve. Raises CannotMove, Busy, or ClockIsOff, and has changed nothing then.
    """
    clocks.require()
    claimed = claims.claim(reservation.pk, now)
    if claimed is None:
        reservation.refresh_from_db()
        raise (
            CannotMove(_over(reservation)) if not reservation.is_live else Busy("A worker is looking at it; try again.")
        )
    try:
        container = starting.container_of(claimed)
        if why_not := refusal(claimed, container, to=to, lose_local_data=lose_local_data, now=now):
            raise CannotMove(why_not)
        node = moving.move(
            claimed,
            container,
            "an operator moves it",
            now,
            served_until=_last_served(claimed, container),
            exclude=_elsewhere(container, to),
            by=by,
        )
    except NoCapacity as none:
        raise CannotMove(_no_room(to, none)) from none
    except Stale as moved:
        raise Busy("Somebody else changed it in this instant; look at it again.") from moved
    finally:
        claims.let_go(claimed.pk, claimed.claim_token)
    hint(claimed.pk)
    return node


def refusal(
    reservation: Reservation, container: Container, *, to: Node | None, lose_local_data: bool, now: datetime
) -> str:
    """Why it must not be moved, as far as the rows tell; "" when nothing speaks against it but room, perhaps."""
    here = container.node
    if not reservation.is_live or reservation.state == State.ENDING or now >= reservation.end:
        return _over(reservation)
    if container.touched and not here.answers:
        return (
            f"{here.name} gives no answer, so what is there cannot be ended first. If it stays silent, what runs on it"
            " is started elsewhere by itself."
        )
    if moving.must_stay(container) and not lose_local_data:
        return f"Its data is on the disk of {here.name} and would be lost (--lose-local-data, if that does not matter)."
    return _unfit(reservation, here, to) if to else ""


def _unfit(reservation: Reservation, here: Node, to: Node) -> str:
    """Why it cannot come to this node, whatever room that has."""
    if to.pk == here.pk:
        return f"It is on {to.name} already."
    if to.state != Node.State.ACTIVE:
        return f"{to.name} is {to.state}: it is given nothing new."
    if to.health != Node.Health.OK:
        return f"{to.name} is not in service: {to.health_reason or to.health}"
    if to.disk_problem:
        return f"{to.name} is given nothing new: {to.disk_problem}"
    if to.gateway_id != here.gateway_id:
        return f"{to.name} is behind another gateway ({to.gateway.name}), so its address would change."
    if actions.needs_host(reservation.storage) and not to.ssh:
        return f"Berth has no SSH to {to.name}, so its remote volume cannot be mounted there."
    return ""


def _over(reservation: Reservation) -> str:
    return (
        f"It is {reservation.state} already."
        if reservation.state in {"ending", "ended", "failed"}
        else "Its time is over."
    )


def _elsewhere(container: Container, to: Node | None) -> Collection[int]:
    """Every node that it must not come to: all but `to`, or those behind other gateways, where its address changes."""
    others = Node.objects.exclude(pk=to.pk) if to else Node.objects.exclude(gateway=container.node.gateway_id)
    return list(others.values_list("pk", flat=True))


def _last_served(reservation: Reservation, container: Container) -> datetime | None:
    """None if it serves at this moment; else when it was last seen to. Asks its engine. Raises CannotMove."""
    if reservation.state != State.RUNNING:
        return None
    try:
        seen = drivers.engine(container.node).observe(container.machine_name)
        starting.check_key(reservation, seen)
    except (NoAnswer, EngineRefused) as problem:
        raise CannotMove(f"{container.node.name} does not tell how its container is: {problem}") from problem
    return None if seen.presence == Presence.RUNNING else container.observed_at


def place_for(reservation: Reservation, container: Container, to: Node | None, now: datetime) -> str:
    """The node that it would come to at this moment. Nothing is held. Raises CannotMove when it fits nowhere."""
    remote = actions.needs_host(reservation.storage)
    start = max(now, reservation.start)
    request = Request(reservation.ram_mib, reservation.cores, start, reservation.end, remote)
    choice = capacity.choose(request, {container.node_id, *_elsewhere(container, to)})
    if isinstance(choice, Short):
        raise CannotMove(_no_room(to, scheduler.SENTENCES[choice]))
    return choice.name


def _no_room(to: Node | None, why: object) -> str:
    return f"{f'{to.name} has no room for it' if to else 'It fits nowhere else'}: {why}"
