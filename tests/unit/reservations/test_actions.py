"""Booking: what is refused writes nothing, what is accepted is held."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.apps import apps
from django.db import connection, models
from django.test.utils import CaptureQueriesContext

from accounts.models import AuditEntry, User, Workspace
from compute.capacity import NoCapacity
from compute.models import Allocation, Forward, Node
from reservations import actions
from reservations.actions import InvalidBooking, KeyReused, OverQuota, VolumeTaken
from reservations.models import Container, Endpoint, Event, IdempotencyKey, Reservation, Size
from tests.factories import (
    HOUR,
    NOW,
    at,
    make_booking,
    make_node,
    make_reservation,
    make_service,
    make_size,
    make_storage,
    make_user,
    profile,
    workspace_of,
)
from tests.unit.conftest import Queue

pytestmark = pytest.mark.django_db


def row_counts() -> dict[str, int]:
    """How many rows every table of ours has."""
    ours: list[type[models.Model]] = [
        model for label in ("accounts", "compute", "reservations") for model in apps.get_app_config(label).get_models()
    ]
    return {model.__name__: model._default_manager.count() for model in ours}


@pytest.fixture
def user() -> User:
    return make_user("ada")


@pytest.fixture
def node() -> Node:
    return make_node(ram_mib=4096, cores=Decimal(4))


def book(user: User, once: tuple[str, str] | None = None, **values: Any) -> Reservation:
    booking = make_booking(**values)
    return actions.book(booking=booking, workspace=workspace_of(user), by=user, now=NOW, once=once)[0]


# ---- what cannot be ---------------------------------------------------------------------------------------

BAD: dict[str, tuple[str, Callable[[], dict[str, Any]], str]] = {
    "a service that is not offered": ("service", lambda: {"service": make_service(active=False)}, "Not offered"),
    "a service whose image is missing": ("service", lambda: {"service": make_service(digest="")}, "operator can"),
    "a size that is not offered": ("size", lambda: {"size": make_size("old", active=False)}, "not offered any more"),
    "a size too small for the service": (
        "size",
        lambda: {"service": make_service(min_ram_mib=513)},
        "needs at least 513 MiB",
    ),
    "no time at all": ("duration", lambda: {"length": timedelta(0)}, "longer than zero"),
    "less than no time": ("duration", lambda: {"length": -HOUR}, "longer than zero"),
    "a time between the steps": ("duration", lambda: {"length": timedelta(minutes=7)}, "multiple of 15 minutes"),
    "a hair more than a step": ("duration", lambda: {"length": HOUR + timedelta(microseconds=1)}, "multiple of"),
    "more time than is allowed": ("duration", lambda: {"length": 745 * HOUR}, "At most 744 hours"),
    "a time beyond the calendar": ("duration", lambda: {"length": timedelta(days=3_000_000)}, "At most 744 hours"),
    "a start in the past": ("start", lambda: {"start": at(-1)}, "in the past"),
    "a start too far ahead": ("start", lambda: {"start": NOW + timedelta(days=181)}, "at most 180 days ahead"),
    "a name with a control character": ("name", lambda: {"name": "a\x00b"}, "Control characters"),
    "a name that turns the writing": ("name", lambda: {"name": "a\u202eb"}, "direction of writing"),
    "a name that is too long": ("name", lambda: {"name": "x" * 61}, "at most 60"),
    "no storage at all": ("storage_gb", lambda: {"storage_gb": 0}, "between 1 and 20 GB"),
    "more storage than the profile has": ("storage_gb", lambda: {"storage_gb": 21}, "between 1 and 20 GB"),
    "remote storage without a server": ("storage", lambda: {"storage": profile("C2")}, "No storage server"),
}


@pytest.mark.parametrize("what", BAD)
def test_it_is_refused_at_its_field_and_nothing_is_written(what: str, user: User, node: Node) -> None:
    field, values, sentence = BAD[what]
    booking = make_booking(**values())
    before = row_counts()

    with pytest.raises(InvalidBooking) as refused:
        actions.book(booking=booking, workspace=workspace_of(user), by=user, now=NOW)

    assert list(refused.value.problems) == [field]
    assert sentence in refused.value.problems[field]
    assert row_counts() == before


def test_every_problem_is_told_at_once(user: User, node: Node) -> None:
    with pytest.raises(InvalidBooking) as refused:
        book(user, length=timedelta(0), start=at(-1), name="x" * 61, storage_gb=0)

    assert set(refused.value.problems) == {"duration", "start", "name", "storage_gb"}


def test_a_start_that_was_now_when_the_form_was_filled_in_is_still_now(user: User, node: Node) -> None:
    reservation = book(user, start=NOW - timedelta(minutes=1))

    assert (reservation.start, reservation.end) == (NOW, at(1))


# ---- quota ------------------------------------------------------------------------------------------------

QUOTAS: list[tuple[dict[str, Any], str]] = [
    ({"max_reservations": 1}, "would make 2 reservations at once, and 1 are allowed"),
    ({"max_cores": Decimal("0.75")}, "would make 1 cores at once, and 0.75 are allowed"),
    ({"max_ram_mib": 1000}, "would make 1024 MiB of RAM at once"),
    ({"max_storage_gb": 1}, "would make 2 GB of storage, and 1 are allowed"),
]


@pytest.mark.parametrize(("limit", "sentence"), QUOTAS)
def test_more_than_the_quota_is_refused_and_nothing_is_written(
    limit: dict[str, Any], sentence: str, user: User, node: Node
) -> None:
    book(user)
    Workspace.objects.filter(personal_of=user).update(**limit)
    before = row_counts()

    with pytest.raises(OverQuota, match=sentence):
        book(user)

    assert row_counts() == before


@pytest.mark.parametrize(("limit", "sentence"), QUOTAS[:3])
def test_one_after_the_other_is_within_the_quota(limit: dict[str, Any], sentence: str, user: User, node: Node) -> None:
    book(user)
    Workspace.objects.filter(personal_of=user).update(**limit)

    assert book(user, start=at(1)).start == at(1)


def test_kept_volumes_count_towards_storage_whether_or_not_they_are_used(user: User, node: Node) -> None:
    make_storage()
    kept = book(user, storage=profile("C3"), storage_gb=5)
    actions.end(reservation=kept, text="over", by=user, now=NOW)
    Workspace.objects.filter(personal_of=user).update(max_storage_gb=5)

    with pytest.raises(OverQuota, match="6 GB of storage"):
        book(user, storage_gb=1)


# ---- capacity ---------------------------------------------------------------------------------------------


def test_when_it_is_too_big_for_every_node_it_says_so_and_writes_nothing(user: User, node: Node) -> None:
    booking = make_booking(size=make_size("giant", ram_mib=5000, cores=1))
    before = row_counts()

    with pytest.raises(NoCapacity, match="no compute node is big enough") as refused:
        actions.book(booking=booking, workspace=workspace_of(user), by=user, now=NOW)

    assert refused.value.next_slot is None
    assert row_counts() == before


def test_when_all_nodes_are_down_it_says_so_and_writes_nothing(user: User, node: Node) -> None:
    Node.objects.update(health=Node.Health.UNKNOWN)
    booking = make_booking()
    before = row_counts()

    with pytest.raises(NoCapacity, match="none of the compute nodes is in service"):
        actions.book(booking=booking, workspace=workspace_of(user), by=user, now=NOW)

    assert row_counts() == before


def test_when_it_is_full_it_says_when_it_would_fit(user: User) -> None:
    make_node(ram_mib=512)
    book(user, length=2 * HOUR)
    booking = make_booking()
    before = row_counts()

    with pytest.raises(NoCapacity, match="not enough RAM") as refused:
        actions.book(booking=booking, workspace=workspace_of(user), by=user, now=NOW)

    assert refused.value.next_slot == at(2)
    assert row_counts() == before
    assert book(user, start=at(2)).start == at(2)


def test_when_no_port_is_left_it_says_so_and_holds_no_place(user: User, node: Node) -> None:
    node.gateway.port_first = node.gateway.port_last = 20_000
    node.gateway.save()
    book(user)
    booking = make_booking()
    before = row_counts()

    with pytest.raises(NoCapacity, match="every public port"):
        actions.book(booking=booking, workspace=workspace_of(user), by=user, now=NOW)

    assert row_counts() == before


# ---- what is written --------------------------------------------------------------------------------------


def test_a_booking_holds_place_port_and_price_and_leaves_its_trace(user: User, node: Node) -> None:
    reservation = book(user, length=2 * HOUR, name="mine")

    allocation = Allocation.objects.get()
    forward = Forward.objects.get()
    assert (reservation.state, reservation.title, reservation.price) == ("booked", "mine", Decimal("0.50"))
    assert (allocation.ram_mib, allocation.during.lower, allocation.during.upper) == (512, NOW, at(2))
    assert (forward.wanted, forward.during.upper) == (False, at(2) + timedelta(minutes=10))
    assert Container.objects.get().machine_name == f"berth-{reservation.pk}-1-main"
    assert Endpoint.objects.get().reservation == reservation
    assert [event.new_state for event in Event.objects.all()] == ["booked"]
    assert AuditEntry.objects.filter(action="reservation.book", target=f"reservation:{reservation.pk}").count() == 1


def test_its_credentials_are_its_own(user: User, node: Node) -> None:
    one, other = book(user), book(user)

    assert len(one.credentials["password"]) == 24
    assert one.credentials["password"] != other.credentials["password"]


def test_a_worker_is_told_after_the_commit(
    user: User, node: Node, sent_hints: list[int], django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        reservation = book(user)
        assert sent_hints == []

    assert sent_hints == [reservation.pk]


def test_a_queue_that_is_down_is_no_reason_to_refuse(
    user: User, node: Node, queue: Queue, django_capture_on_commit_callbacks: Any
) -> None:
    queue.down = True

    with django_capture_on_commit_callbacks(execute=True):
        reservation = book(user)

    assert Reservation.objects.get().look_at == NOW + timedelta(seconds=5)
    assert reservation.state == "booked"


def test_what_was_booked_keeps_its_image_when_the_service_changes(user: User, node: Node) -> None:
    reservation = book(user)
    before = reservation.image
    reservation.service.digest = "sha256:" + "b" * 64
    reservation.service.save()

    assert Reservation.objects.get(pk=reservation.pk).image == before


# ---- the same twice ---------------------------------------------------------------------------------------


def test_the_same_key_and_body_book_once(user: User, node: Node) -> None:
    first = book(user, once=("key", "body"))
    again = book(user, once=("key", "body"))

    assert first == again
    assert Reservation.objects.count() == IdempotencyKey.objects.count() == 1


def test_the_same_key_with_another_body_is_refused(user: User, node: Node) -> None:
    book(user, once=("key", "body"))

    with pytest.raises(KeyReused):
        book(user, once=("key", "other"))

    assert Reservation.objects.count() == 1


def test_another_users_key_is_another_key(user: User, node: Node) -> None:
    book(user, once=("key", "body"))
    book(make_user(), once=("key", "body"))

    assert Reservation.objects.count() == 2


def test_a_key_of_a_refused_booking_can_be_used_again(user: User, node: Node) -> None:
    with pytest.raises(InvalidBooking):
        book(user, once=("key", "body"), length=timedelta(0))

    assert book(user, once=("key", "body")).pk


# ---- kept volumes -----------------------------------------------------------------------------------------


def kept_by(user: User) -> Any:
    make_storage()
    first = book(user, storage=profile("C3"), storage_gb=2)
    return first.kept_volume


def test_a_kept_volume_is_used_by_one_reservation_at_a_time(user: User, node: Node) -> None:
    volume = kept_by(user)
    before = row_counts()

    with CaptureQueriesContext(connection) as asked, pytest.raises(VolumeTaken):
        book(user, storage=profile("C3"), volume=volume)
    assert row_counts() == before
    # Who waits for the other's row, as the constraint does, must not hold the lock that its worker may wait for.
    assert not [query for query in asked if "pg_advisory_xact_lock" in query["sql"]]
    assert book(user, storage=profile("C3"), volume=volume, start=at(1)).storage_gb == 2


def test_a_kept_volume_is_free_when_its_reservation_is_over(user: User, node: Node) -> None:
    volume = kept_by(user)
    Reservation.objects.update(state="ended")

    assert book(user, storage=profile("C3"), volume=volume).kept_volume == volume


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (lambda: {"storage": profile("C1")}, "Only storage profile C3"),
        (lambda: {"storage": profile("C3"), "service": make_service("redis")}, "data of another service"),
    ],
)
def test_a_kept_volume_fits_only_where_it_belongs(
    values: Callable[[], dict[str, Any]], sentence: str, user: User, node: Node
) -> None:
    volume = kept_by(user)

    with pytest.raises(InvalidBooking, match=sentence):
        book(user, volume=volume, start=at(1), **values())


def test_somebody_elses_kept_volume_does_not_exist(user: User, node: Node) -> None:
    volume = kept_by(make_user())

    with pytest.raises(InvalidBooking, match="no such volume in this workspace"):
        book(user, storage=profile("C3"), volume=volume, start=at(1))


# ---- ending and wishing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["booked", "starting", "running", "stopped"])
def test_it_can_be_ended_in_every_live_state_once(state: str, user: User, node: Node) -> None:
    reservation = make_reservation(user)
    Reservation.objects.update(state=state)
    reservation.refresh_from_db()
    Forward.objects.update(wanted=True)

    first = actions.end(reservation=reservation, text="Deleted.", by=user, now=at(0.5))
    again = actions.end(reservation=Reservation.objects.get(), text="Deleted.", by=user, now=at(0.5))

    assert (first, again) == (True, False)
    assert Reservation.objects.get().state == "ending"
    assert not Forward.objects.filter(wanted=True).exists()
    assert Event.objects.filter(old_state=state, new_state="ending").count() == 1


@pytest.mark.parametrize("state", ["ending", "ended", "failed"])
def test_what_is_ending_or_over_is_not_ended_again(state: str, user: User, node: Node) -> None:
    reservation = make_reservation(user)
    Reservation.objects.update(state=state)
    reservation.refresh_from_db()
    before = row_counts()

    assert actions.end(reservation=reservation, text="Deleted.", by=user, now=NOW) is False
    assert actions.wish(reservation=reservation, wish=Reservation.Wish.STOP, by=user, now=NOW) is False
    assert row_counts() == before


def test_one_that_a_worker_moved_in_this_instant_is_ended_all_the_same(user: User, node: Node) -> None:
    seen_before = make_reservation(user)
    Reservation.objects.update(state="starting")

    assert actions.end(reservation=seen_before, text="Deleted.", by=user, now=NOW)
    assert Reservation.objects.get().state == "ending"


def test_a_size_that_is_taken_back_later_changes_nothing_that_was_booked(user: User, node: Node) -> None:
    reservation = make_reservation(user)
    Size.objects.update(ram_mib=1, cores=Decimal("0.1"))

    reservation.refresh_from_db()
    assert (reservation.ram_mib, reservation.cores) == (512, Decimal("0.50"))
