"""The API's availability: how much room there is for a size, hour by hour."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from django.http import HttpRequest
from django.utils import timezone
from ninja import Field, Query, Router, Schema

from portal.api_reservations import Word, size_of
from portal.problems import Problem
from reservations import actions, availability
from reservations.actions import InvalidBooking
from reservations.models import Service, Size, StorageProfile

router = Router(tags=["catalogue"])


class Asked(Schema):
    service: Word | None = Field(None, max_length=50, examples=["nginx"])
    size: Word | None = Field(
        None, max_length=50, description="Left out: the service's usual size; without a service the smallest"
    )
    cores: Decimal | None = Field(None, gt=0, le=10_000, max_digits=8, description="With `ram_mib`")
    ram_mib: int | None = Field(None, ge=1, le=2**31 - 1, description="With `cores`")
    storage: Word = Field("C1", max_length=10)
    hours: int = Field(168, ge=1, le=336)


class HourOut(Schema):
    """`room` is free, tight (on a tenth of the nodes or less) or full; `fitting` is the number of nodes with room."""

    start: datetime
    room: str
    fitting: int


class AvailabilityOut(Schema):
    """Each hour is for itself: a longer time needs one node with room all through it, which a quote looks for."""

    cores: Decimal
    ram_mib: int
    nodes: int
    hours: list[HourOut]


@router.get(
    "", response={200: AvailabilityOut, 422: Problem, 401: Problem}, summary="Room for a size in the coming hours"
)
def read(request: HttpRequest, asked: Query[Asked]) -> Any:
    services = Service.objects.select_related("default_size").filter(active=True)
    service = services.filter(slug=asked.service).first() if asked.service else None
    size, problems = size_of(asked.size, asked.cores, asked.ram_mib)
    if asked.service and service is None:
        problems["service"] = f"There is no service {asked.service!r}."
    if not StorageProfile.objects.filter(code=asked.storage, active=True).exists():
        problems["storage"] = f"There is no storage profile {asked.storage!r}."
    if problems:
        raise InvalidBooking(problems)
    size = size or (service.default_size if service else Size.objects.filter(active=True).first())
    if size is None:
        raise InvalidBooking({"size": "The catalogue has no sizes."})
    nodes, hours = availability.hours_from(
        ram_mib=size.ram_mib,
        cores=size.cores,
        needs_host=actions.needs_host(asked.storage),
        start=timezone.now().replace(minute=0, second=0, microsecond=0),
        hours=asked.hours,
    )
    return {
        "cores": size.cores,
        "ram_mib": size.ram_mib,
        "nodes": nodes,
        "hours": [HourOut(start=hour.start, room=hour.room, fitting=hour.fitting) for hour in hours],
    }
