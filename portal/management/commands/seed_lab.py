"""manage.py seed_lab LAB.json"""

import json
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser


class Command(BaseCommand):
    help = "Register a lab's gateway, nodes and storage server, and mirror its images. Running it again is harmless."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("lab", type=Path, help="the lab.json that `python -m lab up` wrote")

    def handle(self, *, lab: Path, **options: Any) -> None:
        try:
            info = json.loads(lab.read_text())
        except (OSError, ValueError) as problem:
            raise CommandError(f"{lab} cannot be read: {problem}") from problem
        gateway, storage = info["gateway"], info["storage"]
        self._run(
            "add_gateway",
            gateway["name"],
            f"--public-address={gateway['public_address']}",
            f"--ssh={gateway['ssh']}",
            f"--private-subnet={info['private_subnet']}",
        )
        self._run("add_storage", storage["name"], f"--ssh={storage['ssh']}", f"--path={storage['path']}")
        for node in info["nodes"]:
            self._run(
                "add_node",
                node["name"],
                f"--gateway={gateway['name']}",
                f"--address={node['address']}",
                f"--engine={node['engine_url']}",
                f"--ssh={node['ssh']}",
                f"--ram-mib={node['ram_mib']}",
                f"--cores={node['cores']}",
            )
        upstream = info["upstream"]["address"]
        insecure = ["--insecure"] if info.get("upstream", {}).get("insecure", True) else []
        self._run("mirror_images", f"--from={upstream}", "--missing-ok", *insecure)

    def _run(self, *command: str) -> None:
        call_command(*command, stdout=self.stdout, stderr=self.stderr)
