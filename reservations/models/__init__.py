"""What can be booked and what was booked."""

from reservations.models.catalogue import PortOfService, Service, ServiceVersion, Size, StorageProfile, WorkspaceVolume
from reservations.models.history import Event, IdempotencyKey, Orphan, UsagePeriod
from reservations.models.reservation import Container, Endpoint, Reservation, ReservationQuerySet
from reservations.models.waiting import WaitingEntry

__all__ = [
    "Container",
    "Endpoint",
    "Event",
    "IdempotencyKey",
    "Orphan",
    "PortOfService",
    "Reservation",
    "ReservationQuerySet",
    "Service",
    "ServiceVersion",
    "Size",
    "StorageProfile",
    "UsagePeriod",
    "WaitingEntry",
    "WorkspaceVolume",
]
