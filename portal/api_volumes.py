"""The API's kept volumes."""

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from django.utils import timezone
from ninja import Router, Schema, Status

from accounts.models import User
from portal.problems import Problem
from reservations import actions, kept_volumes
from reservations.kept_volumes import KeptVolume
from reservations.models import WorkspaceVolume
from reservations.permissions import check_user_can_delete_volume

router = Router(tags=["volumes"])


class VolumeOut(Schema):
    """A kept volume; `used_by` is the live reservation that has booked it."""

    id: int
    name: str
    size_gb: int
    service: str | None
    used_by: int | None
    created_at: datetime

    @classmethod
    def of(cls, kept: KeptVolume) -> "VolumeOut":
        row = kept.volume
        return cls(
            id=row.pk,
            name=row.name,
            size_gb=row.volume.size_gb,
            service=row.service.slug if row.service else None,
            used_by=kept.used_by.pk if kept.used_by else None,
            created_at=row.created_at,
        )


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # noqa: S101 - the bearer token has seen to it
    return request.user


@router.get("", response={200: list[VolumeOut], 401: Problem}, summary="Your kept volumes")
def read_all(request: HttpRequest) -> Any:
    return [VolumeOut.of(kept) for kept in kept_volumes.visible_to(_user(request))]


@router.delete(
    "/{int:pk}",
    response={202: VolumeOut, 403: Problem, 404: Problem, 409: Problem, 401: Problem},
    summary="Delete it with what is in it",
)
def delete(request: HttpRequest, pk: int) -> Any:
    user = _user(request)
    rows = WorkspaceVolume.objects.present().visible_to(user).select_related("volume", "service", "workspace")
    volume = get_object_or_404(rows, pk=pk)
    check_user_can_delete_volume(user, volume)
    actions.delete_volume(volume=volume, by=user, now=timezone.now())
    return Status(202, VolumeOut.of(KeptVolume(volume, None)))
