"""Which workspace somebody works in."""

from accounts.actions import open_personal_workspace
from accounts.models import User, Workspace


def current_workspace(user: User) -> Workspace:
    """The personal workspace; made on first use for users that the admin pages added."""
    found = Workspace.objects.filter(personal_of=user).first()
    return found or open_personal_workspace(user=user, by=user)
