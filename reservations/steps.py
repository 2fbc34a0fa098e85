"""How far a start is, as its owner sees it: derived from what is known, nothing is kept for it."""

from dataclasses import dataclass
from enum import IntEnum

from compute.spec import Presence
from reservations.models import Reservation
from reservations.states import State


class Place(IntEnum):
    """The steps in their order."""

    HELD = 0
    IMAGE = 1
    VOLUME = 2
    CONTAINER = 3
    GATEWAY = 4
    ANSWERS = 5


WORDS = {
    Place.HELD: ("Place held", "Its cores, its RAM and its address are reserved."),
    Place.IMAGE: ("Image", "The node fetches the image, if it does not have it yet."),
    Place.VOLUME: ("Volume and network", "Its volume is attached, and it gets a network of its own."),
    Place.CONTAINER: ("Container", "The container is made and started."),
    Place.GATEWAY: ("Gateway", "The gateway leads its public address to it."),
    Place.ANSWERS: ("Answers", "The service is asked whether it answers yet."),
}


@dataclass(frozen=True, slots=True)
class Step:
    """`state` is done, now or todo; `progress` in % where that is known."""

    text: str
    says: str
    state: str
    progress: int | None = None


def of(reservation: Reservation) -> list[Step]:
    """The steps of one that is starting; none for any other."""
    if reservation.state != State.STARTING:
        return []
    here = _here(reservation)
    fetching = here == Place.IMAGE and reservation.progress is not None
    return [
        Step(
            WORDS[place][0],
            WORDS[place][1],
            "done" if place < here else "now" if place == here else "todo",
            reservation.progress if fetching and place == here else None,
        )
        for place in Place
    ]


def _here(reservation: Reservation) -> Place:
    container = reservation.current_container
    if container is None or (reservation.progress is not None and reservation.progress < 100):
        return Place.IMAGE
    if container.presence == Presence.RUNNING:
        forwards = [endpoint.forward for endpoint in reservation.endpoints.all()]
        led = bool(forwards) and all(forward.wanted and forward.applied for forward in forwards)
        return Place.ANSWERS if led else Place.GATEWAY
    if container.expires_at is not None:  # it was told its end as it was made
        return Place.CONTAINER
    return Place.VOLUME if container.volume_id or reservation.progress is not None else Place.IMAGE
