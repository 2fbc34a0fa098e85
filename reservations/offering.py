"""Makes the offers of the waiting list: a round of the timetable, every two seconds and when something ended.

The rule, which docs/customers.md tells in short:

- The line is in the order of `place_at`. Of what is free at one instant (one reading of all nodes) the first in line
  whose wish fits gets an offer of it, then the next. Who does not fit is passed over, and keeps the place: something
  huge holds up nobody.
- Nor is it starved: from an hour in line on, who wants to start as soon as possible and was passed over is offered the
  earliest time at which it fits as everything is booked now (`offer_later`). From then on it is held against everybody.
- An offer is held for 15 minutes, and not past the start that was wished for. Not taken it goes to the next, and its
  entry to the end of the line; the third time its entry is closed.
- An offer that ends through no fault of who has it (its node was lost) leaves the entry at its place.
- What the quota or the budget refuses waits on, with the reason. What cannot be booked any more (the service is
  switched off, the volume is deleted, who joined is no member) is closed, with the reason.
- Whoever books directly in the second or two between an end and the next round may be quicker than the line: nothing is
  held for the line but offers.

The row is the queue: a lost round, or one that dies in the middle, changes nothing that the next would not find. Two
rounds at once make no double offer, since each offer locks the workspace's row and the entry's, and its place is taken
under the lock of placing, as any booking.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from django.conf import settings
from django.db import OperationalError, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from accounts.dates import format_for
from accounts.models import Membership, Notice, Workspace
from accounts.notifying import notify
from compute import scheduler, slots
from compute.capacity import NoCapacity
from compute.room import Room
from compute.scheduler import Request, Short
from reservations import actions, quota, waiting
from reservations.actions import Booking, Offer
from reservations.models import Event, Reservation, Size, StorageProfile, WaitingEntry, WorkspaceVolume
from reservations.models.waiting import MOST_LAPSED
from reservations.states import State
from reservations.transitions import PLATFORM

logger = logging.getLogger(__name__)
OFFER_LASTS = timedelta(minutes=15)
PATIENCE = timedelta(hours=1)
LATER_AT_ONCE = 20
REFUSED = (actions.InvalidBooking, actions.OverQuota, actions.CannotAfford, actions.VolumeTaken, NoCapacity)
Outcome = WaitingEntry.Outcome
Profiles = dict[str, StorageProfile]


def look_after(now: datetime) -> int:
    """One round: what has ended is taken back, and what is free is offered. How many offers it made."""
    settle(now)
    return offer_next(now)


# ---- offers -----------------------------------------------------------------------------------------------


def offer_next(now: datetime) -> int:
    """Offer what is free now, to the first in line whom it fits; how many offers were made."""
    line = list(_line(now))
    if not line:
        return 0
    profiles, room, held, made = _profiles(), Room.read(), _Held(), 0
    misfits: list[tuple[Request, str]] = []
    notes = _Notes()
    for entry in line:
        request = _request(entry, now)
        if known := _no_smaller(request, misfits):
            notes.add(entry, known)
            continue
        choice = room.choose(request)
        if isinstance(choice, Short):
            misfits.append((request, scheduler.SENTENCES[choice]))
            notes.add(entry, scheduler.SENTENCES[choice])
        elif over := held.shortfall(entry, profiles, request):
            notes.add(entry, over)
        elif _offer(entry, profiles, now):
            room.hold(choice.node_id, request)
            held.forget(entry)
            made += 1
    notes.write()
    return made


class _Held:
    """What the workspaces of the line hold, read once each: whom the quota refuses needs no lock to be told so.

    It is looked at again under the lock for whoever gets an offer.
    """

    def __init__(self) -> None:
        self._of: dict[int, quota.Held] = {}

    def shortfall(self, entry: WaitingEntry, profiles: Profiles, request: Request) -> str:
        """Why the quota refuses what an offer would hold; empty when it does not."""
        if entry.workspace_id not in self._of:
            self._of[entry.workspace_id] = quota.Held.of(entry.workspace)
        booking = _booking(entry, profiles, entry.start)
        kept_more_gb = actions.size_gb(booking) if entry.storage == StorageProfile.Code.C3 and not booking.volume else 0
        hold = actions.holds(booking, request.start, request.end)
        return self._of[entry.workspace_id].shortfall(hold, kept_more_gb)

    def forget(self, entry: WaitingEntry) -> None:
        self._of.pop(entry.workspace_id, None)


class _Notes:
    """Why each still waits; written when that has changed, one statement for each reason."""

    def __init__(self) -> None:
        self._entries: dict[str, list[int]] = {}

    def add(self, entry: WaitingEntry, why: str) -> None:
        if entry.reason != why[:400]:
            self._entries.setdefault(why[:400], []).append(entry.pk)

    def write(self) -> None:
        for why, entries in self._entries.items():
            WaitingEntry.objects.in_line().filter(pk__in=entries).update(reason=why)


def offer_later(now: datetime) -> int:
    """Offer a later start to those who waited for long and were passed over; how many offers were made."""
    line, profiles, made = _line(now).filter(start=None, place_at__lte=now - PATIENCE), _profiles(), 0
    for entry in line[:LATER_AT_ONCE]:
        wanted = replace(_request(entry, now), end=now + entry.length)
        start = slots.next_slot(wanted)
        if start is not None and start > now:
            made += _offer(entry, profiles, now, start)
    return made


def _line(now: datetime) -> "QuerySet[WaitingEntry]":
    rows = WaitingEntry.objects.in_line().filter(Q(start=None) | Q(start__gt=now))
    return rows.select_related("service", "kept_volume__volume", "created_by", "workspace").order_by("place_at", "pk")


def _profiles() -> Profiles:
    return {profile.code: profile for profile in StorageProfile.objects.all()}


def _request(entry: WaitingEntry, now: datetime) -> Request:
    """What an offer of it would hold."""
    start = entry.start or now
    end = start + entry.length + (timedelta(0) if entry.start else OFFER_LASTS)
    return Request(entry.ram_mib, entry.cores, start, end, actions.needs_host(entry.storage))


def _no_smaller(request: Request, misfits: list[tuple[Request, str]]) -> str:
    """Why it cannot fit, as it is no smaller and no shorter than something that does not; "" when it may."""
    for other, why in misfits:
        smaller = other.ram_mib <= request.ram_mib and other.cores <= request.cores
        within = other.start >= request.start and other.end <= request.end
        if smaller and within and (request.needs_host or not other.needs_host):
            return why
    return ""


def _note(entry: WaitingEntry, why: str) -> None:
    notes = _Notes()
    notes.add(entry, why)
    notes.write()


def _offer(entry: WaitingEntry, profiles: Profiles, now: datetime, later: datetime | None = None) -> bool:
    """Whether it has an offer now; else why not is at the entry. `later`: it may not start before that."""
    try:
        with transaction.atomic(durable=True):
            workspace = Workspace.objects.select_for_update(no_key=True).get(pk=entry.workspace_id)
            row = (
                WaitingEntry.objects.in_line().select_for_update(of=("self",), no_key=True).filter(pk=entry.pk).first()
            )
            if row is None or entry.created_by is None:  # cancelled, or another round was quicker
                return False
            start = later or row.start
            until = min(now + OFFER_LASTS, start or now + OFFER_LASTS)
            offer = actions.hold(
                booking=_booking(entry, profiles, start),
                workspace=workspace,
                by=entry.created_by,
                now=now,
                offer=Offer(until, starts_when_taken=start is None),
            )
            row.offer, row.reason = offer, ""
            row.save(update_fields=["offer", "reason"])
            _tell_offer(row, offer, now)
    except REFUSED as no:
        _note(entry, str(no))
        return False
    except OperationalError:  # of the database, not of this entry
        raise
    except Exception:  # a fault of ours must not hold up who is behind it
        logger.exception("waiting entry %d: offering it failed", entry.pk)
        _note(entry, "An internal error happened; it is tried again.")
        return False
    logger.info("waiting entry %d: offered reservation %d", entry.pk, offer.pk)
    return True


def _booking(entry: WaitingEntry, profiles: Profiles, start: datetime | None) -> Booking:
    exact = bool(start) and entry.length % timedelta(minutes=settings.BERTH_STEP_MINUTES) != timedelta(0)
    return Booking(
        service=entry.service,
        size=Size(cores=entry.cores, ram_mib=entry.ram_mib),  # as it was to be had when it was chosen
        length=entry.length,
        start=start,
        end=start + entry.length if start and exact else None,
        storage=profiles[entry.storage],
        storage_gb=entry.storage_gb,
        volume=entry.kept_volume,
        name=entry.name,
        version=entry.version,
        options=entry.options,
    )


# ---- what has ended ---------------------------------------------------------------------------------------


def settle(now: datetime) -> None:
    """Take back the offers that are over, and close what cannot be offered any more."""
    over = WaitingEntry.objects.open().exclude(offer=None).exclude(offer__state=State.OFFERED)
    for entry in over:
        _settle(entry, partial(_take_back, now=now))
    for entry in WaitingEntry.objects.in_line().filter(start__lte=now):
        why = "There was no room for it before its start."
        _settle(entry, partial(_close, outcome=Outcome.LAPSED, reason=why, now=now))
    for barred, sentence in _bars():
        for entry in WaitingEntry.objects.in_line().filter(barred).select_related("service"):
            _settle(entry, partial(_close, outcome=Outcome.CANCELLED, reason=sentence(entry), now=now))


def _settle(entry: WaitingEntry, do: Callable[[WaitingEntry], None]) -> None:
    """`do` with the entry locked, if it is as it was found."""
    with transaction.atomic(durable=True):
        Workspace.objects.select_for_update(no_key=True).get(pk=entry.workspace_id)
        rows = WaitingEntry.objects.open().filter(offer=entry.offer_id).select_related("service", "created_by", "offer")
        row = rows.select_for_update(of=("self",), no_key=True).filter(pk=entry.pk).first()
        if row:
            do(row)


def _bars() -> Iterator[tuple[Q, Callable[[WaitingEntry], str]]]:
    """What no entry may wait on with, and why."""
    member = Membership.objects.filter(workspace=OuterRef("workspace"), user=OuterRef("created_by"))
    there = WorkspaceVolume.objects.present().filter(pk=OuterRef("kept_volume"))
    profile = StorageProfile.objects.filter(code=OuterRef("storage"), active=True)
    yield Q(workspace__closed_at__isnull=False), lambda _: "The workspace was closed."
    yield Q(created_by=None) | Q(~Exists(member)), lambda _: "Whoever joined is not a member of the workspace any more."
    yield Q(created_by__is_active=False), lambda _: "The account of whoever joined was closed."
    yield Q(service__active=False), lambda entry: f"{entry.service.name} is not offered any more."
    yield Q(~Exists(profile)), lambda _: "This storage profile is not offered any more."
    yield Q(kept_volume__isnull=False) & Q(~Exists(there)), lambda _: "Its volume was deleted."


def _take_back(row: WaitingEntry, now: datetime) -> None:
    """Its offer ended: it lapsed, somebody ended it, or it was lost."""
    offer = row.offer
    ended = (
        Event.objects.filter(reservation=offer, old_state=State.OFFERED).exclude(new_state="").order_by("pk").first()
    )
    if offer is None or offer.state == State.OFFERED or ended is None:
        return
    if ended.new_state != State.ENDING:
        waiting.close(row, Outcome.TAKEN, "", now)
    elif offer.failure:
        row.offer, row.reason = None, f"Its offer was lost: {offer.failure}"[:400]
        row.save(update_fields=["offer", "reason"])
    elif ended.by == PLATFORM:
        _lapse(row, offer, now)
    else:
        waiting.close(row, Outcome.CANCELLED, f"Its offer was ended: {ended.text}", now)


def _lapse(row: WaitingEntry, offer: Reservation, now: datetime) -> None:
    stays = row.may_still_lapse and (row.start is None or row.start > now)
    row.offers_lapsed += 1
    if stays:
        row.offer, row.place_at, row.reason = None, now, ""
        row.save(update_fields=["offer", "place_at", "offers_lapsed", "reason"])
        text = "It was not taken in time and went to the next. You are in line again, at its end."
    else:
        row.save(update_fields=["offers_lapsed"])
        of_many = row.offers_lapsed >= MOST_LAPSED
        text = f"{MOST_LAPSED} offers were not taken." if of_many else "Its offer was not taken before its start."
        waiting.close(row, Outcome.LAPSED, text, now)
        text += " It is not in the waiting list any more."
    _tell(row, f"lapsed:{offer.pk}", f"The offer for {row.title} has lapsed", text, now, None)


def _close(row: WaitingEntry, outcome: WaitingEntry.Outcome, reason: str, now: datetime) -> None:
    waiting.close(row, outcome, reason, now)
    _tell(row, f"closed:{row.pk}", f"{row.title} is not in the waiting list any more", reason, now, None)


# ---- news -------------------------------------------------------------------------------------------------


def _tell_offer(row: WaitingEntry, offer: Reservation, now: datetime) -> None:
    if row.created_by is None:
        return
    until = offer.deadline or now
    begins = "when you take it" if offer.starts_when_taken else format_for(row.created_by, offer.start)
    held = f"It is held for you until {format_for(row.created_by, until, 'short')} and starts {begins}."
    text = f"{held} Take it by then, or it goes to the next in line."
    _tell(row, f"offer:{offer.pk}", f"There is room for {row.title}", text, now, until)


def _tell(row: WaitingEntry, key: str, title: str, text: str, now: datetime, until: datetime | None) -> None:
    if row.created_by:
        notify(
            user=row.created_by,
            kind=Notice.OFFER,
            key=f"waiting:{key}",
            title=title,
            text=text,
            path="/reservations/waiting/",
            now=now,
            mail_until=until,
        )
