"""What a customer can do: each one durable transaction, its audit row inside, hints after the commit."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, models, transaction

from accounts import audit
from accounts.models import User, Workspace
from accounts.permissions import check_user_can_book
from compute import capacity
from compute.capacity import NoCapacity, PortRequest
from compute.models import Forward, Node, StorageServer, Volume
from compute.scheduler import Request
from reservations import options, quota, secrets
from reservations.checking import LATE_START as LATE_START
from reservations.checking import Booking as Booking
from reservations.checking import InvalidBooking as InvalidBooking
from reservations.checking import check as check
from reservations.checking import image_of
from reservations.hints import hint_after_commit
from reservations.models import (
    Container,
    Endpoint,
    Event,
    IdempotencyKey,
    Reservation,
    StorageProfile,
    WorkspaceVolume,
)
from reservations.pricing import Quote, Wanted, prices
from reservations.states import State
from reservations.transitions import PLATFORM, Stale, transition

MINUTE, EPOCH = timedelta(minutes=1), datetime(1970, 1, 1, tzinfo=UTC)
IN_A_MOMENT = timedelta(seconds=5)
OFFERED = "Held for who is first in line."
VOLUME_TAKEN = "This volume is booked by another reservation at that time."


@dataclass(frozen=True, slots=True)
class Need:
    """What a booking takes: its volume's size, whether that is a new one to be kept, the place to look for, a price."""

    storage_gb: int
    keeps_new: bool
    request: Request
    quote: Quote


@dataclass(frozen=True, slots=True)
class Offer:
    """A hold for somebody who waited: until when it can be taken, and whether its time begins only then."""

    until: datetime
    starts_when_taken: bool


class OverQuota(Exception):
    """The workspace may not hold this much at once."""

    code = "quota"


class CannotAfford(Exception):
    """The workspace's budget or credit does not reach for it."""

    code = "budget"


class VolumeTaken(Exception):
    """Another reservation has the volume at that time. It is free for as long from `next_slot` on, if that is known."""

    code = "volume_taken"

    def __init__(self, next_slot: datetime | None = None) -> None:
        self.next_slot = next_slot
        super().__init__(VOLUME_TAKEN)


class VolumeInUse(Exception):
    """A live reservation has the volume, or will have it."""

    code = "in_use"


class KeyReused(Exception):
    """The Idempotency-Key came with another body before."""

    code = "idempotency_mismatch"


def book(
    *, booking: Booking, workspace: Workspace, by: User, now: datetime, once: tuple[str, str] | None = None
) -> tuple[Reservation, bool]:
    """Book it: place, ports and price are held from now on. Returns the reservation and whether it is new.

    `once` is an idempotency key and the body it came with: the same pair again returns the first reservation.
    Raises NotAllowed, InvalidBooking, OverQuota, CannotAfford, NoCapacity, VolumeTaken or KeyReused, and has written
    nothing then.
    """
    try:
        with transaction.atomic(durable=True):
            # The workspace's row first: its quota is then exact, and a repeated key waits for the first.
            workspace = Workspace.objects.select_for_update(no_key=True).get(pk=workspace.pk)
            if once and (first := earlier(by, once)):
                return first, False
            check_user_can_book(by, workspace)
            reservation = hold(booking=booking, workspace=workspace, by=by, now=now)
            if once:
                IdempotencyKey.objects.create(
                    user=by, key=once[0], fingerprint=fingerprint(once[1]), reservation=reservation
                )
            hint_after_commit(reservation.pk)
            return reservation, True
    except NoCapacity as none:
        raise none.with_next_slot() from None
    except IntegrityError as problem:
        if "reservation_volume_once" in str(problem):
            raise VolumeTaken from problem
        raise


def fingerprint(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def earlier(user: User, once: tuple[str, str]) -> Reservation | None:
    """What this idempotency key has booked already. Raises KeyReused when it came with another body then."""
    key, body = once
    found = IdempotencyKey.objects.select_related("reservation").filter(user=user, key=key).first()
    if found is None:
        return None
    if found.fingerprint != fingerprint(body):
        raise KeyReused("This Idempotency-Key was used with another body before.")
    return found.reservation


def need(
    booking: Booking,
    workspace: Workspace,
    start: datetime,
    end: datetime,
    now: datetime,
    *,
    held_until: datetime | None = None,
    copies: int = 1,
    quote: Quote | None = None,
) -> Need:
    """What the booking takes over [start, end), as a quote and the booking itself ask for it.

    With `held_until` it may begin later, by as much as that is after the end: until then the place is held and the
    prices are promised, and one length of it is paid. Whether so many `copies` may be booked is asked for all
    together; request and quote are those of one. A `quote` that was made already for [start, end) is not made again.

    Raises OverQuota, CannotAfford, or NoCapacity when no storage server has room for its volume; one of C2 gets its
    server when it starts.
    """
    profile = StorageProfile.Code(booking.storage.code)
    storage_gb = size_gb(booking)
    keeps_new = profile == StorageProfile.Code.C3 and booking.volume is None
    until = held_until or end
    kept_more_gb = storage_gb if keeps_new else 0
    if problem := quota.shortfall(workspace, holds(booking, start, until, copies), kept_more_gb, copies=copies):
        raise OverQuota(problem)
    asked = wanted(booking, workspace, start, end)
    quote = quote or prices().quote(asked)
    if until > end:
        promised = prices().quote(wanted(booking, workspace, start, until)).terms
        quote = prices().quote(asked, terms=promised, until=until)
    if problem := prices().refusal(_times(asked, copies), quote, now=now):
        raise CannotAfford(problem)
    if keeps_new or (profile == StorageProfile.Code.C2 and start <= now):
        pick_storage(storage_gb)
    request = Request(booking.size.ram_mib, booking.size.cores, start, until, needs_host(profile))
    return Need(storage_gb, keeps_new, request, quote)


def _times(asked: Wanted, copies: int) -> Wanted:
    """So many of it together."""
    return replace(
        asked, cores=asked.cores * copies, ram_mib=asked.ram_mib * copies, storage_gb=asked.storage_gb * copies
    )


def holds(booking: Booking, start: datetime, end: datetime, copies: int = 1) -> quota.Hold:
    """What it holds of its workspace's quota over [start, end), all copies together; a kept volume is not in it."""
    own_gb = 0 if booking.storage.code == StorageProfile.Code.C3 else size_gb(booking)
    return quota.Hold(start, end, booking.size.ram_mib * copies, booking.size.cores * copies, own_gb * copies)


def size_gb(booking: Booking) -> int:
    """The size of the volume that it will have."""
    return booking.volume.volume.size_gb if booking.volume else booking.storage_gb or booking.storage.default_gb


def wanted(booking: Booking, workspace: Workspace, start: datetime, end: datetime) -> Wanted:
    """What to ask the price of. A kept volume is charged by itself, whether or not something uses it."""
    kept = booking.storage.code == StorageProfile.Code.C3
    return Wanted(
        workspace_id=workspace.pk,
        cores=booking.size.cores,
        ram_mib=booking.size.ram_mib,
        storage_gb=0 if kept else size_gb(booking),
        start=start,
        end=end,
    )


def hold(
    *,
    booking: Booking,
    workspace: Workspace,
    by: User,
    now: datetime,
    exclude: Collection[int] = (),
    batch: UUID | None = None,
    offer: Offer | None = None,
) -> Reservation:
    """What `book` writes, within a transaction of the caller, who has locked the workspace's row; nobody is told.

    `exclude` are nodes that it must not be on; `batch` is that of all copies of it. With `offer` it is not booked, but
    held for `by` to take it. Raises as `book` does.
    """
    start, end = check(booking, workspace, now)
    if offer and offer.starts_when_taken:
        paid_until, end = end, end + (offer.until - start)
        place = need(booking, workspace, start, paid_until, now, held_until=end)
    else:
        place = need(booking, workspace, start, end, now)
    # Before the lock of placing: the constraint would wait for who writes the other's row, who may wait for that lock.
    check_volume(booking, start, end)
    ports = [PortRequest(port["name"], port["kind"], port["port"]) for port in booking.service.ports]
    allocation, forwards = capacity.place(place.request, ports, rest=port_rest(), exclude=exclude)
    reservation = Reservation.objects.create(
        workspace=workspace,
        created_by=by,
        name=booking.name,
        service=booking.service,
        image=image_of(booking),
        version=booking.version,
        options=options.with_defaults(booking.service.options, booking.options),
        batch=batch,
        ram_mib=booking.size.ram_mib,
        cores=booking.size.cores,
        storage=booking.storage.code,
        storage_gb=place.storage_gb,
        kept_volume=booking.volume,
        start=start,
        end=end,
        credentials=secrets.generate(booking.service.credentials),
        price=place.quote.price,
        terms=place.quote.terms,
        created_at=now,
        # A start that is due now gets its hint at once; the sweep looks only if that one was lost.
        look_at=offer.until if offer else max(start, now + IN_A_MOMENT),
        state=State.OFFERED if offer else State.BOOKED,
        deadline=offer.until if offer else None,
        starts_when_taken=bool(offer and offer.starts_when_taken),
    )
    if place.keeps_new:
        server = pick_storage(place.storage_gb, hold=True)
        volume = Volume.objects.create(size_gb=place.storage_gb, kept=True, server=server)
        reservation.kept_volume = WorkspaceVolume.objects.create(
            workspace=workspace,
            name=f"{booking.service.slug}-{reservation.pk}",
            volume=volume,
            service=booking.service,
            created_at=now,
        )
        reservation.save(update_fields=["kept_volume"])
    Container.objects.create(reservation=reservation, generation=1, node=allocation.node, allocation=allocation)
    Endpoint.objects.bulk_create(Endpoint(reservation=reservation, forward=forward) for forward in forwards)
    actor, text, deed = (PLATFORM, OFFERED, "offer") if offer else (by.username, "Booked.", "book")
    Event.objects.create(reservation=reservation, at=now, new_state=reservation.state, text=text, by=actor)
    audit.record(
        by=PLATFORM if offer else by,
        action=f"reservation.{deed}",
        target=f"reservation:{reservation.pk}",
        service=booking.service.slug,
    )
    return reservation


def check_volume(booking: Booking, start: datetime, end: datetime) -> None:
    """Raises VolumeTaken, when another reservation has its volume at some instant of [start, end)."""
    if booking.volume is None:
        return
    free, length = start, end - start
    users = Reservation.objects.live().filter(kept_volume=booking.volume.pk, end__gt=start).order_by("start")
    for begins, ends in users.values_list("start", "end"):
        if begins >= free + length:
            break
        free = ends + (MINUTE - spare if (spare := (ends - EPOCH) % MINUTE) else timedelta(0))  # as it can be typed
    if free > start:
        raise VolumeTaken(free)


def port_rest() -> timedelta:
    return timedelta(minutes=settings.BERTH_PORT_REST_MINUTES)


def needs_host(storage_code: str) -> bool:
    """Whether a node must mount something by itself, which takes more than its engine."""
    return storage_code != StorageProfile.Code.C1


def pick_storage(size_gb: int, *, hold: bool = False) -> StorageServer:
    """The well storage server with room for so much and the smallest part of its capacity promised; or NoCapacity.

    With `hold`, nobody else can promise anything of it before the caller's transaction ends.
    """
    rows = StorageServer.objects.filter(active=True)
    servers = list(rows.select_for_update(no_key=True) if hold else rows)
    if not servers:
        raise NoCapacity("No resources available: no storage server is in service.", None)
    if not (well := [server for server in servers if not server.problem]):
        raise NoCapacity("No resources available: the storage server gives no answer or is full at the moment.", None)
    sizes = Volume.objects.exclude(state=Volume.State.REMOVED).filter(server__in=well)
    promised = dict(sizes.order_by().values_list("server").annotate(models.Sum("size_gb")))
    fitting = [server for server in well if promised.get(server.pk, 0) + size_gb <= server.capacity_gb]
    if not fitting:
        raise NoCapacity(f"No resources available: no storage server has {size_gb} GB left.", None)
    return min(fitting, key=lambda server: (promised.get(server.pk, 0) / server.capacity_gb, server.name))


def delete_volume(*, volume: WorkspaceVolume, by: User, now: datetime) -> None:
    """Delete a kept volume with what is in it. It no longer counts at once; the watch round removes the image.

    Raises VolumeInUse. Deleting it a second time changes nothing.
    """
    with transaction.atomic(durable=True):
        Workspace.objects.select_for_update(no_key=True).get(pk=volume.workspace_id)  # nobody books it meanwhile
        users = Reservation.objects.live().filter(kept_volume=volume).select_related("service").order_by("start")
        if user := users.first():
            how = "is used by" if user.start <= now else "is booked for"
            raise VolumeInUse(f"{volume.name} {how} reservation {user}; delete that one first or wait for its end.")
        rows = Volume.objects.filter(pk=volume.volume_id, state__in=[Volume.State.DETACHED, Volume.State.ATTACHED])
        if rows.update(state=Volume.State.REMOVING):
            WorkspaceVolume.objects.filter(pk=volume.pk).update(deleted_at=now)
            audit.record(by=by, action="volume.delete", target=f"volume:{volume.volume_id}", name=volume.name)


def end(*, reservation: Reservation, text: str, by: object, now: datetime) -> bool:
    """End it now, in whatever state it is; whether anything changed (False: it is ending or over already)."""
    for _ in range(5):
        state = State(reservation.state)
        if state.final or state == State.ENDING:
            return False
        try:
            with transaction.atomic(durable=True):
                start_ending(reservation, text=text, by=by, now=now)
                audit.record(by=by, action="reservation.end", target=f"reservation:{reservation.pk}", text=text)
                hint_after_commit(reservation.pk)
            return True
        except Stale:  # a worker moved it in this instant: look again
            reservation.refresh_from_db()
    raise Stale(f"reservation {reservation.pk} keeps moving")


def start_ending(reservation: Reservation, *, text: str, by: object, now: datetime, **changes: Any) -> None:
    """The transition to `ending`, wherever it comes from: the gateway's rules are unwanted in the same instant.

    What runs on a node that gives no answer is paid for until its last sight, unless the caller knows better.
    """
    if reservation.state == State.RUNNING and changes.get("served_until") is None:
        changes["served_until"] = _last_sight(reservation)
    transition(reservation, State.ENDING, text=text, by=by, now=now, reason=text[:400], **changes)
    Forward.objects.filter(endpoint__reservation=reservation).unwant()


def _last_sight(reservation: Reservation) -> datetime | None:
    """When its container was last seen to run, if its node has given no answer since; else None."""
    silent = Container.objects.current().filter(
        reservation=reservation, node__health__in=[Node.Health.UNKNOWN, Node.Health.LOST]
    )
    return silent.values_list("observed_at", flat=True).first()


def wish(*, reservation: Reservation, wish: Reservation.Wish, by: User, now: datetime) -> bool:
    """Stop it (place and data are kept) or run it again; False when it is ending or over."""
    with transaction.atomic(durable=True):
        if not note_wish(reservation=reservation, wish=wish, by=by, now=now):
            return False
        hint_after_commit(reservation.pk)
    return True


def note_wish(*, reservation: Reservation, wish: Reservation.Wish, by: User, now: datetime) -> bool:
    """What `wish` writes, within a transaction of the caller; nobody is told."""
    rows = Reservation.objects.filter(pk=reservation.pk).live().exclude(state=State.ENDING)
    if not rows.update(wish=wish, look_at=now):
        return False
    audit.record(by=by, action=f"reservation.{wish}", target=f"reservation:{reservation.pk}")
    return True
