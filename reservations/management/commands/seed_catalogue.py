"""manage.py seed_catalogue"""

from typing import Any

from django.core.management.base import BaseCommand
from django.db import transaction

from reservations.catalogue import PROFILES, SERVICES, SIZES
from reservations.models import Service, Size, StorageProfile


class Command(BaseCommand):
    help = "Add the sizes, storage profiles and services that Berth ships. What exists already is left as it is."

    def handle(self, **options: Any) -> None:
        added = []
        with transaction.atomic():
            for size in SIZES:
                added.append(Size.objects.get_or_create(slug=size["slug"], defaults=size)[1])
            for profile in PROFILES:
                added.append(StorageProfile.objects.get_or_create(code=profile["code"], defaults=profile)[1])
            for service in SERVICES:
                default_size = Size.objects.get(slug=service["default_size"])
                defaults = service | {"default_size": default_size}
                added.append(Service.objects.get_or_create(slug=service["slug"], defaults=defaults)[1])
        self.stdout.write(f"Catalogue: {sum(added)} added, {len(added) - sum(added)} there already.")
