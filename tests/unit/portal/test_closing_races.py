"""Deleting an account while something else happens in the same instant."""

import threading
import time
from decimal import Decimal

import pytest
from django.db import connection, transaction

from accounts import teams
from accounts.closing import CannotClose, Plan, close_account
from accounts.models import AuditEntry, User
from accounts.permissions import NotAllowed
from reservations import actions
from reservations.models import Reservation
from reservations.states import State
from tests.factories import NOW, make_booking, make_node, make_reservation, make_team, make_user, work_in, workspace_of
from tests.unit.conftest import Machines
from tests.unit.reservations.test_races import at_once

pytestmark = pytest.mark.django_db(transaction=True)


def close(user: User) -> Plan:
    return close_account(user=User.objects.get(pk=user.pk), by="test", now=NOW)


def test_of_two_at_once_one_deletes_it_and_the_other_reads_a_sentence() -> None:
    make_node()
    user = make_user("ada")
    make_reservation(user)

    answers = at_once(2, lambda _: close_account(user=user, by=user, now=NOW))

    assert sorted(type(answer).__name__ for answer in answers) == ["CannotClose", "Plan"]
    assert [str(answer) for answer in answers if isinstance(answer, CannotClose)] == [
        "This account is deleted already."
    ]
    assert AuditEntry.objects.filter(action="user.close").count() == 1
    assert AuditEntry.objects.filter(action="reservation.end").count() == 1


def test_of_the_last_two_admins_who_go_at_once_one_stays() -> None:
    admins = [make_user(is_superuser=True) for _ in range(2)]

    answers = at_once(2, lambda number: close(admins[number]))

    assert sorted(type(answer).__name__ for answer in answers) == ["CannotClose", "Plan"]
    assert User.objects.filter(is_superuser=True, is_active=True).count() == 1


def test_what_is_booked_in_that_instant_is_ended_or_refused() -> None:
    make_node(ram_mib=65_536, cores=Decimal(64))
    user, booking = make_user("ada"), make_booking()
    workspace = workspace_of(user)

    def work(number: int) -> object:
        if number == 0:
            return close(user)
        return actions.book(booking=booking, workspace=workspace, by=user, now=NOW)

    answers = at_once(8, work)

    assert isinstance(answers[0], Plan)
    assert {type(answer) for answer in answers[1:]} <= {tuple, NotAllowed}
    assert set(Reservation.objects.values_list("state", flat=True)) <= {State.ENDING}


def test_workers_who_have_its_reservations_in_their_hands_and_the_deletion_wait_for_each_other(
    machines: Machines,
) -> None:
    make_node(ram_mib=65_536, cores=Decimal(64))
    user, booking = make_user("ada"), make_booking()
    rows = [actions.book(booking=booking, workspace=workspace_of(user), by=user, now=NOW)[0] for _ in range(6)]

    answers = at_once(7, lambda number: close(user) if number == 6 else machines.reconcile(rows[number]))

    assert not [answer for answer in answers if isinstance(answer, Exception)]
    assert {machines.settle(row).state for row in rows} == {State.ENDED}
    assert machines.traces() == []


def test_whoever_takes_its_owner_out_of_a_team_in_that_instant_is_not_locked_out() -> None:
    ada, bob = make_user("ada"), make_user("bob")
    team = make_team(owner=bob, manager=ada)
    work_in(ada, team)

    def work(number: int) -> object:
        if number == 0:
            return close(ada)
        teams.remove_member(workspace=team, user=ada, by=bob, now=NOW)
        return None

    answers = at_once(2, work)

    assert isinstance(answers[0], Plan)
    assert answers[1] is None or isinstance(answers[1], teams.TeamProblem)


def test_a_lock_on_the_user_is_not_held_while_a_workspace_is_waited_for() -> None:
    """As remove_member does it: the workspace, then the user. The other way round both would wait for ever."""
    ada = make_user("ada")
    begun = threading.Event()

    def work(number: int) -> object:
        if number == 0:
            begun.wait(timeout=30)
            return close(ada)
        with transaction.atomic():
            teams.lock(workspace_of(ada).pk)
            begun.set()
            waits_for_a_lock()
            return User.objects.filter(pk=ada.pk).update(current_workspace=None)

    answers = at_once(2, work)

    assert isinstance(answers[0], Plan)
    assert answers[1] == 1


def waits_for_a_lock() -> None:
    """Returns once somebody in this database waits for one."""
    end = time.monotonic() + 30
    asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with connection.cursor() as cursor:
        while time.monotonic() < end:
            cursor.execute("SELECT pg_stat_clear_snapshot()")
            cursor.execute(asked)
            if cursor.fetchone()[0]:
                return
    raise AssertionError("nobody waits")
