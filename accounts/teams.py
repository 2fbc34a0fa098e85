"""What can be done to a shared workspace and its members: each one transaction, with its audit row inside.

The workspace's row is locked first, so that two owners who leave at once do not leave it without one, and so that a
booking's user is a member until that booking is committed.
"""

from datetime import datetime

from allauth.account.models import EmailAddress
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q, QuerySet

from accounts import audit, permissions
from accounts.models import AuditEntry, Invitation, Membership, Notice, Role, User, Workspace
from accounts.notifying import notify

MOST_MEMBERS = 200
NO_OWNER = "{workspace} would be left without an owner. Make somebody else an owner first."
PERSONAL = "A personal workspace has no other members, and it goes with its account. Create a shared one instead."


class TeamProblem(Exception):
    """What was asked for cannot be; the sentence is for the person who asked."""

    code = "invalid"


def lock(workspace_id: int) -> Workspace:
    """The workspace as it is now, and stays until the caller's transaction ends."""
    return Workspace.objects.select_for_update(no_key=True).get(pk=workspace_id)


def create_workspace(*, name: str, by: User) -> Workspace:
    """A shared workspace that `by` owns, with the usual quota. Raises TeamProblem."""
    with transaction.atomic(durable=True):
        row = User.objects.select_for_update().get(pk=by.pk)  # two at once do not pass the limit together
        if row.closed_at is not None:
            raise TeamProblem("This account is deleted.")
        most = settings.BERTH_WORKSPACES_PER_USER
        if created_by(by) >= most:
            raise TeamProblem(
                f"You have created {most} shared workspaces. Close one that is not used any more."
                if most
                else "Shared workspaces are created by the operators of this portal."
            )
        workspace = Workspace(name=_checked_name(name))
        workspace.save()
        Membership.objects.create(workspace=workspace, user=by, role=Role.OWNER)
        audit.record(by=by, action="workspace.create", target=f"workspace:{workspace.pk}", name=workspace.name)
    return workspace


def created_by(user: User) -> int:
    """How many shared workspaces that are still open `user` has created, whoever owns them today."""
    rows = AuditEntry.objects.filter(actor=user, action="workspace.create").values_list("target", flat=True)
    return Workspace.objects.filter(pk__in=[int(target.partition(":")[2]) for target in rows], closed_at=None).count()


def rename(*, workspace: Workspace, name: str, by: User) -> None:
    """Raises NotAllowed or TeamProblem."""
    with transaction.atomic(durable=True):
        row = lock(workspace.pk)
        permissions.check_may_rename(permissions.role_in(by, row.pk), row)
        old, row.name = row.name, _checked_name(name)
        row.save(update_fields=["name"])
        audit.record(by=by, action="workspace.rename", target=f"workspace:{row.pk}", old=old, name=row.name)


def _checked_name(name: str) -> str:
    """The name that is kept. Raises TeamProblem."""
    field = Workspace._meta.get_field("name")
    name = name.strip()
    try:
        field.clean(name, None)
    except ValidationError as problem:
        raise TeamProblem(" ".join(problem.messages)) from None
    return name


def change_role(*, workspace: Workspace, user: User, role: Role, by: User, now: datetime) -> bool:
    """Give a member another role; False when they have it already. Raises NotAllowed or TeamProblem."""
    with transaction.atomic(durable=True):
        row = lock(workspace.pk)
        _check_shared(row)
        permissions.check_may_change_roles(permissions.role_in(by, row.pk), row)
        membership = _membership(row, user)
        if membership.role == role:
            return False
        _keep_an_owner(row, membership)
        old, membership.role = membership.role, role
        membership.save(update_fields=["role"])
        _record(row, by, "role", user=user.username, old=old, role=str(role))
        if user != by:
            _tell(user, row, "role", f"You are now {role} of {row}", f"{by} changed your role from {old}.", now)
    return True


def remove_member(*, workspace: Workspace, user: User, by: User, now: datetime) -> None:
    """Take somebody out. What they booked stays the workspace's. Raises NotAllowed or TeamProblem."""
    with transaction.atomic(durable=True):
        row = lock(workspace.pk)
        _check_shared(row)
        membership = _membership(row, user)
        permissions.check_may_remove(permissions.role_in(by, row.pk), Role(membership.role), row)
        _take_out(row, membership)
        _take_back_invitations(row, user, now)
        _record(row, by, "remove", user=user.username, role=membership.role)
        text = "Its reservations and volumes are out of your reach now; what you booked there stays with it."
        _tell(user, row, "removed", f"You were removed from {row}", text, now)


def leave(*, workspace: Workspace, user: User) -> None:
    """Go oneself. Raises TeamProblem for the last owner."""
    with transaction.atomic(durable=True):
        row = lock(workspace.pk)
        _check_shared(row)
        membership = _membership(row, user)
        _take_out(row, membership)
        _record(row, user, "leave", user=user.username, role=membership.role)


def check_may_close(workspace: Workspace, by: User) -> None:
    """Raises NotAllowed or TeamProblem."""
    _check_shared(workspace)
    if workspace.closed_at is not None:
        raise TeamProblem(f"{workspace} is closed already.")
    permissions.check_may_close(permissions.role_in(by, workspace.pk), workspace)


def note_closed(workspace: Workspace, *, by: User, now: datetime) -> None:
    """Close it, within a transaction of the caller, who has locked it and seen that nothing of it is live.

    Its bills stay, and its members see them.
    """
    workspace.closed_at = now
    workspace.save(update_fields=["closed_at"])
    Invitation.objects.filter(workspace=workspace, accepted_at=None, revoked_at=None).update(revoked_at=now)
    User.objects.filter(current_workspace=workspace).update(current_workspace=None)
    _record(workspace, by, "close", name=workspace.name)
    for membership in workspace.memberships.exclude(user=by).select_related("user"):
        text = f"{by} closed it. Nothing can be booked for it any more; its bills stay."
        _tell(membership.user, workspace, "closed", f"{workspace} is closed", text, now)


def switch(*, user: User, workspace: Workspace) -> None:
    """What `user` books from now on is for this workspace, of which they are a member."""
    personal = workspace.personal_of_id == user.pk
    User.objects.filter(pk=user.pk).update(current_workspace=None if personal else workspace)


def sole_owner_of(user: User) -> list[Workspace]:
    """The open shared workspaces that would be left without an owner if `user` went."""
    owned = Workspace.objects.filter(
        personal_of=None, closed_at=None, memberships__user=user, memberships__role=Role.OWNER
    )
    return [row for row in owned.order_by("name", "pk") if not _other_owners(row, user).exists()]


def _check_shared(workspace: Workspace) -> None:
    if permissions.is_personal(workspace):
        raise TeamProblem(PERSONAL)


def _membership(workspace: Workspace, user: User) -> Membership:
    found = Membership.objects.select_for_update().filter(workspace=workspace, user=user).first()
    if found is None:
        raise TeamProblem(f"{user} is not a member of {workspace} any more.")
    return found


def _take_out(workspace: Workspace, membership: Membership) -> None:
    _keep_an_owner(workspace, membership)
    User.objects.filter(pk=membership.user_id, current_workspace=workspace).update(current_workspace=None)
    Membership.objects.filter(pk=membership.pk).delete()


def _take_back_invitations(workspace: Workspace, user: User, now: datetime) -> None:
    """To whatever address of theirs: who was taken out does not come in again by one that is left over."""
    addresses = {user.email, *EmailAddress.objects.filter(user=user).values_list("email", flat=True)}
    theirs = Q(pk__in=[])
    for address in addresses:
        theirs |= Q(email__iexact=address)
    open_ones = Invitation.objects.filter(theirs, workspace=workspace, accepted_at=None, revoked_at=None)
    open_ones.update(revoked_at=now)


def _keep_an_owner(workspace: Workspace, membership: Membership) -> None:
    """Raises TeamProblem if this membership is that of the last owner who can log in."""
    if membership.role == Role.OWNER and not _other_owners(workspace, membership.user).exists():
        raise TeamProblem(NO_OWNER.format(workspace=workspace))


def _other_owners(workspace: Workspace, user: User) -> "QuerySet[Membership]":
    owners = Membership.objects.filter(workspace=workspace, role=Role.OWNER, user__is_active=True)
    return owners.exclude(user=user)


def _record(workspace: Workspace, by: User, what: str, **data: str) -> None:
    audit.record(by=by, action=f"workspace.{what}", target=f"workspace:{workspace.pk}", **data)


def _tell(user: User, workspace: Workspace, what: str, title: str, text: str, now: datetime) -> None:
    notify(
        user=user,
        kind=Notice.WORKSPACE,
        key=f"workspace:{workspace.pk}:{what}:{now:%Y-%m-%dT%H:%M:%S.%f}",
        title=title,
        text=text,
        path="/workspaces/" if what == "removed" else f"/workspaces/{workspace.pk}/",
        now=now,
    )
