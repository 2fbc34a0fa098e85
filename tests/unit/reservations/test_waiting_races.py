"""The waiting list with many at the same instant, and with a worker that dies in the middle."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from accounts.models import Notification
from compute.load_steps import wrong_steps
from compute.models import Allocation
from reservations import actions, offering, waiting
from reservations.models import Event, Reservation, WaitingEntry
from reservations.states import State
from reservations.transitions import PLATFORM, Stale
from tests.factories import NOW, make_booking, make_node, make_user, workspace_of
from tests.unit.reservations.test_races import at_once

pytestmark = pytest.mark.django_db(transaction=True)


def join(number: int) -> WaitingEntry:
    user = make_user()
    now = NOW + timedelta(seconds=number)
    return waiting.join(booking=make_booking(), workspace=workspace_of(user), by=user, now=now)


def offered() -> WaitingEntry:
    make_node(ram_mib=512)
    join(0)
    offering.look_after(NOW + timedelta(minutes=1))
    return WaitingEntry.objects.select_related("offer", "created_by").get()


def test_of_many_rounds_at_once_each_place_is_offered_once_and_to_the_first() -> None:
    make_node(ram_mib=1024, cores=Decimal(8))
    entries = [join(number) for number in range(5)]

    answers = at_once(6, lambda _: offering.look_after(NOW + timedelta(minutes=1)))

    assert sum(made for made in answers if isinstance(made, int)) == 2, answers
    assert Reservation.objects.filter(state="offered").count() == Allocation.objects.count() == 2
    chosen = set(WaitingEntry.objects.exclude(offer=None).values_list("pk", flat=True))
    assert chosen == {entries[0].pk, entries[1].pk}
    assert Notification.objects.count() == 2
    assert wrong_steps(NOW + timedelta(minutes=1)) == []


def test_taken_in_many_tabs_at_once_it_is_booked_once() -> None:
    entry = offered()
    now = NOW + timedelta(minutes=2)
    assert entry.created_by
    by = entry.created_by

    answers = at_once(6, lambda _: waiting.take(entry=entry, by=by, now=now))

    assert {answer.pk for answer in answers if isinstance(answer, Reservation)} == {entry.offer_id}
    assert not any(isinstance(answer, Exception) for answer in answers)
    assert Event.objects.filter(new_state="booked").count() == 1


@pytest.mark.parametrize("turn", range(3))
def test_taken_in_the_instant_in_which_it_lapses_it_is_either(turn: int) -> None:
    entry = offered()
    offer, by = entry.offer, entry.created_by
    assert offer
    assert by
    assert offer.deadline

    def either(number: int) -> object:
        if number:
            late = Reservation.objects.get(pk=offer.pk)
            actions.start_ending(late, text="Late.", by=PLATFORM, now=offer.deadline or NOW)
            return None
        return waiting.take(entry=entry, by=by, now=(offer.deadline or NOW) - timedelta(seconds=1))

    taken, lapsed = at_once(2, either)

    row = Reservation.objects.get()
    assert (row.state, isinstance(lapsed, Stale)) in {("booked", True), ("ending", False)}
    assert isinstance(taken, waiting.OfferOver) == (row.state != State.BOOKED)
    assert WaitingEntry.objects.get().outcome == ("taken" if row.state == State.BOOKED else "")


def test_cancelled_while_it_is_offered_it_holds_nothing() -> None:
    make_node(ram_mib=512)
    entry = join(0)
    assert entry.created_by
    by = entry.created_by

    def either(number: int) -> object:
        now = NOW + timedelta(minutes=1)
        return offering.look_after(now) if number else waiting.cancel(entry=entry, by=by, now=now)

    at_once(2, either)

    assert not Reservation.objects.filter(state="offered").exists()
    assert WaitingEntry.objects.get().outcome == "cancelled"


def test_who_joins_in_many_tabs_at_once_is_in_line_once() -> None:
    make_node(ram_mib=512)
    user = make_user()
    booking, workspace = make_booking(), workspace_of(user)

    answers = at_once(6, lambda _: waiting.join(booking=booking, workspace=workspace, by=user, now=NOW))

    assert len({answer.pk for answer in answers if isinstance(answer, WaitingEntry)}) == 1
    assert WaitingEntry.objects.count() == 1


def test_a_round_that_dies_with_an_offer_half_made_has_made_none(monkeypatch: pytest.MonkeyPatch) -> None:
    make_node(ram_mib=512)
    join(0)

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(offering, "_tell_offer", die)
        with pytest.raises(KeyboardInterrupt):
            offering.look_after(NOW + timedelta(minutes=1))

    assert not Reservation.objects.exists()
    assert offering.look_after(NOW + timedelta(minutes=1)) == 1


def test_an_offer_whose_end_nobody_noted_is_taken_back_by_the_next_round() -> None:
    """The worker that ended it died, or the hint was lost."""
    entry = offered()
    offer = entry.offer
    assert offer
    assert offer.deadline
    actions.start_ending(offer, text="The offer was not taken in time.", by=PLATFORM, now=offer.deadline)

    for _ in range(2):
        offering.settle(offer.deadline)

    row = WaitingEntry.objects.get()
    assert (row.offer, row.offers_lapsed, row.place_at) == (None, 1, offer.deadline)
