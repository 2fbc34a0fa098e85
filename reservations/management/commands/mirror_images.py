"""manage.py mirror_images"""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Prefetch
from django.utils import timezone

from accounts import audit
from compute import drivers
from compute.engine import EngineRefused, NoAnswer
from compute.models import Node
from reservations import mirror
from reservations.mirror import Imaged
from reservations.models import Service, ServiceVersion


class Command(BaseCommand):
    help = (
        "Copy the images of the services and of their versions from an upstream registry into the private one"
        " (BERTH_REGISTRY) and record their digests. A service whose image is not in the private registry cannot be"
        " booked. Exits 1 if one failed. With --pin-only no private registry is needed: nodes pull from upstream"
        " (Docker Hub, or the registry that the image's name begins with), always the image whose digest was recorded."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("service", nargs="*", help="slugs of services (default: all)")
        parser.add_argument("--from", dest="upstream", default="docker.io", help="upstream registry as host[:port]")
        parser.add_argument("--insecure", action="store_true", help="the upstream speaks plain http")
        parser.add_argument(
            "--missing-ok", action="store_true", help="images that the upstream does not have are no failure"
        )

        parser.add_argument(
            "--pin-only",
            action="store_true",
            help="copy nothing, record digests only; for where BERTH_REGISTRY is not set. A node's engine is asked:"
            " an image of this name that it has is taken (docker pull it for a newer one), else what upstream has",
        )

    def handle(self, *, service: list[str], missing_ok: bool, pin_only: bool, **options: Any) -> None:
        services = Service.objects.filter(slug__in=service) if service else Service.objects.all()
        if unknown := set(service) - set(services.values_list("slug", flat=True)):
            raise CommandError(f"There is no service {', '.join(sorted(unknown))}.")
        versions = Prefetch("versions", ServiceVersion.objects.select_related("service"))
        rows: list[Imaged] = []
        for one in services.prefetch_related(versions):
            rows += [one, *one.versions.all()]
        bring = self._pinning(rows, options) if pin_only else self._copying(options)
        done, failed = "pinned" if pin_only else "mirrored", 0
        for row in rows:
            slug, name = _names(row)
            try:
                changed = bring(row)
            except mirror.CannotMirror as problem:
                self.stdout.write(f"{name:10} not {done}: {problem}")
                failed += not (missing_ok and "does not have" in str(problem))
                continue
            if changed:
                audit.record(
                    by="manage.py mirror_images", action="service.mirror", target=f"service:{slug}", image=row.image
                )
            self.stdout.write(f"{name:10} {done if changed else 'up to date'}")
        if failed:
            raise CommandError(f"{failed} images could not be {done}.")

    def _copying(self, options: dict[str, Any]) -> Callable[[Imaged], bool]:
        return lambda row: mirror.mirror(
            row, options["upstream"], insecure_upstream=options["insecure"], now=timezone.now()
        )

    def _pinning(self, services: list[Imaged], options: dict[str, Any]) -> Callable[[Imaged], bool]:
        if settings.BERTH_REGISTRY:
            raise CommandError(
                f"BERTH_REGISTRY is set: nodes pull from {settings.BERTH_REGISTRY}. Leave --pin-only out."
            )
        if options["upstream"] != "docker.io" or options["insecure"]:
            raise CommandError(
                "--from and --insecure are for copying; with --pin-only the engine knows its registries."
            )
        node = Node.objects.present().first()
        if node is None:
            raise CommandError("There is no node to ask; add one first with manage.py add_node.")
        try:
            engine = drivers.engine(node)
        except (NoAnswer, EngineRefused) as problem:
            raise CommandError(f"{node}: {problem}") from problem
        answers = mirror.ask(engine, [row.image for row in services])
        return lambda row: mirror.pin(row, answers[row.image], now=timezone.now())


def _names(row: Imaged) -> tuple[str, str]:
    """The service's slug, and what to call the row."""
    if isinstance(row, ServiceVersion):
        return row.service.slug, f"{row.service.slug} {row.name}"
    return row.slug, row.slug
