"""Book again: what the form begins with so that it asks for an earlier reservation once more."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

from accounts.models import User
from reservations import options
from reservations.forms import duration_choices
from reservations.models import Reservation, Size, StorageProfile
from reservations.sizes import CUSTOM

LARGEST_ID = 2**63 - 1


def of(user: User, number: str) -> dict[str, Any] | None:
    """The values of the form for reservation `number`; None when `user` cannot see one of this number."""
    if not (number.isascii() and number.isdigit() and len(number) < 20 and int(number) <= LARGEST_ID):
        return None
    rows = Reservation.objects.visible_to(user).select_related("service", "workspace", "kept_volume")
    row = rows.filter(pk=int(number)).first()
    return _values(row) if row else None


def _values(row: Reservation) -> dict[str, Any]:
    slug = row.service.slug
    size = Size.objects.filter(active=True, cores=row.cores, ram_mib=row.ram_mib).first()
    values: dict[str, Any] = {
        "service": slug,
        "size": size.slug if size else CUSTOM,
        "name": row.name,
        "duration": _duration(row),
        "storage": row.storage,
        f"version-{slug}": row.version,
    }
    if size is None:
        values |= {"cores": Decimal(f"{row.cores.normalize():f}"), "ram_mib": row.ram_mib}
    if row.storage != StorageProfile.Code.C3:
        values["storage_gb"] = row.storage_gb
    elif row.kept_volume:
        values["volume"] = row.kept_volume_id
    set_of_it = options.as_environment(row.options)
    return values | {f"option-{slug}-{name}": value for name, value in set_of_it.items()}


def _duration(row: Reservation) -> int:
    """The shortest duration that is offered and not shorter than it was, in minutes; else the longest."""
    offered = [minutes for minutes, _ in duration_choices(row.workspace.max_hours)]
    return next((minutes for minutes in offered if timedelta(minutes=minutes) >= row.length), offered[-1])
