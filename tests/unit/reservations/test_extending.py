"""Extending: later, at the same place and address, if nobody else has what it takes by then."""

import re
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import AuditEntry, User
from compute import capacity, load_steps
from compute.capacity import NoCapacity
from compute.engine import NoAnswer
from compute.models import Allocation, Forward, Node
from reservations import actions, extensions, observing, reconcile
from reservations.extending import CannotExtend, extend
from reservations.hours import hours_of, length_of
from reservations.models import Container, Event, Reservation, UsagePeriod
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
    make_token,
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
    return make_reservation(length=HOUR)


def by(reservation: Reservation) -> User:
    assert reservation.created_by
    return reservation.created_by


def longer(reservation: Reservation, hours: float = 1, now_h: float = 0.5) -> Reservation:
    return extend(reservation=reservation, length=timedelta(hours=hours), by=by(reservation), now=at(now_h))


def test_it_ends_later_costs_more_and_keeps_place_and_address(reservation: Reservation) -> None:
    price, address = reservation.price, [e.address for e in reservation.endpoints.all()]

    row = longer(reservation, hours=2)

    assert row.end == at(3)
    assert row.price == 3 * price
    assert [e.address for e in row.endpoints.all()] == address
    assert Allocation.objects.get().during.upper == at(3)
    assert Forward.objects.get().during.upper == at(3) + actions.port_rest()
    assert load_steps.wrong_steps(NOW) == []
    assert Event.objects.filter(text="Extended until 2026-05-04 13:00 UTC.").count() == 1
    assert AuditEntry.objects.filter(action="reservation.extend").count() == 1


def test_what_is_added_has_the_rate_of_today(reservation: Reservation, settings: object) -> None:
    """What was booked keeps its price; an extension is bought when it is asked for."""
    settings.BERTH_PRICE_PER_CORE_HOUR = Decimal(99)  # type: ignore[attr-defined]

    assert longer(reservation).price == reservation.price + reservation.cores * 99


def test_a_place_that_somebody_else_has_by_then_is_not_taken(reservation: Reservation) -> None:
    other = make_reservation(start=at(1.5), size=make_size("big", ram_mib=1024))
    before = Reservation.objects.values_list("end", "price").get(pk=reservation.pk)

    with pytest.raises(NoCapacity, match="booked by somebody else after its end"):
        longer(reservation)

    assert Reservation.objects.values_list("end", "price").get(pk=reservation.pk) == before
    assert longer(reservation, hours=0.5).end == other.start  # up to the other one it can


def test_an_address_that_is_promised_is_said_so(reservation: Reservation) -> None:
    gateway = make_gateway()
    gateway.port_last = gateway.port_first  # one port for all
    gateway.save()
    Forward.objects.update(public_port=gateway.port_first, node_port=gateway.port_first)
    make_node("two", ram_mib=8192, cores=8)
    make_reservation(start=at(2))

    with pytest.raises(CannotExtend, match="Its address is promised"):
        longer(reservation)

    assert Allocation.objects.get(container__reservation=reservation).during.upper == at(1)


def test_a_volume_that_is_booked_is_said_so(machines: Machines, node: Node) -> None:
    make_storage()
    service, user = make_service(mount_path="/data"), make_user()
    first = make_reservation(service=service, storage=profile("C3"), user=user)
    make_reservation(service=service, storage=profile("C3"), user=user, volume=first.kept_volume, start=at(2))

    with pytest.raises(CannotExtend, match="Its volume is booked"):
        longer(first, hours=1.5)


@pytest.mark.parametrize(
    ("hours", "sentence"),
    [
        (0, "longer than zero"),
        (-1, "longer than zero"),
        (0.1, "a multiple of 15 minutes"),
        (10_000, "can be booked ahead"),
    ],
)
def test_a_length_that_cannot_be_is_refused(hours: float, sentence: str, reservation: Reservation) -> None:
    with pytest.raises(actions.InvalidBooking, match=sentence):
        longer(reservation, hours=hours)

    assert Reservation.objects.get().end == at(1)


def test_the_quota_counts_for_the_longer_time(reservation: Reservation) -> None:
    workspace = workspace_of(by(reservation))
    workspace.max_reservations = 1
    workspace.save()
    Reservation.objects.exclude(pk=reservation.pk).delete()
    make_node("two", cores=8)
    make_reservation(user=by(reservation), start=at(1))

    with pytest.raises(actions.OverQuota, match="1 are allowed"):
        longer(reservation)


@pytest.mark.parametrize("state", ["ending", "ended", "failed"])
def test_what_is_over_is_not_extended(state: str, reservation: Reservation) -> None:
    Reservation.objects.update(state=state)

    with pytest.raises(CannotExtend, match="over already"):
        longer(reservation)


def test_at_its_very_end_it_is_too_late(reservation: Reservation) -> None:
    with pytest.raises(CannotExtend, match="over already"):
        longer(reservation, now_h=1)


def test_an_extension_in_the_instant_of_the_end_wins_or_loses_whole(
    machines: Machines, reservation: Reservation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker has read the old end, and the customer extends before it ends the reservation."""
    machines.settle(reservation)
    machines.clock.now = at(1)
    start_ending = actions.start_ending
    extended: list[Reservation] = []

    def extend_first(*args: object, **values: object) -> None:
        if not extended:
            extended.append(longer(reservation, now_h=0.9999))
        start_ending(*args, **values)  # type: ignore[arg-type]

    monkeypatch.setattr("reservations.actions.start_ending", extend_first)

    machines.reconcile(reservation)
    after = machines.settle(reservation)

    assert (after.state, after.end) == ("running", at(2))
    assert UsagePeriod.objects.get().during.upper is None


def test_its_node_is_told_the_new_end(
    machines: Machines, reservation: Reservation, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines.with_ssh = True
    told: list[object] = []
    monkeypatch.setattr("compute.guard.write_lease", lambda host, name, end: told.append((name, end)))
    machines.settle(reservation)
    first = Container.objects.get().expires_at
    longer(reservation)

    machines.settle(reservation)
    machines.settle(reservation)

    assert first == at(1)
    assert told == [(f"berth-{reservation.pk}-1-main", at(2))]
    assert Container.objects.get().expires_at == at(2)


def test_a_node_that_cannot_be_told_is_told_again(
    machines: Machines, reservation: Reservation, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines.with_ssh = True
    machines.settle(reservation)
    longer(reservation)

    def silent(*words: object) -> None:
        raise NoAnswer("no SSH")

    with monkeypatch.context() as cut:
        cut.setattr("compute.guard.write_lease", silent)
        waits = machines.reconcile(reservation)
    monkeypatch.setattr("compute.guard.write_lease", lambda *words: None)
    machines.reconcile(reservation)

    assert waits.state == "running"
    assert waits.look_at == machines.clock.now + reconcile.TELL_AGAIN
    assert Container.objects.get().expires_at == at(2)


def test_one_that_was_extended_while_it_stood_still_is_not_ended_at_its_old_end(
    machines: Machines, reservation: Reservation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its container is there already, and its label and any lease say the old end: the node must hear the new one."""
    machines.with_ssh = True
    told: list[object] = []
    machines.settle(reservation)
    actions.wish(reservation=reservation, wish=Reservation.Wish.STOP, by=by(reservation), now=machines.clock.now)
    machines.reconcile(reservation)
    longer(reservation)
    actions.wish(reservation=reservation, wish=Reservation.Wish.RUN, by=by(reservation), now=machines.clock.now)

    def refuse(*words: object) -> None:
        raise NoAnswer("no SSH")

    with monkeypatch.context() as cut:
        cut.setattr("compute.guard.write_lease", refuse)
        waits = machines.reconcile(reservation)
    monkeypatch.setattr("compute.guard.write_lease", lambda host, name, end: told.append((name, end)))
    after = machines.settle(reservation)

    assert (waits.state, waits.reason) == ("starting", "Waiting: its node cannot be told its new end yet.")
    assert after.state == "running"
    assert told == [(f"berth-{reservation.pk}-1-main", at(2))]


def test_an_extension_while_a_worker_looks_is_told_at_once_and_not_at_the_old_end(
    machines: Machines, reservation: Reservation, monkeypatch: pytest.MonkeyPatch, sent_hints: list[int]
) -> None:
    machines.settle(reservation)
    write = observing.write

    def extend_meanwhile(*words: Any) -> None:
        if Reservation.objects.get().end == at(1):
            longer(reservation)
            sent_hints.clear()  # the customer's own hint comes while the worker has the claim, and does nothing
        write(*words)

    monkeypatch.setattr(observing, "write", extend_meanwhile)

    row = machines.reconcile(reservation)

    assert row.end == at(2)
    assert row.look_at is not None
    assert row.look_at < at(1)
    assert sent_hints == [reservation.pk]


def test_the_plan_is_right_when_an_overdue_one_was_held_on(reservation: Reservation) -> None:
    allocation = Allocation.objects.get()
    capacity.hold_until(allocation, at(1.25))

    assert longer(reservation).end == at(2)
    assert Allocation.objects.get().during.upper == at(2)
    assert load_steps.wrong_steps(NOW) == []


# ---- page and API -----------------------------------------------------------------------------------------


@pytest.fixture
def soon(node: Node) -> Reservation:
    """One that has not begun, by the real clock that pages go by."""
    reservation = make_reservation(length=HOUR)
    start = timezone.now() + timedelta(hours=1)
    Reservation.objects.update(start=start, end=start + HOUR)
    Allocation.objects.update(during=capacity.window(start, start + HOUR))
    node.steps.all().delete()
    load_steps.rebuild(node)
    return Reservation.objects.get(pk=reservation.pk)


def test_the_api_extends(soon: Reservation) -> None:
    bearer = {"Authorization": f"Bearer {make_token(by(soon))}"}
    address = f"/api/v1/reservations/{soon.pk}/extend"

    good = Client(headers=bearer).post(address, {"hours": 1}, content_type="application/json")
    bad = Client(headers=bearer).post(address, {"hours": 0.1}, content_type="application/json")
    other = Client(headers={"Authorization": f"Bearer {make_token(make_user())}"})
    foreign = other.post(address, {"hours": 1}, content_type="application/json")
    Reservation.objects.update(state="ending")
    over = Client(headers=bearer).post(address, {"hours": 1}, content_type="application/json")

    assert (good.status_code, good.json()["price"]) == (200, str(2 * soon.price))
    assert (bad.status_code, list(bad.json()["errors"])) == (422, ["hours"])
    assert foreign.status_code == 404
    assert (over.status_code, over.json()["code"]) == (409, "cannot_extend")


@pytest.mark.parametrize("step", [5, 10, 20])
def test_the_api_gives_hours_of_four_decimals_and_takes_them_back(
    step: int, soon: Reservation, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.BERTH_STEP_MINUTES = step
    monkeypatch.setattr(extensions, "COMMON_MINUTES", (step, 60))
    client = Client(headers={"Authorization": f"Bearer {make_token(by(soon))}"})
    address = f"/api/v1/reservations/{soon.pk}/"

    offered = client.get(f"{address}extensions").json()["extensions"]
    answers = [client.post(f"{address}extend", {"hours": offered[0]["hours"]}, content_type="application/json")]

    assert offered[0]["hours"] == {5: "0.0833", 10: "0.1667", 20: "0.3333"}[step]
    assert all(re.fullmatch(r"\d+(\.\d{1,4})?", each["hours"]) for each in offered)
    assert [answer.status_code for answer in answers] == [200]
    assert Reservation.objects.get().end == soon.end + timedelta(minutes=step)


@pytest.mark.parametrize("minutes", [1, 5, 7, 15, 20, 60, 600, 6000, 44640])
def test_hours_are_read_as_they_are_written(minutes: int) -> None:
    length = timedelta(minutes=minutes)

    assert length_of(hours_of(length)) == length
    assert "E" not in str(hours_of(length))


def test_the_page_offers_lengths_with_their_price_and_extends(soon: Reservation) -> None:
    client = Client()
    client.force_login(by(soon))
    address = f"/reservations/{soon.pk}/extend/"

    page = client.get(address)
    refused = client.post(address, {"minutes": "7"})
    done = client.post(address, {"minutes": "60"})

    assert re.search(rf"1 h</span>.*?\+\${soon.price}", page.text, re.DOTALL)
    assert (page.status_code, refused.status_code) == (200, 422)
    assert "This length is not offered." in refused.text
    assert done["Location"] == f"/reservations/{soon.pk}/"
    assert Reservation.objects.get().end == soon.end + HOUR


def test_somebody_elses_cannot_be_extended_on_the_page(soon: Reservation) -> None:
    client = Client()
    client.force_login(make_user())

    assert client.post(f"/reservations/{soon.pk}/extend/", {"minutes": "60"}).status_code == 404
    assert Reservation.objects.get().end == soon.end


# ---- an end that somebody else has moved ------------------------------------------------------------------


def test_a_length_that_was_chosen_for_another_end_adds_nothing(reservation: Reservation) -> None:
    seen = reservation.end
    longer(reservation)

    with pytest.raises(CannotExtend, match="was changed a moment ago"):
        extend(reservation=reservation, length=HOUR, by=by(reservation), now=at(0.5), seen_end=seen)

    reservation.refresh_from_db()
    assert reservation.end == seen + HOUR


@pytest.mark.parametrize("deed", ["extend", "shorten"])
@pytest.mark.parametrize("choice", ["minutes", "exact"])
def test_a_page_that_is_old_moves_no_end(choice: str, deed: str, node: Node) -> None:
    """As a second click does, which comes after the first has been done."""
    now = timezone.now()
    row = make_reservation(now=now, length=4 * HOUR)
    browser = Client()
    browser.force_login(by(row), backend="django.contrib.auth.backends.ModelBackend")
    page = f"/reservations/{row.pk}/{deed}/"
    assert row.end.isoformat() in browser.get(page).content.decode()
    until = row.end + (HOUR if deed == "extend" else -HOUR)
    typed = {"minutes": "60"} if choice == "minutes" else {"minutes": "exact", "end": f"{until:%Y-%m-%dT%H:%M}"}
    form = typed | {"seen": row.end.isoformat()}

    assert browser.post(page, form).status_code == 302
    again = browser.post(page, form)

    assert again.status_code == 422
    assert "was changed a moment ago" in str(again.context["form"].non_field_errors())
    row.refresh_from_db()
    assert row.end == until
    assert row.end.isoformat() in again.content.decode()
