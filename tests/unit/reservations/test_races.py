"""Many customers at the same instant, each with a thread and a connection of its own."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection

from accounts import teams
from accounts.models import Workspace
from accounts.permissions import NotAllowed
from compute.capacity import NoCapacity
from compute.load_steps import wrong_steps
from compute.models import Allocation
from reservations import actions
from reservations.actions import OverQuota
from reservations.claims import claim
from reservations.models import Event, Reservation
from reservations.transitions import Stale
from tests.factories import NOW, make_booking, make_node, make_reservation, make_team, make_user, workspace_of

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(count: int, work: Callable[[int], object], threads: int | None = None) -> list[object]:
    """What `work(n)` returned or raised, all begun at the same instant (as far as there are threads)."""
    together = threading.Barrier(threads or count)

    def one(number: int) -> object:
        if number < (threads or count):
            together.wait(timeout=30)
        try:
            return work(number)
        except Exception as problem:  # noqa: BLE001 - what was raised is the answer
            return problem
        finally:
            connection.close()

    with ThreadPoolExecutor(threads or count) as pool:
        return list(pool.map(one, range(count)))


@pytest.mark.parametrize(("customers", "threads"), [(2, 2), (200, 16)])
def test_of_all_who_want_the_last_place_exactly_one_gets_it(customers: int, threads: int) -> None:
    make_node(ram_mib=512)
    booking = make_booking()
    users = [make_user() for _ in range(8)]

    def book(number: int) -> object:
        user = users[number % 8]
        return actions.book(booking=booking, workspace=workspace_of(user), by=user, now=NOW)[0]

    answers = at_once(customers, book, threads)

    assert sum(isinstance(answer, Reservation) for answer in answers) == 1
    assert sum(isinstance(answer, NoCapacity) for answer in answers) == customers - 1
    assert Allocation.objects.count() == 1
    assert wrong_steps(NOW) == []


def test_a_node_is_filled_to_its_last_core_and_no_further() -> None:
    make_node(ram_mib=100_000, cores=Decimal(4))
    booking = make_booking()
    users = [make_user() for _ in range(8)]

    def book(number: int) -> object:
        user = users[number % 8]
        return actions.book(booking=booking, workspace=workspace_of(user), by=user, now=NOW)[0]

    answers = at_once(24, book, 12)

    assert sum(isinstance(answer, Reservation) for answer in answers) == 8
    assert wrong_steps(NOW) == []


def test_a_quota_holds_when_one_customer_books_many_times_at_once() -> None:
    make_node(ram_mib=100_000, cores=Decimal(64))
    booking = make_booking()
    user = make_user()
    workspace = workspace_of(user)
    workspace.max_reservations = 3
    workspace.save()

    answers = at_once(8, lambda _: actions.book(booking=booking, workspace=workspace, by=user, now=NOW)[0])

    assert sum(isinstance(answer, Reservation) for answer in answers) == 3
    assert sum(isinstance(answer, OverQuota) for answer in answers) == 5


def test_a_key_that_is_sent_many_times_at_once_books_once() -> None:
    make_node()
    booking = make_booking()
    user = make_user()
    workspace = workspace_of(user)

    answers = at_once(
        8, lambda _: actions.book(booking=booking, workspace=workspace, by=user, now=NOW, once=("key", "body"))
    )

    assert len({answer[0].pk for answer in answers if isinstance(answer, tuple)}) == 1
    assert sum(isinstance(answer, tuple) for answer in answers) == 8
    assert Reservation.objects.count() == 1


def test_of_many_workers_one_gets_the_claim() -> None:
    make_node()
    reservation = make_reservation()

    answers = at_once(8, lambda _: claim(reservation.pk, NOW + timedelta(seconds=1)))

    assert sum(answer is not None for answer in answers) == 1


def test_deleted_by_many_at_once_it_ends_once() -> None:
    make_node()
    reservation = make_reservation()

    def delete(number: int) -> bool:
        row = Reservation.objects.get(pk=reservation.pk)
        return actions.end(reservation=row, text="Deleted.", by="test", now=NOW)

    answers = at_once(8, delete)

    assert answers.count(True) == 1
    assert not any(isinstance(answer, Stale) for answer in answers)
    assert Event.objects.filter(new_state="ending").count() == 1


def test_two_members_at_once_stay_within_the_quota_of_their_workspace() -> None:
    people = [make_user() for _ in range(4)]
    workspace = make_team("Crew", owner=people[0], member=people[1:])
    Workspace.objects.filter(pk=workspace.pk).update(max_reservations=2, max_cores=1)
    make_node(ram_mib=65_536, cores=Decimal(64))
    booking = make_booking()

    def book(number: int) -> object:
        return actions.book(booking=booking, workspace=workspace, by=people[number % 4], now=NOW)[0]

    answers = at_once(8, book, 4)

    refused = [answer for answer in answers if isinstance(answer, OverQuota)]
    assert sum(isinstance(answer, Reservation) for answer in answers) == 2
    assert len(refused) == 6
    assert str(refused[0]).startswith("Over the quota of Crew: this would make 3 reservations at once")


def test_a_member_who_is_removed_while_booking_books_before_or_not_at_all() -> None:
    olga, ben = make_user(), make_user()
    workspace = make_team("Crew", owner=olga, member=ben)
    make_node(ram_mib=65_536, cores=Decimal(64))
    booking = make_booking()

    def work(number: int) -> object:
        if number == 2:
            teams.remove_member(workspace=workspace, user=ben, by=olga, now=NOW)
            return Reservation.objects.filter(workspace=workspace).count()
        return actions.book(booking=booking, workspace=workspace, by=ben, now=NOW)[0]

    answers = at_once(6, work, 3)

    booked = [answer for answer in answers if isinstance(answer, Reservation)]
    assert len(booked) + sum(isinstance(answer, NotAllowed) for answer in answers) == 5
    assert answers[2] == len(booked) == Reservation.objects.count()
