"""Lives of reservations through the real transitions, with the time of each step passed in."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from accounts.models import User
from compute.models import Volume
from reservations import actions, ending, extending, shortening
from reservations.models import Container, Reservation
from reservations.states import State
from reservations.transitions import PLATFORM, transition
from tests.factories import make_booking, workspace_of

SOON = timedelta(seconds=3)


@dataclass
class Life:
    """One reservation. Each step takes the instant at which it happens, later than that of the step before."""

    row: Reservation

    @classmethod
    def booked(cls, user: User, at: datetime, length: timedelta, **values: Any) -> "Life":
        booking = make_booking(start=values.pop("start", at), length=length, **values)
        return cls(actions.book(booking=booking, workspace=workspace_of(user), by=user, now=at)[0])

    @property
    def state(self) -> State:
        return State(self.row.state)

    def move_to(self, state: State, at: datetime, **changes: Any) -> "Life":
        transition(self.row, state, text="It is so.", by=PLATFORM, now=at, **changes)
        return self

    def runs(self, at: datetime, after: timedelta = SOON) -> "Life":
        """It begins to start now, and serves from a moment later on."""
        if self.state != State.STARTING:
            self.move_to(State.STARTING, at)
        if self.row.kept_volume:
            Volume.objects.filter(pk=self.row.kept_volume.volume_id, formatted_at=None).update(formatted_at=at)
        return self.move_to(State.RUNNING, at + after)

    def stops(self, at: datetime) -> "Life":
        return self.move_to(State.STOPPED, at)

    def fails(self, noted: datetime, seen_last: datetime) -> "Life":
        """Its container or node was lost; it is being started again, there or elsewhere."""
        Container.objects.filter(reservation=self.row).update(observed_at=seen_last)
        return self.move_to(State.STARTING, noted, served_until=seen_last)

    def extended(self, at: datetime, length: timedelta, by: User) -> "Life":
        self.row = extending.extend(reservation=self.row, length=length, by=by, now=at)
        return self

    def shortened(self, at: datetime, length: timedelta, by: User) -> "Life":
        self.row = shortening.shorten(reservation=self.row, length=length, by=by, now=at)
        return self

    def ends(self, at: datetime) -> "Life":
        """Deleted, or its time is over; everything of it is gone a moment later."""
        actions.start_ending(self.row, text="Over.", by=PLATFORM, now=at)
        return self.gone(at + SOON)

    def gone(self, at: datetime) -> "Life":
        for container in ending.present(self.row):
            ending.note_gone(container, at)
        ending.finish(self.row, at)
        return self


def lived(user: User, at: datetime, hours: float, **values: Any) -> Life:
    """Booked at `at` for whole hours, served from a moment later to its end, and gone."""
    length = timedelta(hours=max(1, -int(-hours // 1)))
    return Life.booked(user, at, length, **values).runs(at).ends(at + timedelta(hours=hours))
