"""Shortening: what is held after the new end is anybody's in the same instant, and nothing that served is lost."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from accounts.models import AuditEntry, User
from compute import load_steps
from compute.capacity import NoCapacity
from compute.models import Allocation, Forward, Node
from reservations import actions, extending, observing
from reservations.models import Container, Event, Reservation, UsagePeriod
from reservations.shortening import CannotShorten, earliest_end, shorten
from tests.factories import (
    HOUR,
    NOW,
    at,
    make_gateway,
    make_node,
    make_reservation,
    make_service,
    make_size,
    make_storage,
    make_user,
    profile,
    workspace_of,
)
from tests.unit.conftest import Machines

pytestmark = pytest.mark.django_db


@pytest.fixture
def node() -> Node:
    return make_node("one", ram_mib=1024, cores=2)


@pytest.fixture
def reservation(node: Node) -> Reservation:
    return make_reservation(length=4 * HOUR)


def by(reservation: Reservation) -> User:
    assert reservation.created_by
    return reservation.created_by


def shorter(reservation: Reservation, hours: float = 1, now_h: float = 0.5) -> Reservation:
    return shorten(reservation=reservation, length=timedelta(hours=hours), by=by(reservation), now=at(now_h))


def test_it_ends_earlier_costs_less_and_keeps_place_and_address(reservation: Reservation) -> None:
    price, address = reservation.price, [e.address for e in reservation.endpoints.all()]

    row = shorter(reservation, hours=2)

    assert row.end == at(2)
    assert row.price == price / 2
    assert [e.address for e in row.endpoints.all()] == address
    assert Allocation.objects.get().during.upper == at(2)
    assert Forward.objects.get().during.upper == at(2) + actions.port_rest()
    assert load_steps.wrong_steps(NOW) == []
    assert Event.objects.filter(text="Shortened: it ends 2026-05-04 12:00 UTC.").count() == 1
    entry = AuditEntry.objects.get(action="reservation.shorten")
    assert (entry.data["before"], entry.data["end"]) == (at(4).isoformat(), at(2).isoformat())


def test_its_place_is_anybodys_at_once(reservation: Reservation) -> None:
    whole = make_size("whole", ram_mib=1024, cores=Decimal(2))
    with pytest.raises(NoCapacity):
        make_reservation(start=at(3), size=whole)

    shorter(reservation)

    assert make_reservation(start=at(3), size=whole).start == at(3)


def test_its_port_rests_and_is_lent_again_after_that(node: Node) -> None:
    gateway = make_gateway()
    gateway.port_last = gateway.port_first  # one port for all
    gateway.save()
    reservation = make_reservation(length=4 * HOUR)
    shorter(reservation)

    with pytest.raises(NoCapacity, match="every public port"):
        make_reservation(start=at(3))
    rested = at(3) + actions.port_rest()
    assert make_reservation(start=rested).start == rested


def test_its_volume_can_be_booked_from_the_new_end_on(machines: Machines, node: Node) -> None:
    make_storage()
    service, user = make_service(mount_path="/data"), make_user()
    first = make_reservation(service=service, storage=profile("C3"), user=user, length=4 * HOUR)
    values: dict[str, Any] = {"service": service, "storage": profile("C3"), "user": user, "volume": first.kept_volume}
    with pytest.raises(actions.VolumeTaken):
        make_reservation(**values, start=at(3))

    shorter(first)

    assert make_reservation(**values, start=at(3)).kept_volume == first.kept_volume


def test_the_terms_stay_whatever_the_rates_are_now(reservation: Reservation, settings: Any) -> None:
    price, terms = reservation.price, reservation.terms
    settings.BERTH_PRICE_PER_CORE_HOUR = Decimal(99)

    row = shorter(reservation, hours=1)

    assert (row.price, row.terms) == (price * 3 / 4, terms)


def test_extended_again_it_pays_todays_rate_for_what_it_gave_up(reservation: Reservation, settings: Any) -> None:
    settings.BERTH_PRICE_PER_CORE_HOUR = Decimal(99)
    row = shorter(reservation, hours=1)

    longer = extending.extend(reservation=row, length=HOUR, by=by(row), now=at(1))

    assert longer.end == at(4)
    assert longer.price == row.price + row.cores * 99
    assert load_steps.wrong_steps(NOW) == []


def test_what_is_given_up_no_longer_counts_for_the_quota(reservation: Reservation) -> None:
    workspace = workspace_of(by(reservation))
    workspace.max_reservations = 1
    workspace.save()
    with pytest.raises(actions.OverQuota):
        make_reservation(user=by(reservation), start=at(3))

    shorter(reservation)

    assert make_reservation(user=by(reservation), start=at(3)).start == at(3)


@pytest.mark.parametrize(
    ("hours", "now_h", "sentence"),
    [
        (0, 0.5, "by more than zero"),
        (-1, 0.5, "by more than zero"),
        (0.1, 0.5, "a multiple of 15 minutes"),
        (4, 0.5, "15 minutes from now; delete it"),
        (3.5, 0.5, "15 minutes from now; delete it"),
        (10_000, 0.5, "15 minutes from now; delete it"),
        (4, -2, "15 minutes from its start; delete it"),
    ],
)
def test_a_length_that_cannot_be_is_refused(hours: float, now_h: float, sentence: str, node: Node) -> None:
    reservation = make_reservation(length=4 * HOUR, now=at(-3), start=NOW)

    with pytest.raises(actions.InvalidBooking, match=sentence):
        shorter(reservation, hours=hours, now_h=now_h)

    assert Reservation.objects.get().end == at(4)
    assert Allocation.objects.get().during.upper == at(4)


@pytest.mark.parametrize(("now_h", "ends"), [(-2, 0.25), (0, 0.25), (0.5, 0.75), (0.6, 1.0), (3.8, 4.0), (5, 4.0)])
def test_the_earliest_end_is_a_step_away_and_on_the_grid(now_h: float, ends: float, reservation: Reservation) -> None:
    assert earliest_end(reservation, at(now_h)) == at(ends)


def test_the_earliest_end_is_taken(reservation: Reservation) -> None:
    length = reservation.end - earliest_end(reservation, at(1.1))

    assert shorten(reservation=reservation, length=length, by=by(reservation), now=at(1.1)).end == at(1.5)


@pytest.mark.parametrize("state", ["ending", "ended", "failed"])
def test_what_is_over_is_not_shortened(state: str, reservation: Reservation) -> None:
    Reservation.objects.update(state=state)

    with pytest.raises(CannotShorten, match="over already"):
        shorter(reservation)


def test_what_is_only_offered_is_not_shortened_nor_extended(reservation: Reservation) -> None:
    Reservation.objects.update(state="offered")

    with pytest.raises(CannotShorten, match="take the offer first"):
        shorter(reservation)
    with pytest.raises(extending.CannotExtend, match="take the offer first"):
        extending.extend(reservation=reservation, length=HOUR, by=by(reservation), now=at(0.5))


def test_its_node_is_told_the_new_end_and_it_ends_then(
    machines: Machines,
    reservation: Reservation,
    monkeypatch: pytest.MonkeyPatch,
    sent_hints: list[int],
    django_capture_on_commit_callbacks: Any,
) -> None:
    machines.with_ssh = True
    told: list[object] = []
    monkeypatch.setattr("compute.guard.write_lease", lambda host, name, end: told.append((name, end)))
    machines.settle(reservation)
    sent_hints.clear()
    with django_capture_on_commit_callbacks(execute=True):
        shorter(reservation)
    assert sent_hints == [reservation.pk]

    machines.settle(reservation)
    machines.settle(reservation)
    machines.clock.now = at(3)
    after = machines.settle(reservation)

    assert told == [(f"berth-{reservation.pk}-1-main", at(3))]
    assert Container.objects.get().expires_at == at(3)
    assert after.state == "ended"
    assert UsagePeriod.objects.get().during.upper == at(3)


def test_a_worker_that_had_read_the_old_end_charges_nothing_after_the_new_one(
    machines: Machines, reservation: Reservation
) -> None:
    """It read the row, slept, and stops it when its new end is over already."""
    machines.settle(reservation)
    old = Reservation.objects.get()
    shorter(reservation)

    actions.start_ending(old, text="Deleted.", by="x", now=at(3.2))

    assert UsagePeriod.objects.get().during.upper == at(3)


def test_shortened_while_a_worker_looks_it_is_not_left_until_the_old_end(
    machines: Machines, reservation: Reservation, monkeypatch: pytest.MonkeyPatch, sent_hints: list[int]
) -> None:
    machines.settle(reservation)
    write = observing.write

    def shorten_meanwhile(*words: Any) -> None:
        if Reservation.objects.get().end == at(4):
            shorter(reservation)
            sent_hints.clear()  # the customer's own hint comes while the worker has the claim, and does nothing
        write(*words)

    monkeypatch.setattr(observing, "write", shorten_meanwhile)

    row = machines.reconcile(reservation)

    assert row.look_at is not None
    assert row.look_at < at(1)
    assert sent_hints == [reservation.pk]
