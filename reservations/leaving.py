"""What would become of the reservations of a node if it were emptied, or died: a preview of what `reconcile` does.

It asks the same questions in the same order as `reconcile`, `moving` and `capacity` do, of the rows as they are now;
it locks and writes nothing. What is booked, extended or ended meanwhile can turn out otherwise.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from django.db.models import QuerySet

from compute import scheduler
from compute.models import Node
from compute.room import Room
from compute.scheduler import Request, Short
from reservations import actions, moving
from reservations.models import Container, Reservation, StorageProfile
from reservations.states import LIVE, PLANNED, State


class Fate(StrEnum):
    """What becomes of a reservation."""

    MOVES = "moves"
    STAYS = "stays"  # where it is, until its end
    WAITS = "waits"  # no other node has room: it is down until one has, or its own is back
    ENDS = "ends"  # it is being taken down already


@dataclass(frozen=True, slots=True)
class Leaving:
    """What would become of one reservation."""

    reservation: Reservation
    fate: Fate
    to: str = ""  # the other node's name
    stays_until: datetime | None = None
    why_not: str = ""  # why it is not moved
    loses_data: bool = False  # what is on its local volume
    other_address: bool = False  # the other node is behind another gateway: its public ports become other ones


STAYS_WITH_DATA = "Its data is on the disk of this node."
STAYS_STOPPED = "It is stopped, and keeps its place here."
WAITS_STOPPED = "It is stopped; it is placed anew when it is started again."
ENDS = "It is ending."


def plan(node: Node, now: datetime, *, dies: bool = False) -> list[Leaving]:
    """One for each live reservation that is or will be on the node: what runs first, then by start.

    If it were emptied, or with `dies` if it were lost. Two queries. Of a node that gives no answer nothing can be
    moved off before it is lost.
    """
    return simulate(list(to_leave().filter(node=node)), now, Room.read(), dies=dies)


def plan_loss(nodes: Collection[Node], now: datetime) -> list[Leaving]:
    """The same for all nodes of these, if they were lost at once."""
    ids = {node.pk for node in nodes}
    return simulate(list(to_leave().filter(node__in=ids)), now, Room.read(), dies=True, without=ids)


@dataclass(frozen=True, slots=True)
class Survival:
    """Whether what runs on a node now would find room on the others, if that node alone were lost."""

    node: Node
    runs: int
    waits: int  # those that would find none

    @property
    def survives(self) -> bool:
        return not self.waits


def survey(now: datetime) -> list[Survival]:
    """Of every node. Three queries, whatever the number of nodes; what is booked for later is not looked at."""
    room = Room.read()
    running: dict[int, list[Request]] = {}
    rows = Container.objects.present().current().filter(reservation__state__in=[State.RUNNING, State.STARTING])
    rows = rows.filter(reservation__end__gt=now).order_by("reservation__start", "reservation")
    columns = ("node", "reservation__ram_mib", "reservation__cores", "reservation__end", "reservation__storage")
    for node_id, ram_mib, cores, end, storage in rows.values_list(*columns):
        request = Request(ram_mib, cores, now, end, actions.needs_host(storage))
        running.setdefault(node_id, []).append(request)
    nodes = Node.objects.present()
    return [Survival(node, len(some := running.get(node.pk, [])), _homeless(node, some, room)) for node in nodes]


def _homeless(node: Node, requests: Sequence[Request], room: Room) -> int:
    """How many of these find no place beside this node."""
    waits = 0
    for request in requests:
        found = room.find(request, exclude={node.pk}, any_of_equals=True)
        if found is None or not room.can_take(found.node_id, request):
            waits += 1
        else:
            room.hold(found.node_id, request, taken=True)
    room.forget()
    return waits


def to_leave() -> "QuerySet[Container]":
    """What is live on any node, with all that `simulate` asks for."""
    rows = Container.objects.present().current().filter(reservation__state__in=LIVE)
    return rows.select_related("node", "volume", "reservation__service")


def simulate(
    containers: Sequence[Container], now: datetime, room: Room, *, dies: bool, without: Collection[int] = ()
) -> list[Leaving]:
    """What becomes of these, each finding taken what those before it were given; none goes to nodes `without`."""
    decide = _if_lost if dies else _if_emptied
    room.forget()
    found = [decide(container, now, room, {container.node_id, *without}) for container in sorted(containers, key=_turn)]
    room.forget()
    return found


def _turn(container: Container) -> tuple[bool, datetime, int]:
    """What is there goes before what comes: it is looked for at once."""
    reservation = container.reservation
    return reservation.state in PLANNED, reservation.start, reservation.pk


def _if_emptied(container: Container, now: datetime, room: Room, without: Collection[int]) -> Leaving:
    reservation = container.reservation
    state = State(reservation.state)
    if state == State.ENDING or now >= reservation.end:
        return Leaving(reservation, Fate.ENDS, why_not=ENDS)
    if _stops(reservation):
        return _stays(reservation, STAYS_STOPPED)
    starts_here = state == State.STARTING or (state == State.BOOKED and reservation.start <= now)
    if moving.must_stay(container) or (starts_here and _will_have_local_volume(container)):
        return _stays(reservation, STAYS_WITH_DATA)
    found = _look_for_room(container, now, room, without, taken=state not in PLANNED or starts_here)
    return _stays(reservation, found.why_not) if found.fate == Fate.WAITS else found


def _if_lost(container: Container, now: datetime, room: Room, without: Collection[int]) -> Leaving:
    reservation = container.reservation
    state, loses = State(reservation.state), moving.must_stay(container)
    if state == State.ENDING or now >= reservation.end:
        return Leaving(reservation, Fate.ENDS, why_not=ENDS)
    if state == State.STOPPED and _stops(reservation):
        return Leaving(reservation, Fate.STAYS, stays_until=reservation.end, why_not=WAITS_STOPPED, loses_data=loses)
    return _look_for_room(container, now, room, without, taken=state not in PLANNED, loses=loses)


def _stops(reservation: Reservation) -> bool:
    """Whether it is stopped, or is about to be."""
    stops = reservation.wish == Reservation.Wish.STOP
    return stops and reservation.state in {State.STOPPED, State.RUNNING, State.STARTING}


def _will_have_local_volume(container: Container) -> bool:
    """Whether its start makes one, as `starting`: from then on it must stay."""
    reservation = container.reservation
    mounts = container.volume is None and bool(reservation.service.mount_path)
    return mounts and reservation.storage == StorageProfile.Code.C1


def _stays(reservation: Reservation, why_not: str) -> Leaving:
    return Leaving(reservation, Fate.STAYS, stays_until=reservation.end, why_not=why_not)


def _look_for_room(
    container: Container, now: datetime, room: Room, without: Collection[int], *, taken: bool, loses: bool = False
) -> Leaving:
    """As `moving.move`: the scheduler's choice among the other nodes; what is in use must be free there by now."""
    reservation = container.reservation
    start, remote = max(now, reservation.start), actions.needs_host(reservation.storage)
    request = Request(reservation.ram_mib, reservation.cores, start, reservation.end, remote)
    choice = room.choose(request, exclude=without)
    if isinstance(choice, Short):
        return Leaving(reservation, Fate.WAITS, why_not=scheduler.SENTENCES[choice], loses_data=loses)
    if taken and not room.can_take(choice.node_id, request):
        why = f"What was on {choice.name} before is not gone yet."
        return Leaving(reservation, Fate.WAITS, why_not=why, loses_data=loses)
    room.hold(choice.node_id, request, taken=taken)
    elsewhere = room.line(choice.node_id).gateway_id != container.node.gateway_id
    return Leaving(reservation, Fate.MOVES, to=choice.name, loses_data=loses, other_address=elsewhere)
