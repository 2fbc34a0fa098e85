"""Who may act on what a workspace has booked or keeps, in one place.

Every member sees all of it. Owners and managers act on all of it, a member on what they booked themselves; the
credentials of a reservation, and the commands that hold them, are for who may act on it. Being staff gives no right
here.
"""

from collections.abc import Iterable

from accounts.models import Membership, User
from accounts.permissions import LEADS, NotAllowed, leads, role_in
from reservations.models import Reservation, WaitingEntry, WorkspaceVolume


def user_can_act(user: User, reservation: Reservation) -> bool:
    """Whether `user` may delete, stop, extend, … it, and read its credentials."""
    role = role_in(user, reservation.workspace_id)
    return leads(role) or (role is not None and reservation.created_by_id == user.pk)


def check_user_can_act(user: User, reservation: Reservation) -> None:
    """Raises NotAllowed."""
    if not user_can_act(user, reservation):
        raise NotAllowed(why_not(reservation))


def user_can_act_for(user: User, entry: WaitingEntry) -> bool:
    """Whether `user` may take, decline and cancel what waits."""
    role = role_in(user, entry.workspace_id)
    return leads(role) or (role is not None and entry.created_by_id == user.pk)


def check_user_can_act_for(user: User, entry: WaitingEntry) -> None:
    """Raises NotAllowed."""
    if not user_can_act_for(user, entry):
        raise NotAllowed(why_not(entry))


def why_not(row: Reservation | WaitingEntry) -> str:
    """For a member who may only look at it."""
    booked_by = f"{row.created_by} and the" if row.created_by else "The"
    return f"{booked_by} owners and managers of {row.workspace} may do this; you may look at it."


def actionable(user: User, reservations: Iterable[Reservation]) -> set[int]:
    """The numbers of those that `user` may act on, with one query for all of them."""
    numbers = [reservation.pk for reservation in reservations]
    if not numbers:
        return set()
    return set(Reservation.objects.actionable_by(user).filter(pk__in=numbers).values_list("pk", flat=True))


def actionable_entries(user: User, entries: Iterable[WaitingEntry]) -> set[int]:
    """The same of what waits."""
    led = Membership.objects.filter(user=user, role__in=LEADS).values_list("workspace", flat=True)
    leads_in = set(led)
    return {entry.pk for entry in entries if entry.workspace_id in leads_in or entry.created_by_id == user.pk}


def user_can_delete_volume(user: User, volume: WorkspaceVolume) -> bool:
    """Owners and managers; a member only if nobody else has ever booked it, whose data may be in it."""
    role = role_in(user, volume.workspace_id)
    if leads(role) or role is None:
        return role is not None
    bookers = set(Reservation.objects.filter(kept_volume=volume).values_list("created_by", flat=True).distinct())
    return bookers == {user.pk}


def check_user_can_delete_volume(user: User, volume: WorkspaceVolume) -> None:
    """Raises NotAllowed."""
    if not user_can_delete_volume(user, volume):
        raise NotAllowed(
            f"Others have used {volume.name}, too: the owners and managers of {volume.workspace} may delete it."
        )
