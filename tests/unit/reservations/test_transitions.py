"""The one place that writes a state: guarded, with its event, and the usage that is paid for."""

import uuid
from datetime import timedelta

import pytest

from reservations.models import Event, Reservation, UsagePeriod
from reservations.states import NotAllowed, State
from reservations.transitions import Stale, transition
from tests.factories import NOW, at, make_node, make_reservation

pytestmark = pytest.mark.django_db


@pytest.fixture
def reservation() -> Reservation:
    """Booked from NOW for an hour."""
    make_node()
    return make_reservation()


def move(reservation: Reservation, *states: State, hours: float = 0, **options: object) -> None:
    for state in states:
        transition(reservation, state, text=f"now {state}", by="test", now=at(hours), **options)  # type: ignore[arg-type]


def events() -> list[tuple[str, str]]:
    return list(Event.objects.order_by("pk").values_list("old_state", "new_state"))


def served() -> list[tuple[float, float | None]]:
    """Hours after NOW, of each usage period."""

    def hours(moment: object) -> float:
        return (moment - NOW) / timedelta(hours=1)  # type: ignore[operator,no-any-return]

    return [
        (hours(p.during.lower), hours(p.during.upper) if p.during.upper else None)
        for p in UsagePeriod.objects.order_by("during")
    ]


def test_each_step_writes_the_state_and_one_event(reservation: Reservation) -> None:
    move(reservation, State.STARTING, State.RUNNING, State.ENDING, State.ENDED)

    assert events() == [
        ("", "booked"),
        ("booked", "starting"),
        ("starting", "running"),
        ("running", "ending"),
        ("ending", "ended"),
    ]
    assert Reservation.objects.get().state == "ended"


def test_a_step_that_the_table_lacks_writes_nothing(reservation: Reservation) -> None:
    with pytest.raises(NotAllowed):
        move(reservation, State.RUNNING)

    assert (Reservation.objects.get().state, events()) == ("booked", [("", "booked")])


def test_who_comes_second_writes_nothing(reservation: Reservation) -> None:
    second = Reservation.objects.get()
    move(reservation, State.STARTING)

    with pytest.raises(Stale):
        move(second, State.ENDING)

    assert Reservation.objects.get().state == "starting"
    assert events() == [("", "booked"), ("booked", "starting")]


def test_who_lost_the_claim_writes_nothing(reservation: Reservation) -> None:
    Reservation.objects.update(claim_token=uuid.uuid4())

    with pytest.raises(Stale):
        move(reservation, State.STARTING, token=uuid.uuid4())

    assert Reservation.objects.get().state == "booked"


def test_a_step_forgets_the_reason_and_the_tries_of_the_last_state(reservation: Reservation) -> None:
    Reservation.objects.update(reason="waits", attempts=3, progress=50)

    move(reservation, State.STARTING)

    row = Reservation.objects.get()
    assert (row.reason, row.attempts, row.progress) == ("", 0, None)
    assert row.deadline == NOW + timedelta(minutes=10)


def test_serving_is_counted_from_running_until_it_stops_running(reservation: Reservation) -> None:
    move(reservation, State.STARTING)
    move(reservation, State.RUNNING, hours=0.1)
    assert served() == [(0.1, None)]

    move(reservation, State.STOPPED, hours=0.3)
    move(reservation, State.STARTING, hours=0.4)
    move(reservation, State.RUNNING, hours=0.5)
    move(reservation, State.ENDING, hours=0.8)

    assert served() == [(0.1, 0.3), (0.5, 0.8)]


def test_what_runs_on_because_we_are_late_is_free(reservation: Reservation) -> None:
    move(reservation, State.STARTING, State.RUNNING)

    move(reservation, State.ENDING, hours=3)

    assert served() == [(0, 1)]


def test_what_began_to_run_after_its_end_is_free_altogether(reservation: Reservation) -> None:
    move(reservation, State.STARTING, State.RUNNING, hours=2)

    move(reservation, State.ENDING, hours=3)

    assert served() == []


def test_one_that_never_ran_served_nothing(reservation: Reservation) -> None:
    move(reservation, State.STARTING, State.ENDING, State.FAILED)

    assert served() == []
    assert Reservation.objects.get().ended_at == NOW
