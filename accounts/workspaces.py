"""Which workspace somebody works in."""

from accounts.actions import open_personal_workspace
from accounts.models import User, Workspace


def personal_workspace(user: User) -> Workspace:
    """The personal workspace; made on first use for users that the admin pages added."""
    found = Workspace.objects.filter(personal_of=user).first()
    return found or open_personal_workspace(user=user, by=user)


def current_workspace(user: User) -> Workspace:
    """The one that somebody chose last, while they are a member of it; else the personal one."""
    if user.current_workspace_id:
        found = Workspace.objects.of(user).filter(pk=user.current_workspace_id, closed_at=None).first()
        if found:
            return found
    return personal_workspace(user)
