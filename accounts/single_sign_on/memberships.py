"""Workspaces follow the provider's groups, at each log-in.

Only those that BERTH_OIDC_GROUPS names, and in them only memberships that came from the provider: whom somebody invited
stays, in the role that they were given. A workspace always keeps an owner.
"""

import logging
from collections.abc import Iterable

from django.conf import settings
from django.db import transaction

from accounts import audit
from accounts.models import AuditEntry, Membership, Role, User, Workspace
from accounts.single_sign_on.rules import wanted_roles

logger = logging.getLogger(__name__)
BY = "single sign-on"


def follow(*, user: User, groups: Iterable[str]) -> None:
    """Bring the memberships of `user` in line with the groups that the provider tells, and who is an admin."""
    groups = list(groups)
    wanted = wanted_roles(settings.BERTH_OIDC_GROUPS, groups)
    with transaction.atomic():
        for name in sorted({rule.workspace for rule in settings.BERTH_OIDC_GROUPS}):
            role = wanted.get(name)
            workspace = Workspace.objects.select_for_update().filter(directory_name=name).first()
            if workspace is None and role:
                workspace = _open(name, first=user, role=role)
            if workspace is not None and workspace.closed_at is None:
                _set_role(workspace, user, role)
        if settings.BERTH_OIDC_ADMIN_GROUP:
            _set_admin(user, settings.BERTH_OIDC_ADMIN_GROUP in groups)


def _open(name: str, first: User, role: str) -> Workspace:
    """A workspace that a group leads into. Its owner is whom the provider says, else the admin who is here longest."""
    workspace, created = Workspace.objects.get_or_create(directory_name=name, defaults={"name": name})
    if created:
        audit.record(by=BY, action="workspace.open", target=f"workspace:{workspace.pk}", name=name)
        if role != Role.OWNER:
            admin = User.objects.filter(is_superuser=True, is_active=True).order_by("pk").first()
            owner = admin or first
            # Who owns it for want of an admin does so until the provider names another owner.
            Membership.objects.create(workspace=workspace, user=owner, role=Role.OWNER, by_directory=owner == first)
            _note("membership.add", workspace, owner, Role.OWNER)
    return workspace


def _set_role(workspace: Workspace, user: User, role: str | None) -> None:
    membership = Membership.objects.filter(workspace=workspace, user=user).first()
    if membership is None:
        if role:
            Membership.objects.create(workspace=workspace, user=user, role=role, by_directory=True)
            _note("membership.add", workspace, user, role)
        return
    if not membership.by_directory or membership.role == role:
        return
    if membership.role == Role.OWNER and not _has_another_owner(workspace, user):
        logger.warning("single sign-on: %s stays the owner of %s, which has no other", user.pk, workspace.pk)
        return
    if role is None:
        membership.delete()
        _note("membership.remove", workspace, user, membership.role)
        return
    membership.role = role
    membership.save(update_fields=["role"])
    _note("membership.change", workspace, user, role)


def _has_another_owner(workspace: Workspace, user: User) -> bool:
    others = Membership.objects.filter(workspace=workspace, role=Role.OWNER, user__is_active=True)
    return others.exclude(user=user).exists()


def _set_admin(user: User, admin: bool) -> None:
    """Who is in the group is an admin, who left it is none.

    An admin with a password whom the group did not make one is the installation's own and stays.
    """
    if (user.is_staff, user.is_superuser) == (admin, admin):
        return
    if not admin and user.has_usable_password() and not _was_made_admin(user):
        return
    user.is_staff = user.is_superuser = admin
    user.save(update_fields=["is_staff", "is_superuser"])
    audit.record(by=BY, action="user.admin", target=f"user:{user.pk}", admin=admin)


def _was_made_admin(user: User) -> bool:
    """Whether they are an admin by the group: else who sets a password here would stay one after leaving it."""
    noted = AuditEntry.objects.filter(target=f"user:{user.pk}", action="user.admin", actor=None, actor_name=BY)
    last = noted.order_by("at", "pk").last()
    return last is not None and bool(last.data["admin"])


def _note(action: str, workspace: Workspace, user: User, role: str) -> None:
    audit.record(by=BY, action=action, target=f"workspace:{workspace.pk}", user=user.username, role=role)
