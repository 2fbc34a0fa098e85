from __future__ import annotations

from typing import TYPE_CHECKING

from django.apps import AppConfig

if TYPE_CHECKING:
    from datetime import datetime

    from compute.models import Node
    from reservations.states import State


class ReservationsConfig(AppConfig):
    name = "reservations"
    verbose_name = "Catalogue and reservations"

    def ready(self) -> None:
        from compute.health import node_back  # the models are there now
        from reservations import hints, watch
        from reservations.transitions import moved

        def wake(sender: object, node: Node, now: datetime, **rest: object) -> None:
            watch.wake(node, now)

        def room(sender: object, new: State, **rest: object) -> None:
            if new.final:
                hints.hint_of_room()

        node_back.connect(wake, weak=False, dispatch_uid="reservations.wake")
        moved.connect(room, weak=False, dispatch_uid="reservations.room")
