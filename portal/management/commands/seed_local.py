"""manage.py seed_local"""

import os
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Register this machine's own Docker as the one node, behind no gateway: its published ports are public."

    def handle(self, **options: Any) -> None:
        engine = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        address = os.environ.get("BERTH_PUBLIC_ADDRESS", "127.0.0.1")
        call_command("add_gateway", "local", "--driver=direct", f"--public-address={address}", stdout=self.stdout)
        call_command(
            "add_node", "local", "--gateway=local", f"--address={address}", f"--engine={engine}", stdout=self.stdout
        )
        self.stdout.write("Images: set BERTH_REGISTRY and run manage.py mirror_images to make services available.")
