from __future__ import annotations

from typing import TYPE_CHECKING

from django.apps import AppConfig

if TYPE_CHECKING:
    from datetime import datetime

    from compute.models import Node


class ReservationsConfig(AppConfig):
    name = "reservations"
    verbose_name = "Catalogue and reservations"

    def ready(self) -> None:
        from compute.health import node_back  # the models are there now
        from reservations import watch

        def wake(sender: object, node: Node, now: datetime, **rest: object) -> None:
            watch.wake(node, now)

        node_back.connect(wake, weak=False, dispatch_uid="reservations.wake")
