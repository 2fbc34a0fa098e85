"""Brings a container up: image, volume and network side by side, the start, the gateway's rule, the answer."""

import http.client
import logging
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import replace
from datetime import timedelta

from django.db import transaction
from django.dispatch import Signal

from accounts.permissions import role_in
from accounts.ssh_keys import lines_of
from compute import capacity, drivers, forwarding, guard, volumes
from compute.engine import ContainerEngine, EngineRefused, ImageMissing, PortTaken, RegistrySilent
from compute.failpoints import hit
from compute.models import Forward, Volume
from compute.shell import CommandFailed, NoAnswer
from compute.spec import (
    LABEL_EXPIRES_AT,
    LABEL_GENERATION,
    LABEL_KEY,
    LABEL_RESERVATION,
    LABEL_WORKSPACE,
    ContainerSpec,
    Observed,
    PortSpec,
    Presence,
)
from reservations import actions, ending, observing, options
from reservations.claims import Clock, renew
from reservations.models import Container, Endpoint, Reservation, StorageProfile
from reservations.service_rules import SSH_KEYS
from reservations.states import State
from reservations.transitions import PLATFORM, note

logger = logging.getLogger(__name__)
LOOK_AGAIN = timedelta(seconds=1)
WAIT_INLINE_S = 3.0  # most services answer within this; a slower one is looked at again, and holds no worker
PROBE_EVERY_S = 0.015
SETTLE_S = 0.05
PROGRESS_EVERY_S = 1.0

start_failed = Signal()  # reason=: one of those of `reason_of`

# Calls to a node that do not depend on each other run side by side; none of them uses the database.
_side = ThreadPoolExecutor(max_workers=24, thread_name_prefix="side")


class NodeSilent(Exception):
    """The node gave no answer: what is on it is unknown."""


class PortsTaken(Exception):
    """A stranger on the node sat on a port of ours; the reservation has other ones now."""


class MustWait(Exception):
    """Something of the previous reservation is still in the way; the message says what."""


class Hopeless(EngineRefused):
    """Trying again cannot help."""


@contextmanager
def told_failures() -> Iterator[None]:
    """Tell who counts them of starts that fail; waiting for something in the way is no failure."""
    try:
        yield
    except (NodeSilent, PortsTaken, capacity.NoCapacity, EngineRefused, CommandFailed, NoAnswer) as problem:
        start_failed.send(Reservation, reason=reason_of(problem))
        raise


def reason_of(problem: Exception) -> str:
    """Whose fault it was that a start failed, in one word."""
    reasons = (
        (NodeSilent, "node"),
        (PortsTaken, "port"),
        (capacity.NoCapacity, "capacity"),
        (Hopeless, "hopeless"),
        (EngineRefused, "refused"),
        (CommandFailed, "command"),
        (RegistrySilent, "registry"),
        (volumes.StorageSilent, "storage"),
    )
    return next((reason for kind, reason in reasons if isinstance(problem, kind)), "gateway")


@contextmanager
def _asking_the_node() -> Iterator[None]:
    try:
        yield
    except (RegistrySilent, volumes.StorageSilent):  # the node did answer, and said who did not
        raise
    except NoAnswer as problem:
        raise NodeSilent(str(problem)) from problem


def container_of(reservation: Reservation) -> Container:
    """The container row of today's generation."""
    return Container.objects.select_related("node__gateway", "allocation", "volume__server").get(
        reservation=reservation, generation=reservation.generation
    )


def _want_forwards(reservation: Reservation) -> None:
    """From now on the gateway should lead to the container; not if the customer has just ended it."""
    forwards = Forward.objects.filter(
        endpoint__reservation=reservation,
        endpoint__reservation__state=State.STARTING,
        endpoint__reservation__claim_token=reservation.claim_token,
        released_at=None,
    )
    forwards.filter(wanted=False).update(wanted=True)


def bring_up(reservation: Reservation, container: Container, clock: Clock) -> bool:
    """Do whatever is missing until the service answers; False when it does not answer yet.

    Raises NodeSilent, MustWait, PortsTaken, NoCapacity, Hopeless, EngineRefused, CommandFailed; NoAnswer for the
    gateway or the storage server.
    """
    with _asking_the_node():
        engine = drivers.engine(container.node)
        seen = engine.observe(container.machine_name)
        check_key(reservation, seen)
        if seen.presence != Presence.RUNNING:
            end = seen.labels.get(LABEL_EXPIRES_AT)
            _create(reservation, container, engine, clock, end in {None, reservation.end.isoformat()})
    # Only now: a packet that is forwarded before the container's interface is up leaves its address unresolved
    # on the node, and everybody waits a second for the next try (ARP, RFC 1122 section 2.3.2.1).
    _want_forwards(reservation)
    hit("forwards-wanted")
    _route(reservation)
    hit("forwards-applied")
    return _answers(reservation, container, engine)


def check_key(reservation: Reservation, seen: Observed) -> None:
    """Raises Hopeless when what has our name on the node is not of this reservation: ids repeat in another database."""
    if seen.presence != Presence.ABSENT and seen.labels.get(LABEL_KEY) not in {None, str(reservation.key)}:
        raise Hopeless(f"a container {seen.name} of another installation, or of an older database, is on the node")


def _create(
    reservation: Reservation, container: Container, engine: ContainerEngine, clock: Clock, label_is_right: bool
) -> None:
    _pull(reservation, engine, clock)  # before the old copy goes, so that a move interrupts for a moment only
    _remove_older(reservation, container, clock)
    volume = _volume_row(reservation, container, clock)
    hit("volume-noted")
    host = drivers.host(container.node)
    spec = _spec(reservation, container)
    network = _side.submit(copy_context().run, engine.make_network, spec)  # its log lines are of this reservation
    try:
        if volume and host:
            spec = replace(spec, volume_path=volumes.attach(host, volume.spec))
            hit("volume-attached")
            Volume.objects.filter(pk=volume.pk, formatted_at=None).update(formatted_at=clock())
        engine.create(spec)
    except ImageMissing as problem:
        raise Hopeless(str(problem)) from problem
    finally:  # whatever happens, nothing of ours goes on behind our back
        wait([network])
    network.result()
    if label_is_right and container.expires_at is None:
        Container.objects.filter(pk=container.pk).update(expires_at=reservation.end)
    elif not tell_end(reservation, container):  # its label or an earlier lease may say another end than today's
        raise MustWait("its node cannot be told its new end yet")
    hit("container-created")
    renew(reservation, clock())
    try:
        seen = engine.start(spec)
    except PortTaken as problem:
        _use_other_ports(reservation, container, clock)
        raise PortsTaken(str(problem)) from problem
    hit("container-started")
    observing.write(container, seen, clock())


def _remove_older(reservation: Reservation, container: Container, clock: Clock) -> None:
    """An older generation goes first, wherever it can be reached: it may have the same volume mounted.

    What is on a silent node goes when that answers again; multi-mount protection keeps its volume apart until then.
    """
    for older in ending.present(reservation):
        if older.generation >= container.generation or not older.node.answers:
            continue
        if older.node_id == container.node_id:
            ending.remove_container(older, clock)
            continue
        try:
            engine = drivers.engine(older.node)
            if engine.observe(older.machine_name).labels.get(LABEL_KEY) == str(reservation.key):
                engine.stop(older.machine_name, grace_s=10)
            ending.remove_container(older, clock)
        except (NoAnswer, EngineRefused, CommandFailed) as problem:  # not the fault of the node that it comes to
            raise MustWait(f"its old container on {older.node.name} cannot be removed yet") from problem


def _pull(reservation: Reservation, engine: ContainerEngine, clock: Clock) -> None:
    """Fetch the image if the node lacks it, showing how far it is; stops when the customer deletes meanwhile."""
    if engine.has_image(reservation.image):
        return
    shown = 0.0

    def show(done: int, total: int) -> None:
        nonlocal shown
        if time.monotonic() - shown >= PROGRESS_EVERY_S:
            shown = time.monotonic()
            renew(reservation, clock())
            Reservation.objects.filter(pk=reservation.pk, claim_token=reservation.claim_token).update(
                progress=min(99, 100 * done // max(total, 1))
            )

    show(0, 1)
    try:
        engine.pull(reservation.image, show)
    except ImageMissing as problem:
        raise Hopeless(str(problem)) from problem
    Reservation.objects.filter(pk=reservation.pk, claim_token=reservation.claim_token).update(progress=100)


def _volume_row(reservation: Reservation, container: Container, clock: Clock) -> Volume | None:
    """The volume of this generation, written down before anything of it is on a machine."""
    if not reservation.service.mount_path:
        return None
    if container.volume is None:
        if reservation.kept_volume:
            volume = reservation.kept_volume.volume
            others = Container.objects.present().filter(volume=volume, allocation__taken_at__isnull=False)
            if others.exclude(reservation=reservation).exists():
                raise MustWait(f"the volume {reservation.kept_volume.name} is being detached from its last reservation")
        elif reservation.storage == StorageProfile.Code.C1:
            volume = Volume(size_gb=reservation.storage_gb)
        else:
            volume = _earlier_volume(reservation) or Volume(size_gb=reservation.storage_gb)
        with transaction.atomic():
            renew(reservation, clock())  # a worker that slept through its claim, in a long pull, writes nothing
            if volume.pk:
                volume.refresh_from_db()  # it may have been read before it was attached for the first time
            elif actions.needs_host(reservation.storage):
                volume.server = actions.pick_storage(reservation.storage_gb, hold=True)
            volume.node, volume.state = container.node, Volume.State.ATTACHED
            volume.save()
            Container.objects.filter(pk=container.pk).update(volume=volume)
        container.volume = volume
    return container.volume


def _earlier_volume(reservation: Reservation) -> Volume | None:
    """The remote volume of an earlier generation, which comes along to another node."""
    return Volume.objects.filter(containers__reservation=reservation, server__isnull=False).first()


def _spec(reservation: Reservation, container: Container) -> ContainerSpec:
    service = reservation.service
    forwards = Forward.objects.filter(endpoint__reservation=reservation).order_by("pk")
    values = reservation.credentials
    try:
        # What its customer set is text as it is; what the service sets itself wins.
        known = values | {SSH_KEYS: _keys_for(reservation)}
        environment = options.as_environment(reservation.options) | {
            key: template.format(**known) for key, template in service.environment.items()
        }
        command = tuple(word.format(**values) for word in service.command)
    except KeyError as missing:
        raise Hopeless(f"its credentials cannot be read any more: there is no {missing.args[0]}") from missing
    return ContainerSpec(
        name=container.machine_name,
        image=reservation.image,
        labels={
            LABEL_RESERVATION: str(reservation.pk),
            LABEL_GENERATION: str(container.generation),
            LABEL_EXPIRES_AT: reservation.end.isoformat(),
            LABEL_WORKSPACE: str(reservation.workspace_id),
            LABEL_KEY: str(reservation.key),
        },
        ram_mib=reservation.ram_mib,
        cores=reservation.cores,
        ports=tuple(PortSpec(f.container_port, container.node.address, f.node_port) for f in forwards),
        environment=environment,
        command=command,
        capabilities=tuple(service.capabilities),
        pids=service.pids,
        writes_mib=service.writes_mib,
        hostname=f"{service.slug}-{reservation.pk}",
        read_only=service.read_only,
        scratch=tuple(service.scratch),
        runtime=container.node.runtime,
        internet=service.internet,
        mount_path=service.mount_path or None,
    )


def _keys_for(reservation: Reservation) -> str:
    """The public keys of whoever booked it, where the service takes any; of who has left its workspace none."""
    takes = any(f"{{{SSH_KEYS}}}" in template for template in reservation.service.environment.values())
    booker = reservation.created_by
    if not takes or booker is None or role_in(booker, reservation.workspace_id) is None:
        return ""
    return lines_of(booker)


def tell_end(reservation: Reservation, container: Container) -> bool:
    """See that the node knows today's end, since it stops what is past that by itself; False: it is not told yet."""
    if container.expires_at == reservation.end:
        return True
    host = drivers.host(container.node)
    if host:
        try:
            guard.write_lease(host, container.machine_name, reservation.end)
        except (NoAnswer, CommandFailed) as problem:
            logger.warning("reservation %d: its node was not told its end: %s", reservation.pk, problem)
            return False
    Container.objects.filter(pk=container.pk).update(expires_at=reservation.end)
    return True


def _route(reservation: Reservation) -> None:
    """Have the gateway's rules in place. Raises NoAnswer or CommandFailed."""
    forwards = list(Forward.objects.filter(endpoint__reservation=reservation).select_related("gateway"))
    if forwards:
        forwarding.sync(forwards[0].gateway, only_for=[forward.pk for forward in forwards])


def _answers(reservation: Reservation, container: Container, engine: ContainerEngine) -> bool:
    """Whether every port answers, waiting a little; raises EngineRefused when the container ended instead."""
    until = time.monotonic() + WAIT_INLINE_S
    waiting = list(Forward.objects.filter(endpoint__reservation=reservation))
    while True:
        waiting = [f for f in waiting if not answers(container.node.address, f.node_port, f.kind)]
        if not waiting:
            return True
        if time.monotonic() >= until:
            break
        time.sleep(PROBE_EVERY_S)
    with _asking_the_node():
        seen = engine.observe(container.machine_name)
    if seen.presence in {Presence.EXITED, Presence.ABSENT}:
        raise EngineRefused(observing.why_it_ended(seen))
    return False


def answers(address: str, port: int, kind: str, timeout_s: float = 1.0) -> bool:
    """Whether the service behind the node's port speaks: any HTTP answer, an SSH banner, or a TCP connection."""
    try:
        if kind == Forward.Kind.HTTP:
            connection = http.client.HTTPConnection(address, port, timeout=timeout_s)
            try:
                connection.request("GET", "/", headers={"User-Agent": "berth-readiness"})
                return connection.getresponse().status < 500
            finally:
                connection.close()
        with socket.create_connection((address, port), timeout=timeout_s) as connection_:
            if kind == Forward.Kind.SSH:
                return connection_.recv(4) == b"SSH-"
            return _stays_open(connection_)
    except (OSError, http.client.HTTPException):
        return False


def _stays_open(connection_: socket.socket) -> bool:
    """Docker's own proxy, where it is on, accepts first and hangs up when nobody listens behind it."""
    connection_.settimeout(SETTLE_S)
    try:
        return connection_.recv(1) != b""
    except TimeoutError:
        return True


def _use_other_ports(reservation: Reservation, container: Container, clock: Clock) -> None:
    """Take other public ports, and remove the container that could not get the old ones.

    The gateway lets go of the old ports first: they lead to whoever sits on them now. Raises as `ending.unroute`.
    """
    ending.unroute(reservation)
    drivers.engine(container.node).remove(container.machine_name, key=str(reservation.key))
    with transaction.atomic(durable=True):
        renew(reservation, clock())
        rows = Endpoint.objects.select_related("forward__gateway", "forward__node__gateway")
        endpoints = list(rows.filter(reservation=reservation))
        old = [endpoint.forward for endpoint in endpoints]
        fresh = capacity.change_ports(old, clock(), actions.port_rest())
        for endpoint, forward in zip(endpoints, fresh, strict=True):
            endpoint.forward = forward
            endpoint.save(update_fields=["forward"])
        note(
            reservation,
            "A port of the node was in use by something else; the address changed.",
            by=PLATFORM,
            now=clock(),
        )
