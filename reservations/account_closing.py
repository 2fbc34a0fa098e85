"""What becomes of reservations, places in line and kept volumes with a deleted account: a `Part` of accounts.closing.

A reservation ends as if its owner had deleted it now: the wish is written, and the loop takes it off its machines. A
kept volume that a machine may still hold is marked, and removed after it was let go (leftovers.remove_deleted).
"""

from collections.abc import Sequence
from datetime import datetime

from django.db.models import Q

from accounts import audit
from accounts.closing import Fate, counted
from accounts.models import User, Workspace
from reservations import actions, leftovers, waiting
from reservations.hints import hint_after_commit
from reservations.models import IdempotencyKey, Reservation, WaitingEntry, WorkspaceVolume
from reservations.states import State

WHY = "The account was deleted."
MOST_NAMED = 20


def fates(*, closing: Sequence[Workspace], user: User, now: datetime) -> list[Fate]:
    live = Reservation.objects.live().filter(workspace__in=closing).select_related("service").order_by("start", "pk")
    rows = list(live)
    kept = list(
        WorkspaceVolume.objects.present().filter(workspace__in=closing, deleted_at=None).select_related("volume")
    )
    line = WaitingEntry.objects.open().filter(Q(workspace__in=closing) | Q(created_by=user)).count()
    found = []
    if rows:
        text = "Ended now and billed up to now. What is in them is deleted, and cannot be restored."
        found.append(Fate(counted(len(rows), "reservation", "reservations"), text, _named([_name(r) for r in rows])))
    if line:
        text = "Given up; an offer that is held goes to the next."
        found.append(Fate(counted(line, "place in the waiting list", "places in the waiting list"), text))
    if kept:
        text = "Deleted with all that is in it, which cannot be restored. It costs nothing from now on."
        names = _named([str(row) for row in kept])
        found.append(Fate(counted(len(kept), "kept volume", "kept volumes"), text, names))
    return found


def _name(row: Reservation) -> str:
    return f"{row} ({row.state})"


def _named(names: list[str]) -> list[str]:
    more = len(names) - MOST_NAMED
    return [*names[:MOST_NAMED], f"and {more} more"] if more > 0 else names


def end(*, closing: Sequence[Workspace], leaving: Sequence[Workspace], user: User, by: object, now: datetime) -> None:
    everywhere = [*closing, *leaving]
    mine = Q(workspace__in=closing) | Q(workspace__in=everywhere, created_by=user)
    entries = WaitingEntry.objects.open().filter(mine).order_by("pk").select_for_update(of=("self",), no_key=True)
    offers = set()
    for entry in entries:
        offers.add(entry.offer_id)
        waiting.close(entry, WaitingEntry.Outcome.CANCELLED, WHY, now)
        audit.record(by=by, action="waiting.cancel", target=f"waiting:{entry.pk}")
    ours = Q(workspace__in=closing) | Q(pk__in=offers - {None}, state=State.OFFERED)
    rows = Reservation.objects.live().exclude(state=State.ENDING).filter(ours).order_by("pk")
    who = by.username if isinstance(by, User) else str(by)
    for row in rows.select_for_update(no_key=True):  # as it is, and stays: no worker moves it meanwhile
        actions.start_ending(row, text=WHY, by=who, now=now)
        audit.record(by=by, action="reservation.end", target=f"reservation:{row.pk}", text=WHY)
        hint_after_commit(row.pk)
    volumes = WorkspaceVolume.objects.present().filter(workspace__in=closing, deleted_at=None)
    for volume in volumes:
        audit.record(by=by, action="volume.delete", target=f"volume:{volume.volume_id}", name=volume.name)
    volumes.update(deleted_at=now)
    leftovers.mark_deleted()
    IdempotencyKey.objects.filter(user=user).delete()  # there is no token any more that could repeat anything
