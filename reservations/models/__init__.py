"""What can be booked and what was booked."""

from reservations.models.catalogue import PortOfService, Service, Size, StorageProfile, WorkspaceVolume
from reservations.models.history import Event, IdempotencyKey, Orphan, UsagePeriod
from reservations.models.reservation import Container, Endpoint, Reservation, ReservationQuerySet

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
    "Size",
    "StorageProfile",
    "UsagePeriod",
    "WorkspaceVolume",
]
