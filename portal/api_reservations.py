"""The API's reservations."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Self
from uuid import UUID

from django.http import Http404, HttpRequest
from django.shortcuts import get_object_or_404
from django.utils import timezone
from ninja import Field, Header, Query, Router, Schema, Status
from pydantic import AfterValidator, AwareDatetime, ConfigDict, StrictBool, StrictInt, StrictStr, field_validator

from accounts.models import User, Workspace
from accounts.workspaces import personal_workspace
from portal.problems import Problem
from reservations import access, actions, batches, extending, extensions, logs, renaming, restarting, shortening
from reservations.actions import Booking, InvalidBooking
from reservations.hours import hours_of, length_of
from reservations.models import Endpoint, IdempotencyKey, Reservation, Service, Size, StorageProfile, WorkspaceVolume
from reservations.permissions import actionable, check_user_can_act, user_can_act
from reservations.sizes import CustomSize
from reservations.time_field import FIRST_YEAR, LAST_YEAR

router = Router(tags=["reservations"])
MOST_AT_ONCE = 500
MOST_YEARS = 100


def _without_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("Control characters are not allowed here")
    return value


Word = Annotated[str, AfterValidator(_without_nul)]  # PostgreSQL has no text with a NUL in it


Number = Annotated[int, Field(ge=1, le=2**63 - 1)]


class BookingIn(Schema):
    """What to book. `start` null is now; `hours` may be a fraction such as 0.25."""

    model_config = ConfigDict(extra="forbid")

    service: Word = Field(max_length=50, examples=["nginx"])
    size: Word | None = Field(None, max_length=50, description="Left out: the service's usual size", examples=["small"])
    cores: Decimal | None = Field(
        None, gt=0, le=10_000, max_digits=8, description="With `ram_mib`, in the place of `size`; steps of 0.25"
    )
    ram_mib: int | None = Field(None, ge=1, le=2**31 - 1, description="With `cores`; steps of 64")
    version: Word = Field("", max_length=40, description="One of the service's versions; empty: its usual one")
    options: dict[str, StrictStr | StrictInt | StrictBool] = Field(
        {}, max_length=50, description="Values that the service's `options` allow"
    )
    start: AwareDatetime | None = None
    hours: Decimal | None = Field(
        None, ge=-100_000, le=100_000, max_digits=12, description="Or `end`, which wins", examples=[2]
    )
    end: AwareDatetime | None = Field(None, description="At a full quarter of an hour")
    storage: Word = Field("C1", max_length=10)
    storage_gb: int | None = Field(None, ge=1, le=10_000)
    volume: Word | None = Field(None, max_length=60, description="The name of a kept volume, with C3")
    name: str = Field("", max_length=60)
    workspace: Number | None = Field(None, description="A number of /workspaces; left out, your personal one")


class EndpointOut(Schema):
    name: str
    host: str
    port: int
    container_port: int
    protocol: str = "tcp"
    kind: str
    allowed_sources: list[str] = Field([], description="IPv4 networks that may connect; none: everybody")

    @classmethod
    def of(cls, row: Endpoint) -> Self:
        return cls(
            name=row.name,
            host=row.host,
            port=row.port,
            container_port=row.container_port,
            kind=row.kind,
            allowed_sources=row.forward.allowed_sources,
        )


class ReservationOut(Schema):
    """A reservation. `credentials` are for who may act on it, and so are the commands in `connect`, which hold them.

    Both are empty for a token that may only write, and for a member of the workspace who may only look at it.
    `price` is what it costs if all of it is served.
    """

    id: int
    name: str
    workspace: int
    booked_by: str | None
    state: str
    reason: str
    notes: list[str] = []
    service: str
    version: str
    options: dict[str, str | int | bool]
    batch: UUID | None
    cores: Decimal
    ram_mib: int
    storage: str
    storage_gb: int
    volume: str | None
    start: datetime
    end: datetime
    node: str | None
    endpoints: list[EndpointOut]
    credentials: dict[str, str]
    connect: list[str]
    price: Decimal

    @classmethod
    def of(cls, row: Reservation, request: HttpRequest, *, may_act: bool) -> Self:
        """The row as the token of this request may see it, and as who has it may."""
        told = may_act and bool(getattr(request, "may_read", False))
        return cls(
            id=row.pk,
            name=row.name,
            workspace=row.workspace_id,
            booked_by=row.created_by.username if row.created_by else None,
            state=row.state,
            reason=row.reason,
            notes=row.notes,
            service=row.service.slug,
            version=row.version,
            options=row.options,
            batch=row.batch,
            cores=row.cores,
            ram_mib=row.ram_mib,
            storage=row.storage,
            storage_gb=row.storage_gb,
            volume=row.kept_volume.name if row.kept_volume else None,
            start=row.start,
            end=row.end,
            node=row.node_name,
            endpoints=[EndpointOut.of(endpoint) for endpoint in row.endpoints.all()],
            credentials=row.credentials if told else {},
            connect=row.connect_commands if told else [],
            price=row.price,
        )


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # noqa: S101 - the bearer token has seen to it
    return request.user


@router.post(
    "",
    response={201: ReservationOut, 409: Problem, 422: Problem, 401: Problem},
    summary="Book a service",
    openapi_extra={"description": "Repeating it with the same `Idempotency-Key` header returns the first answer."},
)
def create(
    request: HttpRequest,
    payload: BookingIn,
    idempotency_key: Annotated[str | None, Header(alias="Idempotency-Key", max_length=200)] = None,
) -> Any:
    user = _user(request)
    unsaid = {"workspace"} if payload.workspace is None else None  # a key of before there was a choice stays the same
    once = (idempotency_key, payload.model_dump_json(exclude=unsaid)) if idempotency_key else None
    # A repeated key first: what it booked may not be offered any more.
    reservation = actions.earlier(user, once) if once else None
    if reservation is None:
        workspace = workspace_for(user, payload.workspace)
        reservation, _ = actions.book(
            booking=booking_of(payload, workspace.pk), workspace=workspace, by=user, now=timezone.now(), once=once
        )
    if not once:
        return Status(201, _answer(reservation.pk, request))
    key = IdempotencyKey.objects.get(user=user, key=once[0])
    if key.answer is None:
        IdempotencyKey.objects.filter(pk=key.pk, answer__isnull=True).update(
            answer=_answer(reservation.pk, request).model_dump(mode="json", exclude={"credentials", "connect"})
        )
        key.refresh_from_db()
    # Credentials are sealed in one place only; they never change.
    now = _answer(reservation.pk, request)
    first = ReservationOut(**now.model_dump() | (key.answer or {}))  # which may be from before a field was there
    return Status(201, first)


class BatchIn(BookingIn):
    """What to book several copies of. Their names are numbered."""

    copies: int = Field(ge=1, le=1000, examples=[3])


class BatchOut(Schema):
    """All copies, or none was booked. `batch` is null for a single one."""

    batch: UUID | None
    reservations: list[ReservationOut]


@router.post(
    "/batch",
    response={201: BatchOut, 409: Problem, 422: Problem, 401: Problem},
    summary="Book several copies of a service at once: all of them or none",
    openapi_extra={"description": "Repeating it with the same `Idempotency-Key` header returns the same reservations."},
)
def create_batch(
    request: HttpRequest,
    payload: BatchIn,
    idempotency_key: Annotated[str | None, Header(alias="Idempotency-Key", max_length=200)] = None,
) -> Any:
    user = _user(request)
    workspace = workspace_for(user, payload.workspace)
    once = (idempotency_key, payload.model_dump_json()) if idempotency_key else None
    first = actions.earlier(user, once) if once else None
    rows = (
        batches.of_batch(first)
        if first
        else batches.book(
            booking=booking_of(payload, workspace.pk),
            copies=payload.copies,
            workspace=workspace,
            by=user,
            now=timezone.now(),
            once=once,
        )
    )
    _get(request, rows[0].pk)  # a repeated key may be of a workspace that its user has left
    shown = list(Reservation.objects.filter(pk__in=[row.pk for row in rows]).for_pages().order_by("pk"))
    mine = actionable(user, shown)
    answers = [ReservationOut.of(row, request, may_act=row.pk in mine) for row in shown]
    return Status(201, BatchOut(batch=rows[0].batch, reservations=answers))


def _answer(pk: int, request: HttpRequest) -> ReservationOut:
    row = _get(request, pk)  # a repeated key may be of a workspace that its user has left
    return ReservationOut.of(row, request, may_act=user_can_act(_user(request), row))


def workspace_for(user: User, asked: int | None) -> Workspace:
    """For which it is: the personal one, whatever was chosen in the browser, so that a script does what it did."""
    if asked is None:
        return personal_workspace(user)
    found = Workspace.objects.of(user).filter(pk=asked).first()
    if found is None:
        raise InvalidBooking({"workspace": f"There is no workspace {asked}, or you are not a member of it."})
    if found.closed_at is not None:
        raise InvalidBooking({"workspace": f"The workspace {found.name} is closed; nothing can be booked for it."})
    return found


def booking_of(payload: BookingIn, workspace_id: int) -> Booking:
    problems = {}
    service = Service.objects.select_related("default_size").filter(slug=payload.service, active=True).first()
    if service is None:
        problems["service"] = f"There is no service {payload.service!r}."
    size, bad_size = size_of(payload.size, payload.cores, payload.ram_mib)
    problems |= bad_size
    storage = StorageProfile.objects.filter(code=payload.storage, active=True).first()
    if storage is None:
        problems["storage"] = f"There is no storage profile {payload.storage!r}."
    volume = None
    if payload.volume:
        volume = WorkspaceVolume.objects.present().filter(workspace_id=workspace_id, name=payload.volume).first()
        if volume is None:
            problems["volume"] = "There is no such volume in this workspace."
    if payload.hours is None and payload.end is None:
        problems["hours"] = "Say hours, or an end."
    if problems or service is None or storage is None:
        raise InvalidBooking(problems)
    return Booking(
        service=service,
        size=size or service.default_size,
        start=payload.start,
        length=length_of(payload.hours or Decimal(0)),
        end=payload.end,
        storage=storage,
        storage_gb=payload.storage_gb,
        volume=volume,
        name=payload.name,
        version=payload.version,
        options=payload.options,
    )


def size_of(
    slug: str | None, cores: Decimal | None, ram_mib: int | None
) -> tuple[Size | CustomSize | None, dict[str, str]]:
    """The size that is asked for, None for the service's usual one; and what is wrong with it."""
    if cores is not None and ram_mib is not None:
        if slug:
            return None, {"size": "Say a size, or cores and ram_mib."}
        return CustomSize(cores, ram_mib), {}
    if cores is not None or ram_mib is not None:
        missing, there = ("ram_mib", "cores") if ram_mib is None else ("cores", "ram_mib")
        return None, {missing: f"This is needed together with {there}."}
    size = Size.objects.filter(slug=slug, active=True).first() if slug else None
    return size, {"size": f"There is no size {slug!r}."} if slug and size is None else {}


class Filter(Schema):
    live: bool | None = None
    workspace: Number | None = Field(None, description="A number of /workspaces; left out, all of yours")
    since: AwareDatetime | None = Field(None, alias="from", description="What has some of its time at or after this")
    until: AwareDatetime | None = Field(None, description="What has some of its time before this")

    def window(self) -> tuple[datetime | None, datetime | None]:
        """From and until in UTC. PostgreSQL reads neither every zone nor every year that Python has."""
        found = {"from": self.since, "until": self.until}
        for name, at in found.items():
            if at is not None and not FIRST_YEAR <= at.year <= LAST_YEAR:
                raise InvalidBooking({name: f"The year must be between {FIRST_YEAR} and {LAST_YEAR}."})
            found[name] = at and at.astimezone(UTC)
        since, until = found.values()
        if since and until and until <= since:
            raise InvalidBooking({"until": "Until must be after from."})
        return since, until

    limit: int = Field(100, ge=1, le=MOST_AT_ONCE)
    offset: int = Field(0, ge=0, le=1_000_000)


@router.get(
    "",
    response={200: list[ReservationOut], 404: Problem, 422: Problem, 401: Problem},
    summary="Your reservations, newest first",
)
def read_all(request: HttpRequest, found: Query[Filter]) -> Any:
    rows = Reservation.objects.visible_to(_user(request)).for_pages().order_by("-created_at", "-pk")
    if found.workspace is not None:
        rows = rows.filter(workspace=get_object_or_404(Workspace.objects.of(_user(request)), pk=found.workspace))
    rows = rows.overlapping(*found.window())
    if found.live is not None:
        rows = rows.live() if found.live else rows.past()
    page = list(rows[found.offset : found.offset + found.limit])
    mine = actionable(_user(request), page)
    return [ReservationOut.of(row, request, may_act=row.pk in mine) for row in page]


@router.get("/{int:pk}", response={200: ReservationOut, 404: Problem, 401: Problem}, summary="One reservation")
def read(request: HttpRequest, pk: int) -> Any:
    row = _get(request, pk)
    return ReservationOut.of(row, request, may_act=user_can_act(_user(request), row))


@router.delete(
    "/{int:pk}",
    response={202: ReservationOut, 403: Problem, 404: Problem, 409: Problem, 401: Problem},
    summary="End it now",
)
def delete(request: HttpRequest, pk: int) -> Any:
    user = _user(request)
    reservation = _get_to_act(request, pk)
    actions.end(reservation=reservation, text=f"Deleted by {user.username}.", by=user, now=timezone.now())
    return Status(202, _answer(pk, request))


class NameIn(Schema):
    """What it shall be called; empty: as its service."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=10_000, examples=["the shop's cache"], description="At most 60 characters")


@router.patch(
    "/{int:pk}",
    response={200: ReservationOut, 404: Problem, 422: Problem, 401: Problem},
    summary="Give it another name",
)
def rename(request: HttpRequest, pk: int, payload: NameIn) -> Any:
    renaming.rename(reservation=_get_to_act(request, pk), name=payload.name, by=_user(request), now=timezone.now())
    return _answer(pk, request)


class ExtensionIn(Schema):
    """How much later it shall end, or when: one of both."""

    model_config = ConfigDict(extra="forbid")

    hours: Decimal | None = Field(None, ge=-100_000, le=100_000, max_digits=12, examples=[1])
    end: AwareDatetime | None = Field(None, examples=[None])

    def later_by(self, end: datetime) -> timedelta:
        """How much later than `end`; less than nothing is earlier."""
        if self.hours is not None and self.end is None:
            return length_of(self.hours)
        if self.end is None or self.hours is not None:
            raise InvalidBooking({"hours": "Say by how many hours, or its new end: one of both."})
        if abs(self.end.year - end.year) > MOST_YEARS:
            raise InvalidBooking({"end": "This is no end that a reservation can have."})
        return self.end - end

    @contextmanager
    def naming_the_field(self) -> Iterator[None]:
        """What is wrong with the length is said at the field that gave it."""
        try:
            yield
        except InvalidBooking as problem:
            names = {"hours": "hours" if self.end is None else "end"}
            raise InvalidBooking({names.get(name, name): text for name, text in problem.problems.items()}) from problem


class ExtensionOut(Schema):
    """An extension that fits now; `price` is that of the whole, `more` what is added to it."""

    hours: Decimal
    end: datetime
    price: Decimal
    more: Decimal


class ExtensionsOut(Schema):
    """What fits now, shortest first. Nothing is held by asking."""

    latest: datetime = Field(description="The latest end that it could have; today's end when it cannot be extended")
    reason: str = Field(description="Why not later")
    extensions: list[ExtensionOut]


@router.get(
    "/{int:pk}/extensions",
    response={200: ExtensionsOut, 404: Problem, 401: Problem},
    summary="By how much it can be extended, and at what price",
)
def read_extensions(request: HttpRequest, pk: int) -> Any:
    found = extensions.offers(_get(request, pk), timezone.now())
    return ExtensionsOut(
        latest=found.latest,
        reason=found.why,
        extensions=[
            ExtensionOut(
                hours=hours_of(timedelta(minutes=each.minutes)), end=each.end, price=each.price, more=each.more
            )
            for each in found.extensions
        ],
    )


@router.post(
    "/{int:pk}/extend",
    response={200: ReservationOut, 403: Problem, 404: Problem, 409: Problem, 422: Problem, 401: Problem},
    summary="Let it end later, at the same address",
)
def extend(request: HttpRequest, pk: int, payload: ExtensionIn) -> Any:
    reservation = _get_to_act(request, pk)
    length = payload.later_by(reservation.end)
    with payload.naming_the_field():
        extending.extend(
            reservation=reservation,
            length=length,
            by=_user(request),
            now=timezone.now(),
            seen_end=reservation.end if payload.end else None,
        )
    return _answer(pk, request)


class SourcesIn(Schema):
    """Who may connect: addresses and networks of IPv4; none is everybody."""

    model_config = ConfigDict(extra="forbid")

    allowed_sources: list[Annotated[Word, Field(max_length=60)]] = Field(
        max_length=1000, examples=[["203.0.113.7", "198.51.100.0/24"]]
    )


@router.put(
    "/{int:pk}/endpoints/{str:name}/allowed-sources",
    response={200: EndpointOut, 403: Problem, 404: Problem, 409: Problem, 422: Problem, 401: Problem},
    summary="Say who may connect to one of its ports",
)
def allow(request: HttpRequest, pk: int, name: Word, payload: SourcesIn) -> Any:
    reservation = _get_to_act(request, pk)
    if name not in {endpoint.name for endpoint in reservation.endpoints.all()}:
        raise Http404
    access.allow(
        reservation=reservation, endpoint=name, sources=payload.allowed_sources, by=_user(request), now=timezone.now()
    )
    row = Endpoint.objects.select_related("forward__gateway").get(reservation=reservation, forward__name=name)
    return EndpointOut.of(row)


class LogLineOut(Schema):
    """A line that the container wrote. `at` is a cursor for `since`: nanoseconds since 1970, as a text."""

    at: str
    time: datetime
    text: str
    error: bool


class LogOut(Schema):
    """The newest lines, the oldest first. `problem` says why there are none; `older`: some were left out."""

    lines: list[LogLineOut]
    older: bool
    problem: str
    cursor: str | None = Field(description="What to send as `since` for what is written later")


class LogFilter(Schema):
    tail: int = Field(logs.USUAL, ge=1, le=5000)
    since: Word = Field("", max_length=40, description="A `cursor`, or a time with its zone")
    search: Word = Field("", max_length=logs.MOST_SEARCHED)

    @field_validator("since")
    @classmethod
    def _is_a_time(cls, value: str) -> str:
        logs.cursor_of(value)
        return value


@router.get(
    "/{int:pk}/logs",
    response={200: LogOut, 403: Problem, 404: Problem, 422: Problem, 401: Problem},
    summary="The last lines that it wrote",
)
def read_logs(request: HttpRequest, pk: int, asked: Query[LogFilter]) -> Any:
    reservation = _get_to_act(request, pk)
    found = logs.read(reservation, tail=asked.tail, after_ns=logs.cursor_of(asked.since), search=asked.search)
    return LogOut(
        lines=[LogLineOut(at=str(line.ns), time=line.at, text=line.text, error=line.error) for line in found.lines],
        older=found.older,
        problem=found.problem,
        cursor=None if found.cursor is None else str(found.cursor),
    )


class ShorteningIn(ExtensionIn):
    """How much earlier it shall end, or when: one of both."""


@router.post(
    "/{int:pk}/shorten",
    response={200: ReservationOut, 404: Problem, 409: Problem, 422: Problem, 401: Problem},
    summary="Let it end earlier; what it held after that is free at once",
)
def shorten(request: HttpRequest, pk: int, payload: ShorteningIn) -> Any:
    reservation = _get_to_act(request, pk)
    later_by = payload.later_by(reservation.end)
    length = later_by if payload.end is None else -later_by
    with payload.naming_the_field():
        shortening.shorten(
            reservation=reservation,
            length=length,
            by=_user(request),
            now=timezone.now(),
            seen_end=reservation.end if payload.end else None,
        )
    return _answer(pk, request)


@router.post(
    "/{int:pk}/restart",
    response={202: ReservationOut, 404: Problem, 409: Problem, 401: Problem},
    summary="Stop it and start it again; place, address and data stay",
)
def restart(request: HttpRequest, pk: int) -> Any:
    restarting.restart(reservation=_get_to_act(request, pk), by=_user(request), now=timezone.now())
    return Status(202, _answer(pk, request))


def _get(request: HttpRequest, pk: int) -> Reservation:
    return get_object_or_404(Reservation.objects.visible_to(_user(request)).for_pages(), pk=pk)


def _get_to_act(request: HttpRequest, pk: int) -> Reservation:
    """One that the visitor may act on. Raises NotAllowed for one that they only see."""
    reservation = _get(request, pk)
    check_user_can_act(_user(request), reservation)
    return reservation
