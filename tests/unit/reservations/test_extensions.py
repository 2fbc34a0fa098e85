"""What is offered is what extending would take: each offer fits, and the next step after the latest does not."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from accounts.models import User
from billing.models import BillingAccount
from compute.capacity import NoCapacity
from compute.models import Forward, Node
from reservations import actions, extending, extensions
from reservations.extensions import Offers, offers
from reservations.models import Reservation
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

pytestmark = pytest.mark.django_db
STEP = timedelta(minutes=15)
REFUSALS = (actions.InvalidBooking, actions.OverQuota, actions.CannotAfford, NoCapacity, extending.CannotExtend)
PROMISED = IntegrityError  # which `extend` says as CannotExtend


@pytest.fixture
def node() -> Node:
    return make_node("one", ram_mib=1024, cores=2)


@pytest.fixture
def user() -> User:
    return make_user()


@pytest.fixture
def reservation(node: Node, user: User) -> Reservation:
    return make_reservation(user, length=HOUR)


def booker(reservation: Reservation) -> User:
    assert reservation.created_by
    return reservation.created_by


def found(reservation: Reservation, now_h: float = 0.5) -> Offers:
    return offers(Reservation.objects.select_related("workspace").get(pk=reservation.pk), at(now_h))


def refused(reservation: Reservation, length: timedelta, now_h: float = 0.5) -> str:
    """Why extending it so far is refused; empty when it is not. Nothing is changed."""
    try:
        with transaction.atomic():
            by = booker(reservation)
            extending.prolong(reservation=reservation, length=length, by=by, now=at(now_h))
            transaction.set_rollback(True)
    except (*REFUSALS, PROMISED) as problem:
        return str(problem)
    return ""


# ---- what is in the way -----------------------------------------------------------------------------------


def nothing(reservation: Reservation) -> None:
    workspace = workspace_of(booker(reservation))
    workspace.max_hours = 30
    workspace.save()


def its_place(reservation: Reservation) -> None:
    make_reservation(start=at(3.1), size=make_size("big", ram_mib=1024))


def its_place_at_once(reservation: Reservation) -> None:
    make_reservation(start=at(1), size=make_size("big", ram_mib=1024))


def its_place_by_cores(reservation: Reservation) -> None:
    make_reservation(start=at(2.5), size=make_size("wide", ram_mib=64, cores=Decimal(2)))


def its_address(reservation: Reservation) -> None:
    gateway = make_gateway()
    gateway.port_last = gateway.port_first
    gateway.save()
    Forward.objects.update(public_port=gateway.port_first, node_port=gateway.port_first)
    make_node("two", ram_mib=8192, cores=8)
    make_reservation(start=at(5.2))


def the_quota(reservation: Reservation) -> None:
    user = booker(reservation)
    make_node("two", ram_mib=8192, cores=8)
    make_reservation(user, start=at(2), length=2 * HOUR)
    make_reservation(user, start=at(3), length=HOUR)
    workspace = workspace_of(user)
    workspace.max_reservations = 2
    workspace.save()


def the_budget(reservation: Reservation) -> None:
    BillingAccount.objects.update_or_create(
        workspace_id=reservation.workspace_id, defaults={"monthly_budget": Decimal("1.30"), "hard_stop": True}
    )


def the_limit(reservation: Reservation) -> None:
    BillingAccount.objects.update_or_create(
        workspace_id=reservation.workspace_id, defaults={"credit_limit": Decimal("2.10")}
    )


WAYS = [
    (nothing, "At most 30 hours can be booked ahead."),
    (its_place, "Its place is booked by somebody else"),
    (its_place_at_once, "Its place is booked by somebody else"),
    (its_place_by_cores, "Its place is booked by somebody else"),
    (its_address, "Its address is promised"),
    (the_quota, "this would make 3 reservations at once, and 2 are allowed"),
    (the_budget, "of the budget of $1.30"),
    (the_limit, "of the limit of $2.10"),
]


@pytest.mark.parametrize(("way", "why"), WAYS, ids=[way.__name__ for way, _ in WAYS])
def test_what_is_offered_is_what_extending_takes(
    way: Callable[[Reservation], None], why: str, reservation: Reservation, settings: Any
) -> None:
    settings.BERTH_PRICE_PER_CORE_HOUR = Decimal(1)
    way(reservation)

    offered = found(reservation)

    assert why in offered.why
    assert (offered.latest - reservation.end) % STEP == timedelta(0)
    assert refused(reservation, offered.latest + STEP - reservation.end)
    if offered.latest > reservation.end:
        assert refused(reservation, offered.latest - reservation.end) == ""
    for each in offered.extensions:
        assert refused(reservation, each.length) == ""
        assert each.end == reservation.end + each.length <= offered.latest
        assert each.price == extending.quoted(reservation, each.end).price == reservation.price + each.more
    assert bool(offered.extensions) == (offered.latest > reservation.end)


def test_the_longest_that_fits_is_offered_beside_the_common_lengths(reservation: Reservation) -> None:
    its_place(reservation)

    offered = found(reservation)

    assert [each.minutes for each in offered.extensions] == [15, 30, 60, 120]
    assert offered.latest == at(3)


def test_a_volume_that_is_booked_later_is_in_the_way(node: Node, user: User) -> None:
    make_storage()
    service = make_service(mount_path="/data")
    first = make_reservation(user, service=service, storage=profile("C3"))
    make_reservation(user, service=service, storage=profile("C3"), volume=first.kept_volume, start=at(2.4))

    offered = found(first)

    assert (offered.latest, offered.why) == (at(2.25), "Its volume is booked by another reservation from then on.")


@pytest.mark.parametrize(
    ("state", "sentence"), [("ended", "over already"), ("ending", "over already"), ("offered", "take the offer first")]
)
def test_what_is_over_or_only_offered_has_no_extension(state: str, sentence: str, reservation: Reservation) -> None:
    Reservation.objects.update(state=state)

    offered = found(reservation)

    assert (offered.extensions, offered.latest) == ([], reservation.end)
    assert sentence in offered.why


def test_the_answer_takes_the_same_queries_whatever_there_is(
    reservation: Reservation, user: User, django_assert_num_queries: Any, django_assert_max_num_queries: Any
) -> None:
    the_budget(reservation)
    row = Reservation.objects.select_related("workspace").get(pk=reservation.pk)
    with django_assert_max_num_queries(25) as asked:
        assert extensions.offers(row, NOW).extensions
    BillingAccount.objects.update(monthly_budget=Decimal(100_000))
    make_node("two", ram_mib=65_536, cores=64)
    for hours in range(2, 12):
        make_reservation(user, start=at(hours), length=HOUR)

    with django_assert_num_queries(len(asked)):
        assert len(extensions.offers(row, NOW).extensions) > 5


def test_rates_that_change_in_between_are_in_every_price(reservation: Reservation) -> None:
    from billing import actions as prices

    prices.set_rate(workspace=None, start=at(3), end=None, per_core_hour=Decimal(7), by="x", now=NOW)

    for each in found(reservation).extensions:
        assert each.price == extending.quoted(reservation, each.end).price
