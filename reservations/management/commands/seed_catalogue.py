"""manage.py seed_catalogue"""

from typing import Any

from django.core.management.base import BaseCommand
from django.db import transaction

from reservations.catalogue import (
    PROFILES,
    ROOM_FIELDS,
    SERVICES,
    SHELL_WITHOUT_KEYS,
    SHIPPED_BEFORE,
    SIZES,
    VERSIONS,
)
from reservations.guides import GUIDES
from reservations.models import Service, ServiceVersion, Size, StorageProfile


class Command(BaseCommand):
    help = (
        "Add the sizes, storage profiles and services that Berth ships, with versions. What exists already is left as"
        " it is, except that a service's containers are held in tighter where no admin has changed how, and that shells"
        " take the SSH keys of accounts."
    )

    def handle(self, **options: Any) -> None:
        added, tightened = [], 0
        with transaction.atomic():
            for size in SIZES:
                added.append(Size.objects.get_or_create(slug=size["slug"], defaults=size)[1])
            for profile in PROFILES:
                added.append(StorageProfile.objects.get_or_create(code=profile["code"], defaults=profile)[1])
            for service in SERVICES:
                default_size = Size.objects.get(slug=service["default_size"])
                guide = GUIDES.get(service["slug"], "")
                defaults = service | {"default_size": default_size, "guide": guide}
                row, new = Service.objects.get_or_create(slug=service["slug"], defaults=defaults)
                added.append(new)
                if not row.guide and guide:
                    Service.objects.filter(pk=row.pk).update(guide=guide)
                tightened += not new and _tighten(row, service)
                if row.image == service["image"]:  # an admin's other image has other versions
                    added += _versions(row)
                if row.environment == SHELL_WITHOUT_KEYS and row.image == service["image"]:
                    row.environment = service["environment"]
                    row.save(update_fields=["environment"])
        more = f" {tightened} services have their containers held in tighter." if tightened else ""
        self.stdout.write(f"Catalogue: {sum(added)} added, {len(added) - sum(added)} there already.{more}")


def _versions(row: Service) -> list[bool]:
    """Whether each version that is shipped was added."""
    return [
        ServiceVersion.objects.get_or_create(service=row, name=one["name"], defaults=one | {"service": row})[1]
        for one in VERSIONS
        if one["service"] == row.slug
    ]


def _tighten(row: Service, shipped: dict[str, Any]) -> bool:
    """Bring what holds its containers in up to date, unless an admin has changed it or the image."""
    if row.image != shipped["image"] or tuple(getattr(row, name) for name in ROOM_FIELDS) not in SHIPPED_BEFORE:
        return False
    usual = Service()
    for name in ROOM_FIELDS:
        setattr(row, name, shipped.get(name, getattr(usual, name)))
    row.save(update_fields=ROOM_FIELDS)
    return True
