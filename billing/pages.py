"""Whose money a page shows: the workspace that its reader chose."""

from dataclasses import dataclass
from datetime import date, datetime

from django.http import Http404, HttpRequest

from accounts.models import Membership, Role, User, Workspace
from accounts.workspaces import current_workspace
from billing import months
from billing.accounts import account_of
from billing.forms import parse_month
from billing.models import BillingAccount


@dataclass(frozen=True, slots=True)
class Desk:
    """A reader before one of their workspaces. `query` leads to the same workspace on another page."""

    user: User
    account: BillingAccount
    role: Role
    choices: list[Workspace]
    usual: int  # the workspace that is shown without being asked for

    @property
    def workspace(self) -> Workspace:
        return self.account.workspace

    @property
    def is_owner(self) -> bool:
        return self.role == Role.OWNER

    @property
    def query(self) -> str:
        """Empty for the workspace that its reader works in, unless that is a shared one, which may be switched away."""
        alone = self.workspace.pk == self.usual and self.workspace.personal_of_id == self.user.pk
        return "" if alone else f"workspace={self.workspace.pk}"


def desk(request: HttpRequest) -> Desk:
    """Of the workspace in the address, or of the current one. Anybody else's does not exist."""
    assert isinstance(request.user, User)  # noqa: S101 - login_required has seen to it
    return desk_of(request.user, request.GET.get("workspace", ""))


def desk_of(user: User, asked: str) -> Desk:
    """Raises Http404 for a workspace that `user` is no member of."""
    chosen = usual = current_workspace(user).pk
    if asked:
        if not (asked.isascii() and asked.isdigit() and len(asked) < 19):
            raise Http404
        chosen = int(asked)
    members = Membership.objects.filter(user=user).select_related("workspace").order_by("workspace__name")
    roles = {row.workspace_id: row for row in members}
    if chosen not in roles:
        raise Http404
    workspaces = sorted((row.workspace for row in roles.values()), key=lambda row: row.personal_of_id != user.pk)
    return Desk(user, account_of(chosen), Role(roles[chosen].role), workspaces, usual)


def asked_month(text: str, account: BillingAccount, now: datetime) -> date:
    """The month in an address, or the one that it is now, for what is none too."""
    try:
        return parse_month(text)
    except ValueError:
        return months.month_of(now, account.zone)
