"""manage.py seed_local"""

import os
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    help = (
        "Register this machine's own Docker as the one node, behind no gateway: its published ports are public."
        " Unless BERTH_REGISTRY is set, images come from upstream and are pinned (mirror_images --pin-only)."
    )

    def handle(self, **options: Any) -> None:
        engine = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        address = os.environ.get("BERTH_PUBLIC_ADDRESS", "127.0.0.1")
        call_command("add_gateway", "local", "--driver=direct", f"--public-address={address}", stdout=self.stdout)
        call_command(
            "add_node", "local", "--gateway=local", f"--address={address}", f"--engine={engine}", stdout=self.stdout
        )
        if settings.BERTH_REGISTRY:
            self.stdout.write("Images: run manage.py mirror_images to copy them into the registry.")
            return
        try:
            call_command("mirror_images", "--pin-only", "--missing-ok", stdout=self.stdout)
        except CommandError as problem:  # offline: what was pinned before can still be booked
            self.stdout.write(f"Images: {problem} Run manage.py mirror_images --pin-only when upstream answers.")
