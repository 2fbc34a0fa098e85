"""The API's workspaces: which there are, what they may hold, and who is in them."""

from decimal import Decimal
from typing import Any, Self

from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Router, Schema

from accounts.models import Membership, User, Workspace
from portal.problems import Problem

router = Router(tags=["workspaces"])


class QuotaOut(Schema):
    """What the workspace may hold at once, how long one reservation may be and how far ahead it may start."""

    reservations: int
    cores: Decimal
    ram_mib: int
    storage_gb: int
    hours: int
    days_ahead: int


class WholeWorkspaceOut(Schema):
    """A workspace that you are a member of. Nothing can be booked for one that is closed."""

    id: int
    name: str
    personal: bool
    closed: bool
    role: str
    quota: QuotaOut

    @classmethod
    def of(cls, row: Membership) -> Self:
        workspace = row.workspace
        return cls(
            id=workspace.pk,
            name=workspace.name,
            personal=workspace.personal_of_id == row.user_id,
            closed=workspace.closed_at is not None,
            role=row.role,
            quota=QuotaOut(
                reservations=workspace.max_reservations,
                cores=workspace.max_cores,
                ram_mib=workspace.max_ram_mib,
                storage_gb=workspace.max_storage_gb,
                hours=workspace.max_hours,
                days_ahead=workspace.max_days_ahead,
            ),
        )


class MemberOut(Schema):
    user: str
    role: str


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # noqa: S101 - the bearer token has seen to it
    return request.user


@router.get("", response={200: list[WholeWorkspaceOut], 401: Problem}, summary="Your workspaces, by name")
def read_all(request: HttpRequest) -> Any:
    rows = Membership.objects.filter(user=_user(request)).select_related("workspace")
    return [WholeWorkspaceOut.of(row) for row in rows.order_by("workspace__name", "pk")]


@router.get(
    "/{int:pk}/members",
    response={200: list[MemberOut], 404: Problem, 401: Problem},
    summary="Who is in one, by name",
)
def members(request: HttpRequest, pk: int) -> Any:
    workspace = get_object_or_404(Workspace.objects.of(_user(request)), pk=pk)
    rows = workspace.memberships.select_related("user").order_by("user__username")
    return [MemberOut(user=row.user.username, role=row.role) for row in rows]
