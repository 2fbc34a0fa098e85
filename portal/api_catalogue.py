"""The API's catalogue: what can be booked."""

from decimal import Decimal
from typing import Any

from django.http import HttpRequest
from django.utils import timezone
from ninja import Router, Schema

from reservations.models import Service, Size, StorageProfile
from reservations.pricing import prices

router = Router(tags=["catalogue"])


class PortOut(Schema):
    name: str
    kind: str
    port: int


class VersionOut(Schema):
    name: str
    image: str
    available: bool


class ServiceOut(Schema):
    """A service. `options` is the JSON Schema of what a booking may set, empty when there is nothing."""

    slug: str
    name: str
    description: str
    image: str
    ports: list[PortOut]
    default_size: str
    min_ram_mib: int
    versions: list[VersionOut]
    options: dict[str, Any]
    available: bool
    unavailable_reason: str


class SizeOut(Schema):
    slug: str
    name: str
    cores: Decimal
    ram_mib: int
    price_per_hour: Decimal


class StorageProfileOut(Schema):
    code: str
    name: str
    description: str
    default_gb: int
    max_gb: int


@router.get("/services", response=list[ServiceOut], summary="Services, and why one is not available")
def services(request: HttpRequest) -> Any:
    return [
        ServiceOut(
            slug=row.slug,
            name=row.name,
            description=row.description,
            image=row.image,
            ports=row.ports,
            default_size=row.default_size.slug,
            min_ram_mib=row.min_ram_mib,
            versions=[
                VersionOut(name=one.name, image=one.image, available=not one.unavailable_reason)
                for one in row.versions.all()
                if one.active
            ],
            options=row.options,
            available=row.available,
            unavailable_reason=row.unavailable_reason,
        )
        for row in Service.objects.filter(active=True).select_related("default_size").prefetch_related("versions")
    ]


@router.get("/sizes", response=list[SizeOut], summary="Sizes with their price an hour")
def sizes(request: HttpRequest) -> Any:
    rows = list(Size.objects.filter(active=True))
    hours = prices().per_hour([(row.cores, row.ram_mib) for row in rows], now=timezone.now())
    return [
        SizeOut(
            slug=row.slug,
            name=row.name,
            cores=row.cores,
            ram_mib=row.ram_mib,
            price_per_hour=price,
        )
        for row, price in zip(rows, hours, strict=True)
    ]


@router.get("/storage-profiles", response=list[StorageProfileOut], summary="Where data lives and for how long")
def storage_profiles(request: HttpRequest) -> Any:
    return StorageProfile.objects.filter(active=True)
