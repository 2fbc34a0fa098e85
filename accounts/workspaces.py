"""Which workspace somebody works in."""

from dataclasses import dataclass

from accounts.actions import open_personal_workspace
from accounts.models import User, Workspace

MOST_IN_MENU = 30


@dataclass(frozen=True, slots=True)
class WorkspaceChoice:
    """Between which workspaces somebody may switch, and which is theirs now; the personal one comes first."""

    current: Workspace
    others: list[Workspace]
    more: bool  # than are listed


def workspace_choice(user: User) -> WorkspaceChoice:
    """With one query, unless the current one is not among the first, or there is no personal one yet."""
    rows = list(Workspace.objects.of(user).filter(closed_at=None)[: MOST_IN_MENU + 1])
    wanted = {user.current_workspace_id} if user.current_workspace_id else {rows[0].pk} if rows else set()
    current = next((row for row in rows if row.pk in wanted), None) or current_workspace(user)
    others = [row for row in rows if row != current]
    return WorkspaceChoice(current, others[:MOST_IN_MENU], more=len(others) > MOST_IN_MENU)


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
