"""The waiting list, as people use it: join, take an offer or decline it, leave. `offering` makes the offers.

An offer is a reservation that is held for a while (state `offered`), so whatever counts what is booked counts it.
Each deed is one durable transaction that locks the workspace's row, then the entry's, then the offer's.
"""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import models, transaction
from django.db.models import Q

from accounts import audit
from accounts.models import User, Workspace
from accounts.permissions import check_user_can_book
from compute import capacity
from compute.capacity import NoCapacity
from compute.models import Forward, Node
from compute.scheduler import Short
from reservations import actions
from reservations.actions import Booking
from reservations.hints import hint_after_commit, hint_of_room_after_commit
from reservations.models import Container, Reservation, WaitingEntry
from reservations.pricing import Wanted, prices
from reservations.states import State
from reservations.transitions import transition

MOST_OPEN = 10  # entries of a workspace
SHOWN_FOR = timedelta(days=3)
DOUBLE_CLICK = timedelta(seconds=10)
NOT_TAKEN = "The offer has lapsed and went to the next in line."


class CannotJoin(Exception):
    """The workspace has too many entries in line."""

    code = "waiting_list_full"


class OfferOver(Exception):
    """There is no offer to be taken, or it lapsed; the message says whether the entry is still in line."""

    code = "offer_over"


def join(*, booking: Booking, workspace: Workspace, by: User, now: datetime) -> WaitingEntry:
    """Put it at the end of the line. The same again within seconds is a double click, and returns the first.

    Raises NotAllowed, InvalidBooking, CannotJoin, or NoCapacity when no node is big enough, so that it would wait in
    vain.
    """
    with transaction.atomic(durable=True):
        workspace = Workspace.objects.select_for_update(no_key=True).get(pk=workspace.pk)
        check_user_can_book(by, workspace)
        actions.check(booking, workspace, now)
        _check_size(booking)
        wish = _wish(booking, now)
        entries = WaitingEntry.objects.open().filter(workspace=workspace)
        twin = entries.filter(created_by=by, created_at__gt=now - DOUBLE_CLICK, **wish).first()
        if twin:
            return twin
        if entries.count() >= MOST_OPEN:
            raise CannotJoin(
                f"{workspace.name} has {MOST_OPEN} entries in the waiting list already; cancel one of them first."
            )
        entry = WaitingEntry.objects.create(workspace=workspace, created_by=by, created_at=now, place_at=now, **wish)
        audit.record(by=by, action="waiting.join", target=f"waiting:{entry.pk}", service=booking.service.slug)
        hint_of_room_after_commit()  # it may fit by now
        return entry


def _check_size(booking: Booking) -> None:
    big_enough = Node.objects.present().filter(ram_mib__gte=booking.size.ram_mib, cores__gte=booking.size.cores)
    if not big_enough.exists():
        raise NoCapacity(Short.TOO_BIG)


def _wish(booking: Booking, now: datetime) -> dict[str, object]:
    """The columns of what is wanted. Until an exact end, from an unknown start: as long as it would be from now on."""
    step, length = timedelta(minutes=settings.BERTH_STEP_MINUTES), booking.lasts(now)
    if booking.start is None and length % step:
        length += step - length % step
    return {
        "name": booking.name,
        "service": booking.service,
        "ram_mib": booking.size.ram_mib,
        "cores": booking.size.cores,
        "storage": booking.storage.code,
        "storage_gb": booking.storage_gb,
        "kept_volume": booking.volume,
        "start": booking.start,
        "length": length,
        "version": booking.version,
        "options": dict(booking.options),
    }


def take(*, entry: WaitingEntry, by: User, now: datetime) -> Reservation:
    """Book what is offered. Its time begins now, unless it was wanted for a time. A second time changes nothing.

    Raises OfferOver, and has changed nothing then.
    """
    with transaction.atomic(durable=True):
        row = _lock(entry)
        if row.outcome == WaitingEntry.Outcome.TAKEN and row.offer:
            return row.offer
        offer = _open_offer(row, now)
        _book(offer, row, by, now)
        close(row, WaitingEntry.Outcome.TAKEN, "", now)
        audit.record(by=by, action="waiting.take", target=f"reservation:{offer.pk}", entry=row.pk)
        hint_after_commit(offer.pk)
        return offer


def decline(*, entry: WaitingEntry, stay: bool, by: User, now: datetime) -> None:
    """Give the offer to the next in line; `stay`: and go to the end of the line, else leave it. Raises OfferOver."""
    with transaction.atomic(durable=True):
        row = _lock(entry)
        offer = _open_offer(row, now)
        _end(offer, "The offer was declined.", by, now)
        if stay:
            row.offer, row.place_at, row.reason = None, now, ""
            row.save(update_fields=["offer", "place_at", "reason"])
        else:
            close(row, WaitingEntry.Outcome.CANCELLED, "The offer was declined.", now)
        audit.record(by=by, action="waiting.decline", target=f"waiting:{row.pk}", offer=offer.pk, stays=stay)


def cancel(*, entry: WaitingEntry, by: User, now: datetime) -> bool:
    """Leave the line; an offer that it has goes to the next. False when it was closed already."""
    with transaction.atomic(durable=True):
        row = _lock(entry)
        if row.closed_at is not None:
            return False
        offer = _lock_offer(row)
        if offer and offer.state == State.OFFERED:
            _end(offer, "Its entry in the waiting list was cancelled.", by, now)
        close(row, WaitingEntry.Outcome.CANCELLED, f"Cancelled by {by.username}.", now)
        audit.record(by=by, action="waiting.cancel", target=f"waiting:{row.pk}")
        return True


def _lock(entry: WaitingEntry) -> WaitingEntry:
    Workspace.objects.select_for_update(no_key=True).get(pk=entry.workspace_id)
    return WaitingEntry.objects.select_for_update(of=("self",), no_key=True).select_related("offer").get(pk=entry.pk)


def _lock_offer(row: WaitingEntry) -> Reservation | None:
    """As it is now: a worker may have it in its hands, whose write is waited for."""
    if row.offer_id is None:
        return None
    return Reservation.objects.select_for_update(no_key=True).filter(pk=row.offer_id).first()


def _open_offer(row: WaitingEntry, now: datetime) -> Reservation:
    """The entry's offer, which can be taken now. Raises OfferOver."""
    if row.closed_at is not None:
        raise OfferOver(f"This is not in the waiting list any more. {row.reason}".strip())
    offer = _lock_offer(row)
    if offer is None:
        raise OfferOver("There is no offer at the moment. You are in line, and are told as soon as there is one.")
    if offer.state == State.OFFERED and offer.deadline and now < offer.deadline:
        return offer
    if row.may_still_lapse and (row.start is None or row.start > now):
        raise OfferOver(f"{NOT_TAKEN} You are still in line, and get the next one that fits.")
    raise OfferOver(NOT_TAKEN)


def _book(offer: Reservation, row: WaitingEntry, by: User, now: datetime) -> None:
    changes: dict[str, Any] = {"starts_when_taken": False, "look_at": max(offer.start, now)}
    if offer.starts_when_taken:
        end = min(now + row.length, offer.end)
        changes |= {"start": now, "end": end, "price": _price(offer, now, end), "look_at": now}
        container = Container.objects.select_related("allocation").get(reservation=offer, generation=offer.generation)
        capacity.shorten(container.allocation, end)
        capacity.shorten_ports(Forward.objects.filter(endpoint__reservation=offer), end + actions.port_rest())
    text, still = f"The offer was taken by {by.username}.", Q(deadline__gt=now)
    transition(offer, State.BOOKED, text=text, by=by.username, now=now, only=still, **changes)


def _price(offer: Reservation, start: datetime, end: datetime) -> object:
    """At the prices that were promised with the offer."""
    wanted = Wanted(
        workspace_id=offer.workspace_id,
        cores=offer.cores,
        ram_mib=offer.ram_mib,
        storage_gb=0 if offer.kept_volume_id else offer.storage_gb,
        start=start,
        end=end,
    )
    return prices().quote(wanted, terms=offer.terms, until=offer.end).price


def _end(offer: Reservation, text: str, by: User, now: datetime) -> None:
    actions.start_ending(offer, text=text, by=by.username, now=now)
    hint_after_commit(offer.pk)


def close(row: WaitingEntry, outcome: WaitingEntry.Outcome, reason: str, now: datetime) -> None:
    """Take it out of the line, within a transaction of the caller, who has locked it."""
    row.closed_at, row.outcome, row.reason = now, outcome, reason[:400]
    row.save(update_fields=["closed_at", "outcome", "reason"])


def shown_to(user: User) -> "models.QuerySet[WaitingEntry]":
    """The open entries of the user's workspaces, the first in line first, with what pages show of them."""
    rows = WaitingEntry.objects.visible_to(user).open().with_place()
    return rows.select_related("service", "workspace", "created_by", "offer", "kept_volume").order_by("place_at", "pk")


def closed_lately(user: User, now: datetime) -> "models.QuerySet[WaitingEntry]":
    """The last few of the user's workspaces that left the line without a booking."""
    rows = WaitingEntry.objects.visible_to(user).filter(closed_at__gt=now - SHOWN_FOR)
    rows = rows.exclude(outcome=WaitingEntry.Outcome.TAKEN).select_related("service").order_by("-closed_at", "-pk")
    return rows[:5]
