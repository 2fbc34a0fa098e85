"""The state machine's rules of the waiting list: who waits is offered a place, and takes it, or does not."""

from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from accounts.models import User, Workspace
from compute.capacity import NoCapacity
from reservations import actions, offering, waiting
from reservations.models import WaitingEntry
from tests.factories import make_booking, make_service, make_size, profile
from tests.unit.reservations.state_world import World

if TYPE_CHECKING:
    from collections import Counter

MOST_OFFERS = 2  # in one schedule: beside what is booked
DEEDS = ["take", "take", "take", "decline", "stay", "cancel"]


class Waits:
    """To be mixed into the machine, which has these."""

    world: World
    ids: list[int]
    tally: "Counter[str]"

    def customer(self) -> tuple[User, Workspace]:
        raise NotImplementedError

    @rule(storage=st.sampled_from(["none", "C1", "C3"]), size=st.sampled_from(["small", "big"]), later=st.booleans())
    def join(self, storage: str, size: str, later: bool) -> None:
        user, workspace = self.customer()
        booking = make_booking(
            service=make_service("plain" if storage == "none" else "data"),
            size=make_size(size),
            storage=profile("C1" if storage == "none" else storage),
            start=self.world.clock.now + timedelta(minutes=61) if later else None,
        )
        with suppress(NoCapacity, actions.InvalidBooking, waiting.CannotJoin):
            waiting.join(booking=booking, workspace=workspace, by=user, now=self.world.clock.now)
            self.tally["joined"] += 1
            self.look_at_the_line()

    @precondition(lambda self: WaitingEntry.objects.open().exists())
    @rule()
    def the_line_is_looked_at(self) -> None:
        self.look_at_the_line()

    def look_at_the_line(self) -> None:
        offering.settle(self.world.clock.now)
        if sum(self.offered(number) for number in self.ids) < MOST_OFFERS:
            self.tally["offers"] += offering.offer_next(self.world.clock.now)
        for number in WaitingEntry.objects.open().exclude(offer=None).values_list("offer", flat=True):
            if number not in self.ids:
                self.ids.append(number)

    def offered(self, number: int) -> bool:
        return WaitingEntry.objects.filter(offer=number).exists()

    @precondition(lambda self: WaitingEntry.objects.open().exists())
    @rule(deed=st.sampled_from(DEEDS))
    def answer(self, deed: str) -> None:
        """To an offer, where there is one; it may have lapsed, and a worker may be taking it down."""
        user, now = self.customer()[0], self.world.clock.now
        entry = WaitingEntry.objects.open().order_by("offer", "pk").first()
        if entry is None:
            return
        with suppress(waiting.OfferOver):
            if deed == "take":
                waiting.take(entry=entry, by=user, now=now)
                self.tally["offers taken"] += 1
            elif deed == "cancel":
                waiting.cancel(entry=entry, by=user, now=now)
            else:
                waiting.decline(entry=entry, stay=deed == "stay", by=user, now=now)
