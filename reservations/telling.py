"""Tells people what happens to their reservations, within the transaction in which it does.

Whoever booked one hears of it while they are a member of its workspace; else the workspace's owners do. Nobody is told
of what they did themselves.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db.models import Q
from django.urls import reverse

from accounts.dates import format_for
from accounts.models import Membership, Notice, Notification, Role, User
from accounts.notifying import News, tell
from reservations.models import Reservation
from reservations.states import State

AWAITED = timedelta(minutes=5)  # who booked it so shortly ago still has the page before them


def hearers(reservations: Iterable[Reservation]) -> dict[int, list[User]]:
    """Who hears of each of them, by its number: one query."""
    rows = list(reservations)
    creators = {row.created_by_id for row in rows if row.created_by_id}
    members = (
        Membership.objects.filter(workspace__in={row.workspace_id for row in rows})
        .filter(Q(role=Role.OWNER) | Q(user__in=creators), user__is_active=True, user__closed_at=None)
        .select_related("user")
        .order_by("pk")
    )
    by_workspace: dict[int, list[Membership]] = {}
    for member in members:
        by_workspace.setdefault(member.workspace_id, []).append(member)
    found: dict[int, list[User]] = {}
    for row in rows:
        here = by_workspace.get(row.workspace_id, [])
        own = [member.user for member in here if member.user_id == row.created_by_id]
        found[row.pk] = own or [member.user for member in here if member.role == Role.OWNER]
    return found


def name_of(reservation: Reservation) -> str:
    return f"{reservation.title} (#{reservation.pk})"


def of_transition(
    reservation: Reservation, old: State, new: State, *, text: str, by: object, now: datetime, failure: str = ""
) -> None:
    """What of a step is news; called by `transition` before `reservation` has the new values."""
    if old == State.OFFERED:
        return  # the waiting list tells of that by itself
    if new == State.RUNNING:
        if reservation.running_since is None:
            _started(reservation, now)
        elif reservation.generation > 1:
            _back(reservation, now)
    elif new == State.ENDING and failure:
        _tell(reservation, Notice.FAILED, f"failed:{reservation.pk}", "failed", failure, now=now)
    elif new == State.ENDING:
        _ends(reservation, text, by, now)


def moved(reservation: Reservation, text: str, *, now: datetime, by: object = "") -> None:
    """It is started on another node, once it had served; one that nobody used yet moves unnoticed."""
    if reservation.running_since:
        key = f"moved:{reservation.pk}:{reservation.generation}"
        _tell(reservation, Notice.MOVED, key, "moves to another node", text, now=now, by=by)


def lost_its_node(reservation: Reservation, text: str, *, now: datetime) -> None:
    """Its node is lost and there is no other place for it yet."""
    key = f"lost:{reservation.pk}:{reservation.generation}"
    _tell(reservation, Notice.MOVED, key, "lost its node", text, now=now)


def _started(reservation: Reservation, now: datetime) -> None:
    awaited = now - reservation.created_at <= AWAITED
    for user in hearers([reservation])[reservation.pk]:
        text = f"It answers at its address until {format_for(user, reservation.end)}."
        _tell_one(user, reservation, Notice.STARTED, f"started:{reservation.pk}", "runs", text, now, mail=not awaited)


def _back(reservation: Reservation, now: datetime) -> None:
    """The first time that it runs on its new node, for who was told that it moves."""
    key = f"moved:{reservation.pk}:{reservation.generation}"
    knowing = set(Notification.objects.filter(key=key, kind=Notice.MOVED).values_list("user", flat=True))
    text = "It answers again, on another node."
    for user in hearers([reservation])[reservation.pk] if knowing else []:
        if user.pk in knowing:
            key = f"back:{reservation.pk}:{reservation.generation}"
            _tell_one(user, reservation, Notice.MOVED, key, "runs again", text, now)


def _ends(reservation: Reservation, text: str, by: object, now: datetime) -> None:
    key = f"ended:{reservation.pk}"
    if now < reservation.end:
        _tell(reservation, Notice.ENDED, key, "was ended", text, now=now, by=by)
        return
    for user in hearers([reservation])[reservation.pk]:  # as booked: the mails before it said so
        text = f"Its booked time was over at {format_for(user, reservation.end)}."
        _tell_one(user, reservation, Notice.ENDED, key, "has ended", text, now, mail=False)


def _tell(
    reservation: Reservation, kind: Notice, key: str, verb: str, text: str, *, now: datetime, by: object = ""
) -> None:
    """The same for all who hear of it but `by`."""
    for user in hearers([reservation])[reservation.pk]:
        if user.username != str(by):
            _tell_one(user, reservation, kind, key, verb, text, now)


def _tell_one(
    user: User,
    reservation: Reservation,
    kind: Notice,
    key: str,
    verb: str,
    text: str,
    now: datetime,
    *,
    mail: bool = True,
) -> None:
    path = reverse("reservations:detail", args=[reservation.pk])
    tell([News(user.pk, kind, key, f"{name_of(reservation)} {verb}", text, path, mail=mail)], now=now)
