"""manage.py prune_images"""

import json
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from compute.engine import EngineRefused, NoAnswer
from compute.management.spans import span
from compute.models import Node
from reservations import pruning
from reservations.pruning import Pruned

BY = "manage.py prune_images"


class Command(BaseCommand):
    help = (
        "Take images off the nodes that nothing needs any more: only those that Berth pulled for bookings, that no"
        " service offers today, that no live reservation was booked with, that no container stands on, and that no"
        " reservation used lately. Other people's images stay, whatever they are. Exits 1 if a node gave no answer or"
        " refused."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--node", action="append", metavar="NODE", help="only this one (may be given again)")
        parser.add_argument(
            "--older-than",
            type=span,
            default=timedelta(days=7),
            metavar="SPAN",
            help="that no reservation used for so long: 30m, 12h, 7d (default 7d)",
        )
        parser.add_argument("--dry-run", action="store_true", help="only show what would be taken off")
        parser.add_argument("--json", action="store_true", dest="as_json", help="for programs")

    def handle(
        self, *, node: list[str] | None, older_than: timedelta, dry_run: bool, as_json: bool, **options: Any
    ) -> None:
        nodes = list(Node.objects.present().filter(name__in=node) if node else Node.objects.present())
        if unknown := set(node or ()) - {row.name for row in nodes}:
            raise CommandError(f"There is no node {', '.join(sorted(unknown))}.")
        done: list[Pruned] = []
        problems = []
        for row in nodes:
            try:
                for image in pruning.prune(node=row, older_than=older_than, by=BY, now=timezone.now(), dry_run=dry_run):
                    done.append(image)
                    if not as_json:
                        self.stdout.write(_line(image))
            except (NoAnswer, EngineRefused) as problem:
                problems.append(f"{row.name}: {problem}")
        problems += [f"{image.node}: {image.reference}: {image.problem}" for image in done if image.problem]
        if as_json:
            images = [asdict(i) | {"last_used": i.last_used and i.last_used.isoformat()} for i in done]
            self.stdout.write(json.dumps({"dry_run": dry_run, "images": images, "problems": problems}, indent=2))
        else:
            count = sum(not image.problem for image in done)
            words = "would be taken off" if dry_run else "were taken off"
            size_mib = sum(image.size_mib for image in done if not image.problem)
            self.stdout.write(f"{count} images {words}: about {size_mib} MiB (layers that images share count twice).")
        if problems:
            raise CommandError("\n".join(problems))


def _line(image: Pruned) -> str:
    used = f"last used {image.last_used:%Y-%m-%d}" if image.last_used else "never used"
    return f"{image.node:16} {image.size_mib:>6} MiB  {used:20} {image.reference}"
