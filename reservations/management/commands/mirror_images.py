"""manage.py mirror_images"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from accounts import audit
from reservations import mirror
from reservations.models import Service


class Command(BaseCommand):
    help = (
        "Copy the services' images from an upstream registry into the private one (BERTH_REGISTRY) and record their"
        " digests. A service whose image is not in the private registry cannot be booked. Exits 1 if one failed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("service", nargs="*", help="slugs of services (default: all)")
        parser.add_argument("--from", dest="upstream", default="docker.io", help="upstream registry as host[:port]")
        parser.add_argument("--insecure", action="store_true", help="the upstream speaks plain http")
        parser.add_argument(
            "--missing-ok", action="store_true", help="images that the upstream does not have are no failure"
        )

    def handle(self, *, service: list[str], upstream: str, insecure: bool, missing_ok: bool, **options: Any) -> None:
        services = Service.objects.filter(slug__in=service) if service else Service.objects.all()
        if unknown := set(service) - set(services.values_list("slug", flat=True)):
            raise CommandError(f"There is no service {', '.join(sorted(unknown))}.")
        failed = 0
        for row in services:
            try:
                changed = mirror.mirror(row, upstream, insecure_upstream=insecure, now=timezone.now())
            except mirror.CannotMirror as problem:
                self.stdout.write(f"{row.slug:10} not mirrored: {problem}")
                failed += not (missing_ok and "does not have" in str(problem))
                continue
            if changed:
                audit.record(by="manage.py mirror_images", action="service.mirror", target=f"service:{row.slug}")
            self.stdout.write(f"{row.slug:10} {'mirrored' if changed else 'up to date'}")
        if failed:
            raise CommandError(f"{failed} images could not be mirrored.")
