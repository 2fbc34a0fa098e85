"""The API's news for the person of the token."""

from datetime import datetime
from typing import Annotated, Any

from django.http import Http404, HttpRequest
from django.utils import timezone
from ninja import Query, Router, Schema

from accounts import news
from accounts.models import Notification, User
from portal.problems import Problem

router = Router(tags=["notifications"])
MOST_AT_ONCE = 500
MOST = 2**63 - 1


class NotificationOut(Schema):
    """A piece of news; `path` is the page that it is about, `kind` as a person chooses them."""

    id: int
    kind: str
    title: str
    text: str
    path: str
    created_at: datetime
    read_at: datetime | None

    @classmethod
    def of(cls, row: Notification) -> "NotificationOut":
        return cls(
            id=row.pk,
            kind=row.kind,
            title=row.title,
            text=row.text,
            path=row.path,
            created_at=row.created_at,
            read_at=row.read_at,
        )


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # noqa: S101 - the bearer token has seen to it
    return request.user


@router.get(
    "",
    response={200: list[NotificationOut], 422: Problem, 401: Problem},
    summary="Your news, newest first",
)
def read_all(
    request: HttpRequest,
    unread: bool | None = None,
    limit: Annotated[int, Query(ge=1, le=MOST_AT_ONCE)] = 100,
    before: Annotated[int | None, Query(ge=1, le=MOST, description="Only those with a smaller id")] = None,
) -> Any:
    rows = news.shown_to(_user(request))
    if unread is not None:
        rows = rows.filter(read_at__isnull=unread)
    if before is not None:
        rows = rows.filter(pk__lt=before)
    return [NotificationOut.of(row) for row in rows.order_by("-pk")[:limit]]


@router.post(
    "/{int:pk}/read", response={200: NotificationOut, 401: Problem, 404: Problem}, summary="Note that you have read it"
)
def read(request: HttpRequest, pk: int) -> Any:
    """Once more changes nothing."""
    row = news.read(user=_user(request), pk=pk, now=timezone.now()) if pk <= MOST else None
    if row is None:
        raise Http404
    return NotificationOut.of(row)
