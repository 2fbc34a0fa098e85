"""manage.py doctor"""

import json
import time
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from compute import load_steps
from compute.models import Node
from reservations import doctor

SETTLE_S = 3


class Command(BaseCommand):
    help = (
        "Check what must always hold against the machines themselves, and say what is wrong and how to mend it."
        " Changes nothing unless told to. Exits 1 if something was found or could not be checked."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", dest="as_json", help="for programs")
        parser.add_argument(
            "--mend-plan", action="store_true", help="first compute every node's plan anew from its bookings"
        )

    def handle(self, *, as_json: bool, mend_plan: bool, **options: Any) -> None:
        if mend_plan:
            for node in Node.objects.present():
                load_steps.rebuild(node)
        found = doctor.examine(timezone.now())
        if found:
            # What is just being started or ended looks wrong for a moment: only what stays so is reported.
            time.sleep(SETTLE_S)
            found = doctor.lasting(found, doctor.examine(timezone.now()))
        if as_json:
            rows = [asdict(finding) for finding in found]
            self.stdout.write(json.dumps([{k: v for k, v in row.items() if k != "key"} for row in rows], indent=2))
        elif not found:
            self.stdout.write("Everything that was promised holds: nodes, gateways, storage and rows agree.")
        else:
            for finding in found:
                promise = f"promise {finding.promise}" if finding.promise else "not checked"
                self.stdout.write(f"{finding.where}: {finding.sentence} ({promise}).\n    {finding.mend}")
            self.stdout.write(f"{len(found)} findings.")
        if found:
            raise SystemExit(1)
