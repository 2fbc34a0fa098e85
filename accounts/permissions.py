"""Who may do what in a workspace, in one place: the rules are on roles, the checks ask the database.

Being staff gives no right here: staff act in the admin and on the monitor, under their own rules.
"""

from django.core.exceptions import PermissionDenied

from accounts.models import Membership, Role, User, Workspace

LEADS = frozenset({Role.OWNER, Role.MANAGER})  # who acts on everything that is the workspace's


class NotAllowed(PermissionDenied):
    """A member, who sees it, may not do it; the sentence is for them. Answered with 403."""

    code = "not_allowed"


def role_in(user: User, workspace_id: int) -> Role | None:
    """The role of `user` in the workspace; None for who is no member."""
    found = Membership.objects.filter(user=user, workspace=workspace_id).values_list("role", flat=True).first()
    return Role(found) if found else None


def leads(role: Role | None) -> bool:
    """Whether this role acts on all of the workspace's things."""
    return role in LEADS


def is_personal(workspace: Workspace) -> bool:
    return workspace.personal_of_id is not None


def is_open_team(workspace: Workspace) -> bool:
    """Whether it can have other members: neither personal nor closed."""
    return not is_personal(workspace) and workspace.closed_at is None


def may_invite(role: Role | None, workspace: Workspace) -> bool:
    return leads(role) and is_open_team(workspace)


def check_may_invite(role: Role | None, workspace: Workspace) -> None:
    if not may_invite(role, workspace):
        raise NotAllowed(f"Only the owners and managers of {workspace} may invite somebody.")


def may_give_role(role: Role | None, given: Role) -> bool:
    """Whether this role may invite somebody as `given`: managers make no owners."""
    return role == Role.OWNER or (role == Role.MANAGER and given != Role.OWNER)


def check_may_give_role(role: Role | None, given: Role, workspace: Workspace) -> None:
    if not may_give_role(role, given):
        raise NotAllowed(f"Only an owner of {workspace} may do this with the invitation of another owner.")


def may_change_roles(role: Role | None, workspace: Workspace) -> bool:
    return role == Role.OWNER and not is_personal(workspace)


def check_may_change_roles(role: Role | None, workspace: Workspace) -> None:
    if not may_change_roles(role, workspace):
        raise NotAllowed(f"Only an owner of {workspace} may change roles.")


def may_remove(role: Role | None, other: Role, workspace: Workspace) -> bool:
    """Whether this role may remove a member who has the role `other`: managers remove those below them."""
    may = role == Role.OWNER or (role == Role.MANAGER and other == Role.MEMBER)
    return may and not is_personal(workspace)


def check_may_remove(role: Role | None, other: Role, workspace: Workspace) -> None:
    if not may_remove(role, other, workspace):
        who = "an owner or a manager" if other == Role.MEMBER else "an owner"
        raise NotAllowed(f"Only {who} of {workspace} may remove its {other}s.")


def may_rename(role: Role | None) -> bool:
    return role == Role.OWNER


def check_may_rename(role: Role | None, workspace: Workspace) -> None:
    if not may_rename(role):
        raise NotAllowed(f"Only an owner of {workspace} may rename it.")


def may_close(role: Role | None, workspace: Workspace) -> bool:
    return role == Role.OWNER and is_open_team(workspace)


def check_may_close(role: Role | None, workspace: Workspace) -> None:
    if not may_close(role, workspace):
        raise NotAllowed(f"Only an owner of {workspace} may close it.")


def may_leave(role: Role | None, workspace: Workspace) -> bool:
    """Every member but the one of a personal workspace; that an owner stays is the action's to see to."""
    return role is not None and not is_personal(workspace)


def user_can_book(user: User, workspace: Workspace) -> bool:
    return workspace.closed_at is None and role_in(user, workspace.pk) is not None


def check_user_can_book(user: User, workspace: Workspace) -> None:
    """Raises NotAllowed. Within a transaction that has locked the workspace's row it holds until its end."""
    if workspace.closed_at is not None:
        raise NotAllowed(f"The workspace {workspace.name} is closed; nothing can be booked for it any more.")
    if role_in(user, workspace.pk) is None:
        raise NotAllowed("You are not a member of this workspace any more.")
