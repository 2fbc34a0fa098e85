"""Deletes an account: whatever it has ends, its row stays for the books without a name, and nobody gets in by it.

What a workspace has is not known here: BERTH_CLOSING_PARTS names modules of higher layers, each a `Part`, which tell
of it and end it. All of it is one transaction; machines are looked after by the loops that do so anyway.

Locks are taken in the order of everything else: workspaces, what is theirs, and the user's name last, since that waits
for whoever writes a row that names the user.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from secrets import token_hex
from typing import Protocol, cast

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from allauth.usersessions.models import UserSession
from django.conf import settings
from django.db import transaction
from django.db.models import Model, Q
from django.template.loader import render_to_string

from accounts import audit, farewell, teams
from accounts.inviting import proven_addresses_of
from accounts.models import (
    ApiToken,
    Invitation,
    Membership,
    Notification,
    NotificationChoice,
    SshKey,
    User,
    Workspace,
)

logger = logging.getLogger(__name__)
CLOSED = "This account is deleted already."
LAST_ADMIN = "This is the last admin who can log in. Make somebody else an admin first."


class CannotClose(Exception):
    """The account cannot be deleted now; the sentences say why."""

    code = "cannot_close"


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of something that the account has; `stays`: it does not end with it."""

    title: str
    text: str
    names: list[str] = field(default_factory=list)
    stays: bool = False


class Part(Protocol):
    """A higher layer's answer to what workspaces have, and what becomes of it when they close."""

    def fates(self, *, closing: Sequence[Workspace], user: User, now: datetime) -> list[Fate]:
        """What there is, with its numbers; of which nothing is there is left out."""

    def end(
        self, *, closing: Sequence[Workspace], leaving: Sequence[Workspace], user: User, by: object, now: datetime
    ) -> None:
        """End it within a transaction of the caller, who has locked the workspaces; what machines hold ends later."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why it cannot be deleted now, and the workspace to be handed over first, if that is it."""

    sentence: str
    workspace: Workspace | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What deleting would do, or why it cannot be done."""

    closing: list[Workspace]  # the personal one, and shared ones that nobody else is in
    leaving: list[Workspace]
    fates: list[Fate]
    refusals: list[Refusal]

    @property
    def ending(self) -> list[Fate]:
        return [fate for fate in self.fates if not fate.stays]

    @property
    def staying(self) -> list[Fate]:
        return [fate for fate in self.fates if fate.stays]


def plan(*, user: User, now: datetime) -> Plan:
    """What would happen now. Nothing is written."""
    mine = list(Workspace.objects.filter(Q(memberships__user=user) | Q(personal_of=user)).distinct().order_by("pk"))
    others = Membership.objects.filter(workspace__in=mine, user__is_active=True).exclude(user=user)
    shared = set(others.values_list("workspace", flat=True))
    closing = [row for row in mine if row.closed_at is None and row.pk not in shared]
    leaving = [row for row in mine if row not in closing]
    orphaned = [row for row in teams.sole_owner_of(user) if row.pk in shared]
    refusals = [Refusal(f"This account is the only owner of {row}, which has other members.", row) for row in orphaned]
    if _is_last_admin(user):
        refusals.append(Refusal(LAST_ADMIN))
    if user.closed_at is not None:
        refusals = [Refusal(CLOSED)]
    fates = [fate for part in _parts() for fate in part.fates(closing=closing, user=user, now=now)]
    return Plan(closing, leaving, [*fates, *_own(user, closing, leaving)], refusals)


def close_account(*, user: User, by: object, now: datetime) -> Plan:
    """Delete it; what became of everything. Raises CannotClose, and has changed nothing then.

    One mail goes to the old address. Until it is sent, and for three days at most, a row of its own has that address.
    """
    with transaction.atomic(durable=True):
        row = _lock(user)
        done = plan(user=row, now=now)
        if done.refusals:
            raise CannotClose(" ".join(refusal.sentence for refusal in done.refusals))
        for part in _parts():
            part.end(closing=done.closing, leaving=done.leaving, user=row, by=by, now=now)
        old_name, old_email = row.username, row.email
        ends = [fate.title for fate in done.ending]
        audit.record(by=by, action="user.close", target=f"user:{row.pk}", name=old_name, ended=ends)
        _leave(row, done, by, now)
        _forget_log_ins(row)
        _forget_person(row, now)
        farewell.write(email=old_email, text=_farewell(old_name, done), now=now)
    logger.info("user %d: the account was deleted", row.pk)
    return done


def _parts() -> list[Part]:
    return [cast(Part, import_module(name)) for name in settings.BERTH_CLOSING_PARTS]


def _lock(user: User) -> User:
    """The user as they are now, when nobody else closes it, nor another admin at the same time, nor changes its teams.

    Workspaces first: whoever takes somebody out of one locks it, and then writes the user.
    """
    mine = Workspace.objects.filter(Q(memberships__user=user) | Q(personal_of=user)).values("pk")
    list(Workspace.objects.filter(pk__in=mine).order_by("pk").select_for_update(no_key=True))
    whom = Q(pk=user.pk)
    if User.objects.filter(whom, is_superuser=True).exists():
        whom |= Q(is_superuser=True, is_active=True)
    found = {row.pk: row for row in User.objects.filter(whom).order_by("pk").select_for_update(no_key=True)}
    return found[user.pk]


def _is_last_admin(user: User) -> bool:
    if not (user.is_superuser and user.is_active):
        return False
    return not User.objects.filter(is_superuser=True, is_active=True).exclude(pk=user.pk).exists()


def _own(user: User, closing: Sequence[Workspace], leaving: Sequence[Workspace]) -> list[Fate]:
    """What of the account itself goes, with its numbers, and what stays of it."""
    counts = [
        (ApiToken.objects.filter(user=user, revoked_at=None).count(), "API token", "API tokens"),
        (SshKey.objects.filter(user=user).count(), "SSH key", "SSH keys"),
        (UserSession.objects.filter(user=user).count(), "session", "sessions"),
        (Authenticator.objects.filter(user=user).count(), "second factor or passkey", "second factors and passkeys"),
        (SocialAccount.objects.filter(user=user).count(), "link to single sign-on", "links to single sign-on"),
        (int(user.calendar_key is not None), "calendar address", "calendar addresses"),
    ]
    found = [
        Fate(counted(number, one, many), "Refused from that instant on.") for number, one, many in counts if number
    ]
    if shut := [row.name for row in closing if row.personal_of_id is None]:
        found.append(
            Fate(counted(len(shut), "shared workspace", "shared workspaces"), "Closed, as nobody else is in it.", shut)
        )
    if left := [row.name for row in leaving]:
        text = "You leave it. What you booked there stays the workspace's, and runs on."
        found.append(Fate(counted(len(left), "shared workspace", "shared workspaces"), text, left))
    found.append(Fate("Name, e-mail addresses, news and what you chose to hear", "Deleted."))
    text = "Kept, as the books and the law need them. They are read by the operators of this portal alone."
    return [*found, Fate("Bills and the audit log", text, stays=True)]


def counted(number: int, one: str, many: str) -> str:
    return f"1 {one}" if number == 1 else f"{number} {many}"


# ---- what is written --------------------------------------------------------------------------------------


def _leave(user: User, done: Plan, by: object, now: datetime) -> None:
    """Workspaces close or are left. Whom a provider's group leads to one that closed gets a new one."""
    for workspace in done.closing:
        name = f"deleted-{user.pk}" if workspace.personal_of_id else workspace.name
        Workspace.objects.filter(pk=workspace.pk).update(closed_at=now, name=name, directory_name=None)
        User.objects.filter(current_workspace=workspace).update(current_workspace=None)
        Invitation.objects.filter(workspace=workspace, accepted_at=None, revoked_at=None).update(revoked_at=now)
        audit.record(by=by, action="workspace.close", target=f"workspace:{workspace.pk}", name=workspace.name)
    for membership in Membership.objects.filter(user=user).select_related("workspace"):
        if membership.workspace in done.leaving:
            target, role = f"workspace:{membership.workspace_id}", membership.role
            audit.record(by=by, action="workspace.leave", target=target, user=user.username, role=role)
        membership.delete()
    mine = Q(accepted_by=user)
    for address in proven_addresses_of(user):
        mine |= Q(email__iexact=address)
    Invitation.objects.filter(mine).delete()


def _forget_log_ins(user: User) -> None:
    for session in UserSession.objects.filter(user=user):
        session.end()
    mine: tuple[type[Model], ...] = (ApiToken, SshKey, Authenticator, SocialAccount, EmailAddress)
    for model in mine:
        model._default_manager.filter(user=user).delete()


def _forget_person(user: User, now: datetime) -> None:
    Notification.objects.filter(user=user).delete()
    NotificationChoice.objects.filter(user=user).delete()
    user.groups.clear()
    user.user_permissions.clear()
    user.username, user.email, user.first_name, user.last_name = _free_name(user), "", "", ""
    user.time_zone = user.date_language = ""
    user.is_active = user.is_staff = user.is_superuser = False
    user.current_workspace, user.calendar_key, user.closed_at = None, None, now
    user.set_unusable_password()
    user.save()


def _free_name(user: User) -> str:
    """deleted-7; somebody may have signed up as that."""
    name = f"deleted-{user.pk}"
    taken = User.objects.filter(username__iexact=name).exclude(pk=user.pk).exists()
    return f"{name}-{token_hex(4)}" if taken else name


def _farewell(name: str, done: Plan) -> str:
    host = settings.BERTH_BASE_URL.partition("://")[2]
    return render_to_string("accounts/email/farewell.txt", {"name": name, "plan": done, "host": host})
