"""What somebody asks for, and whether it makes sense: everything that can be said without looking at who holds what."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError

from accounts.models import Workspace
from accounts.validators import no_control_characters
from compute import capacity
from compute.models import StorageServer
from reservations import options
from reservations.models import Service, Size, StorageProfile, WorkspaceVolume
from reservations.sizes import CORE_STEP, LEAST_RAM_MIB, RAM_STEP_MIB, CustomSize

LATE_START = timedelta(minutes=2)  # a start that was "now" when the form was filled in is still now


@dataclass(frozen=True, slots=True, kw_only=True)
class Booking:
    """What somebody asks for. `start` None is now; `length` is how long from then, unless there is an exact `end`.

    `version` is the name of one of the service's versions, empty for its usual image; `options` are values of the
    service's schema.
    """

    service: Service
    size: Size | CustomSize
    length: timedelta
    start: datetime | None = None
    end: datetime | None = None
    storage: StorageProfile
    storage_gb: int | None = None
    volume: WorkspaceVolume | None = None
    name: str = ""
    version: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def lasts(self, now: datetime) -> timedelta:
        """How long it would be if it began when it says; not more than zero where that makes no sense."""
        return self.end - (self.start or now) if self.end else self.length


class InvalidBooking(Exception):
    """Something in the booking cannot be; `problems` has a sentence for each field."""

    code = "invalid"

    def __init__(self, problems: dict[str, str]) -> None:
        self.problems = problems
        super().__init__(" ".join(problems.values()))


def check(booking: Booking, workspace: Workspace, now: datetime) -> tuple[datetime, datetime]:
    """The window of a booking that makes sense; raises InvalidBooking with every problem at its field."""
    start = booking.start or now
    problems: dict[str, str] = {}
    if booking.service.unavailable_reason:
        problems["service"] = f"{booking.service.name} is not available: {booking.service.unavailable_reason}"
    problems |= _check_size(booking, workspace)
    problems |= _check_time(booking, workspace, start, now)
    problems |= _check_storage(booking, workspace)
    problems |= _check_version(booking)
    problems |= options.problems(booking.service.options, booking.options)
    if len(booking.name) > 60:
        problems["name"] = "A name has at most 60 characters."
    try:
        no_control_characters(booking.name)
    except ValidationError as problem:
        problems["name"] = problem.messages[0]
    if problems:
        raise InvalidBooking(problems)
    # In UTC: in a zone with summer time Python adds hours of the wall's clock, which are not always an hour long.
    start = max(start, now).astimezone(UTC)
    return start, booking.end.astimezone(UTC) if booking.end else start + booking.length


def image_of(booking: Booking) -> str:
    """The image by its digest of today, of the version that was chosen; only after `check`."""
    if not booking.version:
        return booking.service.reference
    return booking.service.versions.get(name=booking.version).reference


def _check_size(booking: Booking, workspace: Workspace) -> dict[str, str]:
    size, service = booking.size, booking.service
    if isinstance(size, CustomSize):
        return _check_custom(size, service, workspace)
    if not size.active:
        return {"size": "This size is not offered any more."}
    if size.ram_mib < service.min_ram_mib:
        return {"size": f"{service.name} needs at least {service.min_ram_mib} MiB of RAM."}
    return {}


def _check_custom(size: CustomSize, service: Service, workspace: Workspace) -> dict[str, str]:
    node_ram_mib, node_cores = capacity.largest()
    problems = {}
    if size.cores < CORE_STEP or size.cores % CORE_STEP:
        problems["cores"] = f"Cores come in steps of {CORE_STEP}, from {CORE_STEP} on."
    elif size.cores > workspace.max_cores:
        problems["cores"] = f"The quota of {workspace.name} allows {_plain(workspace.max_cores)} cores at once."
    elif node_cores and size.cores > node_cores:
        problems["cores"] = f"The largest compute node lends {_plain(node_cores)} cores."
    if size.ram_mib < LEAST_RAM_MIB or size.ram_mib % RAM_STEP_MIB:
        problems["ram_mib"] = f"RAM comes in steps of {RAM_STEP_MIB} MiB, from {LEAST_RAM_MIB} MiB on."
    elif size.ram_mib < service.min_ram_mib:
        problems["ram_mib"] = f"{service.name} needs at least {service.min_ram_mib} MiB of RAM."
    elif size.ram_mib > workspace.max_ram_mib:
        problems["ram_mib"] = f"The quota of {workspace.name} allows {workspace.max_ram_mib} MiB of RAM at once."
    elif node_ram_mib and size.ram_mib > node_ram_mib:
        problems["ram_mib"] = f"The largest compute node lends {node_ram_mib} MiB of RAM."
    return problems


def _check_time(booking: Booking, workspace: Workspace, start: datetime, now: datetime) -> dict[str, str]:
    problems = {}
    step = timedelta(minutes=settings.BERTH_STEP_MINUTES)
    longest = timedelta(hours=workspace.max_hours)
    if booking.end is not None:
        if booking.end <= max(start, now):
            problems["end"] = "The end must be after the start."
        elif (booking.end - datetime.min.replace(tzinfo=UTC)) % step:
            problems["end"] = f"The end must be at a full {settings.BERTH_STEP_MINUTES} minutes of the clock."
        elif booking.end - max(start, now) > longest:
            problems["end"] = f"At most {workspace.max_hours} hours can be booked at once."
    elif booking.length <= timedelta(0):
        problems["duration"] = "The duration must be longer than zero."
    elif booking.length % step:
        problems["duration"] = f"The duration must be a multiple of {settings.BERTH_STEP_MINUTES} minutes."
    elif booking.length > longest:
        problems["duration"] = f"At most {workspace.max_hours} hours can be booked at once."
    if start < now - LATE_START:
        problems["start"] = "The start is in the past."
    elif start > now + timedelta(days=workspace.max_days_ahead):
        problems["start"] = f"The start can be at most {workspace.max_days_ahead} days ahead."
    return problems


def _check_storage(booking: Booking, workspace: Workspace) -> dict[str, str]:
    profile, size_gb = booking.storage, booking.storage_gb
    if not profile.active:
        return {"storage": "This storage profile is not offered any more."}
    if booking.volume:
        if profile.code != StorageProfile.Code.C3:
            return {"volume": "Only storage profile C3 can use a kept volume."}
        if not WorkspaceVolume.objects.present().filter(workspace=workspace, pk=booking.volume.pk).exists():
            return {"volume": "There is no such volume in this workspace."}
        if booking.volume.service_id not in {None, booking.service.pk}:
            return {"volume": f"This volume holds the data of another service ({booking.volume.service})."}
        return {}
    if size_gb is not None and not 1 <= size_gb <= profile.max_gb:
        return {"storage_gb": f"The size must be between 1 and {profile.max_gb} GB."}
    if profile.code != StorageProfile.Code.C1 and not StorageServer.objects.filter(active=True).exists():
        return {"storage": "No storage server is in service; only C1 can be booked."}
    return {}


def _check_version(booking: Booking) -> dict[str, str]:
    if not booking.version:
        return {}
    found = booking.service.versions.filter(name=booking.version.replace("\0", "")[:41]).first()
    if found is None or found.name != booking.version:
        return {"version": f"{booking.service.name} has no version of this name."}
    if found.unavailable_reason:
        return {"version": f"Version {found.name} is not available: {found.unavailable_reason}"}
    return {}


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"
