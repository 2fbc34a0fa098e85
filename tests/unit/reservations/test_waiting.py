"""The waiting list: who gets an offer, and what becomes of it."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from accounts.dates import format_for
from accounts.models import AuditEntry, Membership, Notification, User, Workspace
from billing import affording
from billing.accounts import account_of
from compute.capacity import NoCapacity
from compute.load_steps import wrong_steps
from compute.models import Allocation, Forward, Node
from reservations import actions, extending, lost, offering, waiting
from reservations.models import Event, Reservation, Service, Size, WaitingEntry
from reservations.sizes import CustomSize
from tests.factories import HOUR, NOW, at, make_booking, make_node, make_reservation, make_size, make_user, workspace_of
from tests.unit.conftest import Machines, Queue

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


@pytest.fixture
def full(machines: Machines) -> Reservation:
    """A cloud of one node whose whole place somebody else has."""
    make_node("one", ram_mib=1024, cores=Decimal(1))
    return make_reservation(make_user("holder"), size=make_size("all", ram_mib=1024, cores=Decimal(1)), length=4 * HOUR)


def join(user: User | None = None, now: datetime = NOW, **values: Any) -> WaitingEntry:
    user = user or make_user()
    return waiting.join(booking=make_booking(**values), workspace=workspace_of(user), by=user, now=now)


def fresh(entry: WaitingEntry) -> WaitingEntry:
    return WaitingEntry.objects.with_place().select_related("offer").get(pk=entry.pk)


def offer_of(entry: WaitingEntry) -> Reservation:
    offer = fresh(entry).offer
    assert offer is not None
    return offer


def end(machines: Machines, reservation: Reservation) -> None:
    actions.end(reservation=reservation, text="Deleted.", by="test", now=machines.clock.now)
    machines.settle(reservation)


def taker(entry: WaitingEntry) -> User:
    assert entry.created_by is not None
    return entry.created_by


def take(entry: WaitingEntry, now: datetime) -> Reservation:
    return waiting.take(entry=entry, by=taker(entry), now=now)


# ---- joining ----------------------------------------------------------------------------------------------


def test_who_joins_is_at_the_end_of_the_line_and_has_nothing_yet(full: Reservation) -> None:
    first, second = join(), join()

    assert offering.look_after(NOW) == 0
    assert [fresh(entry).place for entry in (first, second)] == [1, 2]
    assert fresh(first).reason.startswith("No resources available: no compute node has enough RAM")
    assert Reservation.objects.count() == 1


def test_a_double_click_joins_once_and_the_same_again_later_twice(full: Reservation) -> None:
    user = make_user()

    entries = [join(user, NOW + timedelta(seconds=s)) for s in (0, 2, 60)]

    assert entries[0] == entries[1] != entries[2]


def test_a_workspace_has_ten_entries_at_most(full: Reservation) -> None:
    user = make_user("bob")
    entries = [join(user, name=f"number {n}") for n in range(10)]

    with pytest.raises(waiting.CannotJoin, match="has 10 entries in the waiting list already; cancel one"):
        join(user, name="one more")
    waiting.cancel(entry=entries[0], by=user, now=NOW)

    assert join(user, name="one more").pk


def test_what_fits_on_no_node_at_all_is_not_waited_for(full: Reservation) -> None:
    with pytest.raises(NoCapacity, match="no compute node is big enough"):
        join(size=make_size("huge", ram_mib=2048))
    assert not WaitingEntry.objects.exists()


def test_what_cannot_be_booked_cannot_be_waited_for(full: Reservation) -> None:
    with pytest.raises(actions.InvalidBooking, match="in the past"):
        join(start=NOW - HOUR)
    with pytest.raises(actions.InvalidBooking, match="longer than zero"):
        join(length=-HOUR)
    with pytest.raises(actions.InvalidBooking, match="at most 60"):
        join(name="🙂" * 500)
    assert not WaitingEntry.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_who_joins_is_looked_at_soon(full: Reservation, queue: Queue) -> None:
    join()

    assert queue.rooms == 1


# ---- the offer --------------------------------------------------------------------------------------------


def test_a_full_cloud_join_someone_ends_offer_take_booked_and_it_runs(full: Reservation, machines: Machines) -> None:
    entry = join(length=HOUR)
    offering.look_after(NOW)
    end(machines, full)
    freed = machines.clock.now

    assert offering.look_after(freed) == 1
    offer = offer_of(entry)
    assert (offer.state, offer.deadline, offer.end) == ("offered", freed + 15 * MINUTE, freed + 15 * MINUTE + HOUR)
    assert machines.reconcile(offer).state == "offered"
    machines.clock.forward(minutes=9)
    taken = take(entry, machines.clock.now)

    assert (taken.state, taken.start, taken.end) == ("booked", freed + 9 * MINUTE, freed + 9 * MINUTE + HOUR)
    assert (taken.deadline, taken.starts_when_taken, taken.price) == (None, False, Decimal("0.25"))
    assert fresh(entry).outcome == "taken"
    running = machines.settle(taken)
    assert running.state == "running"
    assert [event.new_state for event in running.events.order_by("pk")] == ["offered", "booked", "starting", "running"]
    assert wrong_steps(machines.clock.now) == []


def test_of_a_taken_offer_place_and_ports_are_held_until_its_end_only(full: Reservation, machines: Machines) -> None:
    entry = join(length=HOUR)
    end(machines, full)
    freed = machines.clock.now
    offering.look_after(freed)
    held = Allocation.objects.get(released_at=None)
    assert held.during.upper == freed + HOUR + 15 * MINUTE

    taken = take(entry, freed + MINUTE)

    held.refresh_from_db()
    assert held.during.upper == taken.end == freed + MINUTE + HOUR
    forward = Forward.objects.get(endpoint__reservation=taken)
    assert forward.during.upper == taken.end + actions.port_rest()
    assert wrong_steps(freed + MINUTE) == []


def test_the_first_in_line_gets_it_and_only_one(full: Reservation, machines: Machines) -> None:
    big = make_size("all")
    entries = [join(size=big, now=NOW + n * MINUTE) for n in (0, 1, 2)]
    end(machines, full)

    assert [offering.look_after(machines.clock.now) for _ in range(3)] == [1, 0, 0]

    assert [bool(fresh(entry).offer) for entry in entries] == [True, False, False]
    assert [fresh(entry).place for entry in entries] == [None, 1, 2]


def test_who_does_not_fit_is_passed_over_and_keeps_the_place(full: Reservation, machines: Machines) -> None:
    make_reservation(make_user(), start=at(5), length=10 * HOUR)
    big, small = join(size=make_size("all"), length=6 * HOUR), join(length=HOUR)
    end(machines, full)

    offering.look_after(machines.clock.now)

    assert fresh(big).offer is None
    assert (fresh(big).place, bool(fresh(small).offer)) == (1, True)


def test_what_is_passed_over_for_an_hour_is_offered_its_earliest_time(full: Reservation, machines: Machines) -> None:
    later = NOW + 59 * MINUTE
    big = join(size=make_size("all"), length=HOUR)
    assert offering.offer_later(later) == 0

    later = NOW + 60 * MINUTE
    assert offering.offer_later(later) == 1
    assert offering.offer_later(later) == 0

    offer = offer_of(big)
    assert (offer.state, offer.start, offer.starts_when_taken) == ("offered", full.end, False)
    assert offer.deadline == later + 15 * MINUTE
    with pytest.raises(NoCapacity):  # it is held against everybody
        make_reservation(make_user(), now=later, start=full.end)
    taken = take(big, later + MINUTE)
    assert (taken.state, taken.start, taken.end) == ("booked", full.end, full.end + HOUR)


def test_a_wish_for_a_time_is_held_for_that_time(full: Reservation, machines: Machines) -> None:
    entry = join(start=at(1), length=HOUR)
    end(machines, full)

    offering.look_after(NOW + 10 * MINUTE)

    offer = offer_of(entry)
    assert (offer.start, offer.end, offer.deadline) == (at(1), at(2), NOW + 25 * MINUTE)
    assert take(entry, NOW + 11 * MINUTE).start == at(1)


def test_an_offer_does_not_outlast_the_start_that_was_wished_for(full: Reservation, machines: Machines) -> None:
    entry = join(start=at(1), length=HOUR)
    end(machines, full)
    offering.look_after(at(1) - 4 * MINUTE)

    offer = offer_of(entry)

    assert offer.deadline == at(1)
    with pytest.raises(waiting.OfferOver, match=r"^The offer has lapsed and went to the next in line\.$"):
        take(entry, at(1))


def test_a_wish_whose_start_has_passed_is_closed(full: Reservation) -> None:
    entry = join(start=at(1), length=HOUR)

    offering.look_after(at(1))

    assert (fresh(entry).outcome, fresh(entry).reason) == ("lapsed", "There was no room for it before its start.")


def test_it_is_told_once(full: Reservation, machines: Machines) -> None:
    entry = join(make_user(time_zone="Asia/Kolkata"), start=NOW + timedelta(days=30))
    later = join()
    end(machines, full)
    for _ in range(3):
        offering.look_after(machines.clock.now)

    told = Notification.objects.get(user=entry.created_by)
    held = offer_of(entry).deadline

    assert told.title == "There is room for nginx"
    assert held is not None
    assert told.text == (
        f"It is held for you until {format_for(taker(entry), held, 'short')} and starts"
        f" {format_for(taker(entry), NOW + timedelta(days=30))}. Take it by then, or it goes to the next in line."
    )
    assert "IST" in told.text
    assert " and starts when you take it." in Notification.objects.get(user=later.created_by, kind="offer").text
    assert told.mail_until == offer_of(entry).deadline


@pytest.mark.django_db(transaction=True)
def test_a_hint_is_sent_when_something_is_over_and_somebody_waits(
    full: Reservation, machines: Machines, queue: Queue
) -> None:
    other = make_reservation(make_user(), start=at(6))
    end(machines, other)
    assert queue.rooms == 0
    join()
    queue.rooms = 0

    end(machines, full)

    assert queue.rooms == 1


# ---- lapsed -----------------------------------------------------------------------------------------------


def lapse(entry: WaitingEntry, machines: Machines) -> None:
    offer = offer_of(entry)
    assert offer.deadline is not None
    machines.clock.now = offer.deadline
    machines.settle(offer)
    offering.look_after(machines.clock.now)


def test_what_is_not_taken_goes_to_the_next_and_its_entry_to_the_end(full: Reservation, machines: Machines) -> None:
    big = make_size("all")
    first, second, third = (join(size=big, now=NOW + n * MINUTE) for n in (0, 1, 2))
    end(machines, full)
    offering.look_after(machines.clock.now)

    lapse(first, machines)

    assert (fresh(first).place, fresh(first).offers_lapsed) == (2, 1)
    assert [bool(fresh(entry).offer) for entry in (second, third)] == [True, False]
    assert Notification.objects.filter(user=first.created_by, title="The offer for nginx has lapsed").count() == 1
    assert wrong_steps(machines.clock.now) == []


def test_the_third_that_is_not_taken_closes_the_entry(full: Reservation, machines: Machines) -> None:
    entry = join()
    end(machines, full)
    offering.look_after(machines.clock.now)
    for _ in range(2):
        lapse(entry, machines)
    assert offer_of(entry).state == "offered"

    lapse(entry, machines)

    assert (fresh(entry).outcome, fresh(entry).reason) == ("lapsed", "3 offers were not taken.")
    assert not Reservation.objects.live().exists()
    with pytest.raises(waiting.OfferOver, match=r"not in the waiting list any more\. 3 offers were not taken\."):
        take(entry, machines.clock.now)


def test_taken_too_late_it_says_so_and_the_entry_is_still_in_line(full: Reservation, machines: Machines) -> None:
    entry = join()
    end(machines, full)
    offering.look_after(machines.clock.now)
    deadline = offer_of(entry).deadline
    assert deadline is not None

    for late in (deadline, deadline + HOUR):
        with pytest.raises(waiting.OfferOver, match=r"has lapsed and went to the next in line\. You are still in line"):
            take(entry, late)

    machines.clock.now = deadline
    machines.settle(offer_of(entry))
    with pytest.raises(waiting.OfferOver, match="has lapsed"):
        take(entry, deadline)
    offering.look_after(deadline)
    assert offer_of(entry).state == "offered"  # nobody else waits: the next one is its own again


def test_taken_before_there_is_an_offer_it_says_so(full: Reservation) -> None:
    with pytest.raises(waiting.OfferOver, match="There is no offer at the moment"):
        take(join(), NOW)


def test_taken_twice_it_is_booked_once(full: Reservation, machines: Machines) -> None:
    entry = join()
    end(machines, full)
    offering.look_after(machines.clock.now)

    first, second = (take(entry, machines.clock.now + n * MINUTE) for n in (0, 1))

    assert (first, first.start) == (second, second.start)
    assert Event.objects.filter(new_state="booked", reservation=first).count() == 1
    assert AuditEntry.objects.filter(action="waiting.take").count() == 1


# ---- declined, cancelled, ended ----------------------------------------------------------------------------


@pytest.mark.parametrize("stay", [True, False])
def test_what_is_declined_goes_to_the_next(stay: bool, full: Reservation, machines: Machines) -> None:
    first, second = (join(size=make_size("all"), now=NOW + n * MINUTE) for n in (0, 1))
    machines.clock.now = at(1)
    end(machines, full)
    offering.look_after(machines.clock.now)
    offer = offer_of(first)

    waiting.decline(entry=first, stay=stay, by=taker(first), now=machines.clock.now)

    machines.settle(offer)
    offering.look_after(machines.clock.now)
    assert offer_of(second).state == "offered"
    row = fresh(first)
    assert (row.place, row.outcome) == ((1, "") if stay else (None, "cancelled"))
    assert row.offers_lapsed == 0


def test_cancelled_while_it_has_an_offer_that_ends(full: Reservation, machines: Machines) -> None:
    entry = join()
    end(machines, full)
    offering.look_after(machines.clock.now)

    assert waiting.cancel(entry=entry, by=taker(entry), now=machines.clock.now)

    assert machines.settle(offer_of(entry)).state == "ended"
    assert not waiting.cancel(entry=entry, by=taker(entry), now=machines.clock.now)
    with pytest.raises(waiting.OfferOver, match="Cancelled by"):
        take(entry, machines.clock.now)
    assert not Allocation.objects.held().exists()


def test_an_offer_that_is_deleted_takes_its_entry_with_it(full: Reservation, machines: Machines) -> None:
    entry = join()
    end(machines, full)
    offering.look_after(machines.clock.now)

    actions.end(reservation=offer_of(entry), text="Deleted by bob.", by="bob", now=machines.clock.now)
    offering.look_after(machines.clock.now)

    assert (fresh(entry).outcome, fresh(entry).reason) == ("cancelled", "Its offer was ended: Deleted by bob.")


def test_a_cancelled_entry_gets_no_offer(full: Reservation, machines: Machines) -> None:
    entry = join()
    waiting.cancel(entry=entry, by=taker(entry), now=NOW)
    end(machines, full)

    assert offering.look_after(machines.clock.now) == 0


# ---- what cannot be ---------------------------------------------------------------------------------------


def test_over_the_quota_it_waits_on_with_the_reason(full: Reservation, machines: Machines) -> None:
    user = make_user()
    entry, behind = join(user), join()
    Workspace.objects.filter(pk=entry.workspace_id).update(max_reservations=0)
    end(machines, full)

    offering.look_after(machines.clock.now)

    assert fresh(entry).reason.startswith("Over the quota of")
    assert (fresh(entry).place, bool(fresh(behind).offer)) == (1, True)
    Workspace.objects.filter(pk=entry.workspace_id).update(max_reservations=1)
    offering.look_after(machines.clock.now)
    assert offer_of(entry).state == "offered"


def test_an_offer_counts_in_the_quota_as_a_booking(full: Reservation, machines: Machines) -> None:
    entry = join()
    Workspace.objects.filter(pk=entry.workspace_id).update(max_reservations=1)
    end(machines, full)
    offering.look_after(machines.clock.now)

    with pytest.raises(actions.OverQuota):
        make_reservation(taker(entry), now=machines.clock.now)


def test_a_budget_that_reaches_exactly_is_enough_and_is_held(full: Reservation, machines: Machines) -> None:
    entry = join(length=HOUR)
    account = account_of(entry.workspace_id)
    account.monthly_budget, account.hard_stop = Decimal("0.25"), True
    account.save()
    end(machines, full)

    assert offering.look_after(machines.clock.now) == 1
    assert affording.commitments(account, machines.clock.now).held == Decimal("0.25")

    taken = take(entry, machines.clock.now + 14 * MINUTE)
    assert (taken.price, affording.commitments(account, taken.start).held) == (Decimal("0.25"), Decimal("0.25"))


def test_a_budget_that_does_not_reach_is_said(full: Reservation, machines: Machines) -> None:
    entry = join()
    account = account_of(entry.workspace_id)
    account.monthly_budget, account.hard_stop = Decimal("0.24"), True
    account.save()
    end(machines, full)

    assert offering.look_after(machines.clock.now) == 0
    assert "of the budget of" in fresh(entry).reason


def switch_off_service(entry: WaitingEntry) -> None:
    Service.objects.update(active=False)


def leave_workspace(entry: WaitingEntry) -> None:
    Membership.objects.filter(user=entry.created_by).delete()


def close_workspace(entry: WaitingEntry) -> None:
    Workspace.objects.filter(pk=entry.workspace_id).update(closed_at=NOW)


def close_account(entry: WaitingEntry) -> None:
    User.objects.filter(pk=taker(entry).pk).update(is_active=False)


@pytest.mark.parametrize(
    ("bar", "why"),
    [
        (switch_off_service, "nginx is not offered any more."),
        (leave_workspace, "Whoever joined is not a member of the workspace any more."),
        (close_workspace, "The workspace was closed."),
        (close_account, "The account of whoever joined was closed."),
    ],
)
def test_what_can_never_be_offered_is_closed_with_the_reason(
    bar: Any, why: str, full: Reservation, machines: Machines
) -> None:
    entry = join()
    bar(entry)
    end(machines, full)

    assert offering.look_after(machines.clock.now) == 0
    assert (fresh(entry).outcome, fresh(entry).reason) == ("cancelled", why)


def test_a_fault_at_one_entry_holds_up_nobody(
    full: Reservation, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = join(), join()
    end(machines, full)
    hold = actions.hold

    def fails_once(**values: Any) -> Reservation:
        if values["by"] == first.created_by:
            raise ZeroDivisionError
        return hold(**values)

    monkeypatch.setattr(actions, "hold", fails_once)

    assert offering.look_after(machines.clock.now) == 1
    assert fresh(first).reason == "An internal error happened; it is tried again."
    assert fresh(second).offer


# ---- what else holds an offer -----------------------------------------------------------------------------


def offered(machines: Machines, full: Reservation, **values: Any) -> WaitingEntry:
    entry = join(**values)
    end(machines, full)
    offering.look_after(machines.clock.now)
    return fresh(entry)


def test_an_offer_on_a_node_that_is_emptied_moves(full: Reservation, machines: Machines) -> None:
    entry = offered(machines, full)
    make_node("two", ram_mib=1024, cores=Decimal(1))
    Node.objects.filter(name="one").update(state=Node.State.DRAINING)

    moved = machines.reconcile(offer_of(entry))

    assert (moved.state, moved.node_name, moved.deadline) == ("offered", "two", offer_of(entry).deadline)
    assert machines.settle(take(entry, machines.clock.now)).state == "running"


def test_an_offer_that_finds_no_other_place_stays_and_lapses_in_time(full: Reservation, machines: Machines) -> None:
    entry = offered(machines, full)
    Node.objects.filter(name="one").update(state=Node.State.DRAINING)

    for _ in range(40):
        offer = machines.reconcile(offer_of(entry))
        if offer.state != "offered":
            break
        assert offer.look_at is not None
        assert offer.deadline is not None
        assert machines.clock.now < offer.look_at <= offer.deadline
        machines.clock.now = offer.look_at

    assert offer.state == "ended"


def test_an_offer_on_a_lost_node_is_placed_anew(full: Reservation, machines: Machines) -> None:
    entry = offered(machines, full)
    make_node("two", ram_mib=1024, cores=Decimal(1))

    lost.declare_lost(node=Node.objects.get(name="one"), by="operator", now=machines.clock.now)

    assert (offer_of(entry).state, offer_of(entry).node_name) == ("offered", "two")


def test_an_offer_that_is_lost_with_its_node_leaves_the_entry_at_its_place(
    full: Reservation, machines: Machines
) -> None:
    entry, behind = offered(machines, full), join()

    lost.declare_lost(node=Node.objects.get(name="one"), by="operator", now=machines.clock.now)
    Node.objects.filter(name="one").update(state=Node.State.CORDONED)
    offering.look_after(machines.clock.now)

    assert [fresh(row).place for row in (entry, behind)] == [1, 2]
    assert fresh(entry).offers_lapsed == 0


def test_what_is_only_offered_cannot_be_extended(full: Reservation, machines: Machines) -> None:
    entry = offered(machines, full)

    with pytest.raises(extending.CannotExtend, match="take the offer first"):
        extending.extend(reservation=offer_of(entry), length=HOUR, by=taker(entry), now=machines.clock.now)


def test_a_kept_volume_that_was_made_for_an_offer_goes_with_it(machines: Machines) -> None:
    from reservations.models import WorkspaceVolume
    from tests.factories import make_storage, profile

    make_storage()
    make_node("one", ram_mib=1024, cores=Decimal(1))
    full = make_reservation(make_user(), size=make_size("all", ram_mib=1024, cores=Decimal(1)))
    entry = offered(machines, full, storage=profile("C3"))
    assert WorkspaceVolume.objects.present().count() == 1

    lapse(entry, machines)

    # the next offer has its own, and what lapsed has none that is kept
    assert WorkspaceVolume.objects.present().get().pk == offer_of(entry).kept_volume_id


def test_a_custom_size_waits_as_any_other(full: Reservation, machines: Machines) -> None:
    entry = offered(machines, full, size=CustomSize(Decimal("0.25"), 320))

    assert (offer_of(entry).ram_mib, offer_of(entry).cores) == (320, Decimal("0.25"))
    assert Size.objects.count() == 2


def test_the_place_is_counted_in_one_query_for_all(full: Reservation, django_assert_num_queries: Any) -> None:
    user = make_user()
    for n in range(5):
        join(user, NOW + n * MINUTE, name=f"number {n}")
        join(None, NOW + n * MINUTE)

    with django_assert_num_queries(1):
        assert [entry.place for entry in waiting.shown_to(user)] == [1, 3, 5, 7, 9]


def test_a_long_line_takes_the_same_number_of_queries(full: Reservation, django_assert_max_num_queries: Any) -> None:
    for n in range(30):
        join(None, NOW + n * MINUTE)
    offering.look_after(NOW)

    with django_assert_max_num_queries(15):
        offering.look_after(NOW + 31 * MINUTE)
