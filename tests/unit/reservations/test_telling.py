"""What happens to a reservation is told within the transaction of what happens, to those whom it concerns."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from accounts.models import Membership, Notification, User
from compute.models import Node
from reservations import actions
from reservations.models import Reservation
from reservations.states import State
from reservations.transitions import Stale, transition
from tests.factories import at, make_node, make_reservation, make_user, workspace_of
from tests.unit.conftest import Machines

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada() -> User:
    make_node("one")
    return make_user("ada", time_zone="Europe/Berlin")


def news() -> list[tuple[str, str]]:
    return [(row.kind, row.title.partition(") ")[2]) for row in Notification.objects.order_by("pk")]


def test_a_start_that_somebody_waits_for_is_told_in_the_page_alone(ada: User, machines: Machines) -> None:
    row = machines.settle(make_reservation(ada))

    assert row.state == State.RUNNING
    told = Notification.objects.get()
    assert (told.kind, told.title, told.by_mail, told.in_app) == ("started", f"nginx (#{row.pk}) runs", False, True)
    assert told.text == "It answers at its address until 4 May 2026, 13:00 CEST."
    assert told.path == f"/reservations/{row.pk}/"


def test_a_start_that_was_booked_ahead_is_mailed(ada: User, machines: Machines) -> None:
    row = make_reservation(ada, start=at(5))
    machines.clock.now = at(5)

    machines.settle(row)

    assert Notification.objects.get().by_mail


def test_a_second_start_is_no_news(ada: User, machines: Machines) -> None:
    row = machines.settle(make_reservation(ada))
    for wish in (Reservation.Wish.STOP, Reservation.Wish.RUN):
        actions.wish(reservation=row, wish=wish, by=ada, now=machines.clock.now)
        row = machines.settle(row)
        row = machines.reconcile(row)

    assert news() == [("started", "runs")]


def test_a_failure_is_told_once_with_its_reason_before_everything_is_taken_down(ada: User, machines: Machines) -> None:
    row = make_reservation(ada)
    why = "It could not be started: no such image"
    actions.start_ending(row, text=why, by="Berth", now=at(0), failure=why)

    assert news() == [("failed", "failed")]
    assert Notification.objects.get().text == why
    assert machines.settle(row).state == State.FAILED
    assert news() == [("failed", "failed")]


def test_an_end_as_booked_is_told_in_the_page_alone(ada: User, machines: Machines) -> None:
    row = machines.settle(make_reservation(ada))
    machines.clock.now = row.end

    assert machines.settle(row).state == State.ENDED

    assert news() == [("started", "runs"), ("ended", "has ended")]
    told = Notification.objects.get(kind="ended")
    assert (told.by_mail, told.text) == (False, "Its booked time was over at 4 May 2026, 13:00 CEST.")


def test_who_ends_it_is_not_told_of_it(ada: User, machines: Machines) -> None:
    row = make_reservation(ada)

    actions.end(reservation=row, text="Deleted by ada.", by=ada, now=at(0))

    assert news() == []


def test_who_booked_it_hears_that_somebody_else_ended_it(ada: User, machines: Machines) -> None:
    member = make_user("member")
    Membership.objects.create(workspace=workspace_of(ada), user=member)
    row = make_reservation(ada)
    Reservation.objects.filter(pk=row.pk).update(created_by=member)
    row.refresh_from_db()

    actions.end(reservation=row, text="Deleted by ada.", by=ada, now=at(0))

    told = Notification.objects.get()
    assert (told.user, told.kind, told.text, told.by_mail) == (member, "ended", "Deleted by ada.", True)


def test_an_offer_that_lapses_is_the_waiting_lists_news(ada: User) -> None:
    row = make_reservation(ada)
    Reservation.objects.filter(pk=row.pk).update(state=State.OFFERED)
    row.refresh_from_db()

    actions.start_ending(row, text="The offer was not taken in time.", by="Berth", now=at(0))

    assert news() == []


def _lose_its_node(row: Reservation) -> None:
    Node.objects.filter(containers__reservation=row).update(health=Node.Health.LOST)


def test_a_move_is_told_and_that_it_runs_again(ada: User, machines: Machines) -> None:
    row = machines.settle(make_reservation(ada))
    make_node("two")
    _lose_its_node(row)

    row = machines.settle(machines.reconcile(row))

    assert (row.state, row.generation) == (State.RUNNING, 2)
    assert news() == [("started", "runs"), ("moved", "moves to another node"), ("moved", "runs again")]
    moved = Notification.objects.get(key=f"moved:{row.pk}:2")
    assert moved.by_mail
    assert moved.text.startswith("Its node one was lost; it is started on another node.")
    for wish in (Reservation.Wish.STOP, Reservation.Wish.RUN):
        actions.wish(reservation=row, wish=wish, by=ada, now=machines.clock.now)
        row = machines.reconcile(machines.settle(row))
    assert len(news()) == 3


def test_a_lost_node_without_another_is_told(ada: User, machines: Machines) -> None:
    row = machines.settle(make_reservation(ada))
    _lose_its_node(row)

    machines.reconcile(row)

    assert ("moved", "lost its node") in news()
    told = Notification.objects.get(key=f"lost:{row.pk}:1")
    assert told.text.startswith("Its node one was lost, and no other node has room:")


def test_one_that_never_ran_moves_unnoticed(ada: User, machines: Machines) -> None:
    row = make_reservation(ada, start=at(3))
    two = make_node("two")
    Node.objects.exclude(pk=two.pk).update(state=Node.State.DRAINING)

    machines.reconcile(row)

    assert Reservation.objects.get(pk=row.pk).generation == 2
    assert news() == []


def test_what_did_not_happen_is_not_told(ada: User) -> None:
    row = make_reservation(ada)
    stale = Reservation.objects.get(pk=row.pk)
    Reservation.objects.filter(pk=row.pk).update(state=State.STARTING)
    values: dict[str, Any] = {"text": "x", "by": "Berth", "now": at(0)}

    with pytest.raises(Stale):
        transition(stale, State.ENDING, failure="x", **values)
    row.refresh_from_db()
    with transaction.atomic():
        transition(row, State.ENDING, failure="x", **values)
        transaction.set_rollback(True)

    assert news() == []


def test_nobody_who_could_hear_of_it_stops_nothing(ada: User, machines: Machines) -> None:
    row = make_reservation(ada)
    User.objects.filter(pk=ada.pk).update(is_active=False, closed_at=at(0))

    assert machines.settle(row).state == State.RUNNING
    assert news() == []


def test_a_long_name_and_reason_fit(ada: User) -> None:
    row = make_reservation(ada, name="🐳" * 60)
    actions.start_ending(row, text="x" * 400, by="Berth", now=at(0), failure="🐳 " * 200)

    told = Notification.objects.get()
    assert told.title.startswith("🐳" * 60)
    assert len(told.text) <= 600


def test_one_step_costs_two_queries_more(ada: User, django_assert_max_num_queries: Any) -> None:
    row = make_reservation(ada)
    with django_assert_max_num_queries(30) as queries:
        actions.start_ending(row, text="x", by="Berth", now=at(0) + timedelta(minutes=1), failure="x")

    ours = [query["sql"] for query in queries if "notification" in query["sql"] or "membership" in query["sql"]]
    assert len(ours) == 2
