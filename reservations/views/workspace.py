"""A workspace's page, with its quota as bars, and closing it; its other pages are in accounts/team_views."""

from dataclasses import dataclass

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from accounts import permissions
from accounts.models import Membership, Role, User, Workspace
from accounts.teams import TeamProblem
from accounts.workspaces import current_workspace
from reservations import closing, quota_bars
from reservations.models import Reservation
from reservations.views.common import visitor

ROLES = [Role.OWNER, Role.MANAGER, Role.MEMBER]


@dataclass(frozen=True, slots=True)
class Rights:
    """What the reader may do here, for the template."""

    role: Role
    workspace: Workspace

    @property
    def invite(self) -> bool:
        return permissions.may_invite(self.role, self.workspace)

    @property
    def roles(self) -> bool:
        return permissions.may_change_roles(self.role, self.workspace)

    @property
    def rename(self) -> bool:
        return permissions.may_rename(self.role)

    @property
    def close(self) -> bool:
        return permissions.may_close(self.role, self.workspace)

    @property
    def leave(self) -> bool:
        return permissions.may_leave(self.role, self.workspace)


@dataclass(frozen=True, slots=True)
class Member:
    """A row of the members' list, as the reader may act on it."""

    user: User
    role: Role
    removable: bool


@login_required
@require_GET
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    user, now = visitor(request), timezone.now()
    workspace, rights = _workspace(user, pk)
    context = {
        "workspace": workspace,
        "rights": rights,
        "roles": ROLES,
        "members": _members(workspace, rights.role, user),
        "bars": quota_bars.bars(workspace, now),
        "live_count": Reservation.objects.filter(workspace=workspace).live().count(),
        "is_current": current_workspace(user) == workspace,
        "support": settings.BERTH_SUPPORT,
        "now": now,
    }
    if rights.invite:
        open_ones = workspace.invitations.filter(accepted_at=None, revoked_at=None)
        context["invitations"] = open_ones.select_related("invited_by")
    return render(request, "workspaces/detail.html", context)


@login_required
@require_http_methods(["GET", "POST"])
def close(request: HttpRequest, pk: int) -> HttpResponse:
    user = visitor(request)
    workspace, rights = _workspace(user, pk)
    permissions.check_may_close(rights.role, workspace)
    context = {"workspace": workspace}
    if request.method == "GET":
        return render(request, "workspaces/close.html", context | {"in_the_way": closing.in_the_way(workspace)})
    try:
        closing.close_workspace(workspace=workspace, by=user, now=timezone.now())
    except TeamProblem as problem:
        return render(request, "workspaces/close.html", context | {"in_the_way": [str(problem)]}, status=422)
    messages.success(request, f"{workspace} is closed.")
    return redirect("workspaces:index")


def _workspace(user: User, pk: int) -> tuple[Workspace, Rights]:
    """One that the visitor is a member of. Anybody else's does not exist."""
    membership = get_object_or_404(Membership.objects.select_related("workspace"), user=user, workspace=pk)
    return membership.workspace, Rights(Role(membership.role), membership.workspace)


def _members(workspace: Workspace, mine: Role, reader: User) -> list[Member]:
    rows = [
        Member(
            row.user,
            Role(row.role),
            row.user != reader and permissions.may_remove(mine, Role(row.role), workspace),
        )
        for row in workspace.memberships.select_related("user").order_by("user__username")
    ]
    return sorted(rows, key=lambda row: ROLES.index(row.role))


urlpatterns = [
    path("<int:pk>/", detail, name="detail"),
    path("<int:pk>/close/", close, name="close"),
]
