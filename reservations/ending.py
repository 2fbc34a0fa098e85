"""Takes a reservation down: rule and connections first, then containers, mounts, volumes, and what was held last."""

from datetime import datetime, timedelta

from django.db import models, transaction

from accounts.models import Workspace
from compute import capacity, drivers, forwarding, volumes
from compute.engine import EngineRefused
from compute.failpoints import hit
from compute.models import Forward, Gateway, Volume
from compute.shell import CommandFailed, NoAnswer
from reservations import actions
from reservations.claims import Clock, renew
from reservations.models import Container, Endpoint, Reservation
from reservations.states import State
from reservations.transitions import PLATFORM, transition

HOLD_ON = timedelta(minutes=5)


def take_down(reservation: Reservation, clock: Clock) -> None:
    """Until nothing of it is left on any machine, seen and not supposed.

    Raises NoAnswer, EngineRefused or CommandFailed when that cannot be seen; what was done so far stays done.
    """
    trouble: list[Exception] = []
    try:
        unroute(reservation)
    except (NoAnswer, CommandFailed) as problem:
        # A gateway that does not obey may still lead to it: so that nobody is reached, what it leads to goes all the
        # same. The ports are given back only when the rule is gone.
        trouble.append(problem)
    hit("forwards-taken-away")
    for container in present(reservation):
        renew(reservation, clock())
        if container.touched and not container.node.answers:
            # Not asked again before its probe tells that it is back: a hanging one would cost a worker each time.
            trouble.append(NoAnswer(f"{container.node.name} gives no answer at the moment"))
            continue
        try:
            remove_container(container, clock)
        except (NoAnswer, EngineRefused, CommandFailed) as problem:  # one silent node must not keep the others'
            trouble.append(problem)
    if trouble:
        raise trouble[0]
    hit("containers-gone")
    _remove_volumes(reservation)
    hit("volumes-removed")


def present(reservation: Reservation) -> list[Container]:
    """The containers of any generation that may still be on a machine."""
    rows = Container.objects.select_related("reservation", "node", "allocation", "volume__server")
    return list(rows.present().filter(reservation=reservation))


def unroute(reservation: Reservation) -> None:
    """Its public ports lead nowhere any more, and what went through them is ended. Raises NoAnswer, CommandFailed."""
    forwards = Forward.objects.filter(endpoint__reservation=reservation)
    forwards.unwant()
    by_gateway: dict[int, list[int]] = {}
    for gateway_id, forward_id in forwards.values_list("gateway_id", "pk"):
        by_gateway.setdefault(gateway_id, []).append(forward_id)
    for gateway_id, ids in by_gateway.items():
        forwarding.sync(Gateway.objects.get(pk=gateway_id), only_for=ids)


def remove_container(container: Container, clock: Clock) -> None:
    """Container, network and mount off the node, then its RAM and cores are free. Raises as `take_down`."""
    if container.allocation.taken_at is not None:
        drivers.engine(container.node).remove(container.machine_name, key=str(container.reservation.key))
        hit("container-removed")
        host = drivers.host(container.node)
        volume = container.volume
        if host and volume and not _shared(container).filter(node=container.node).exists():
            if volume.server:
                volumes.detach(host, volume.spec)
            else:
                volumes.remove_local(host, volume.spec)
        hit("volume-taken-off")
    note_gone(container, clock())


def note_gone(container: Container, now: datetime) -> None:
    """The container is known to be gone: its RAM and cores are free, its volume is detached or went with it."""
    with transaction.atomic():
        capacity.release(container.allocation, now)
        Container.objects.filter(pk=container.pk).update(gone_at=now, presence="absent", observed_at=now)
        if container.volume and not _shared(container).exists():  # a newer generation may have it on another node
            state = Volume.State.DETACHED if container.volume.server else Volume.State.REMOVED
            Volume.objects.filter(pk=container.volume.pk).update(state=state, node=None)


def _shared(container: Container) -> "models.QuerySet[Container]":
    """Other containers that may still have the same volume."""
    return Container.objects.present().filter(volume=container.volume).exclude(pk=container.pk)


def _remove_volumes(reservation: Reservation) -> None:
    """Remote volumes that end with their reservation; kept ones are never touched here."""
    rows = Volume.objects.filter(containers__reservation=reservation, kept=False, server__isnull=False)
    for volume in rows.exclude(state=Volume.State.REMOVED).select_related("server").distinct():
        if volume.server:
            spec = volume.spec
            volumes.remove_remote(drivers.storage(volume.server), volume.server.spec, spec.name, spec.uuid)
            Volume.objects.filter(pk=volume.pk).update(state=Volume.State.REMOVED)


def hold_on(reservation: Reservation, now: datetime) -> None:
    """It may still be there: keep its place from being planned for somebody else."""
    for container in present(reservation):
        with transaction.atomic():
            capacity.hold_until(container.allocation, now + HOLD_ON, at_least=now + HOLD_ON / 2)


def finish(reservation: Reservation, now: datetime) -> None:
    """Give the ports back and close it, as ended or as failed."""
    with transaction.atomic(durable=True):
        note_over(reservation, now)


def note_over(reservation: Reservation, now: datetime) -> None:
    """What `finish` writes, within a transaction of the caller."""
    _give_up_unused(reservation)
    endpoints = Endpoint.objects.select_related("forward").filter(reservation=reservation)
    capacity.release_ports([endpoint.forward for endpoint in endpoints], now, actions.port_rest())
    reservation.refresh_from_db(fields=["failure"])
    transition(
        reservation,
        State.FAILED if reservation.failure else State.ENDED,
        text=reservation.failure or "Everything of it was removed.",
        by=PLATFORM,
        now=now,
        token=reservation.claim_token,
        reason=reservation.failure,
    )


def _give_up_unused(reservation: Reservation) -> None:
    """A kept volume that was never attached has nothing in it to keep: it goes, unless it is booked again."""
    if reservation.kept_volume is None:
        return
    Workspace.objects.select_for_update(no_key=True).get(pk=reservation.workspace_id)  # nobody books it meanwhile
    others = Reservation.objects.live().filter(kept_volume=reservation.kept_volume).exclude(pk=reservation.pk)
    if not others.exists():
        rows = Volume.objects.filter(pk=reservation.kept_volume.volume_id, formatted_at=None)
        rows.exclude(state=Volume.State.REMOVED).update(state=Volume.State.REMOVING)
