"""Warnings before the end: each once, also after extending, to whom it concerns, found by an index."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from accounts.dates import format_for
from accounts.models import Membership, Notice, Notification, NotificationChoice, User
from compute.models import SamplingMark
from reservations import extending, warnings
from reservations.models import Reservation
from reservations.states import State
from reservations.warnings import in_words, warn_of_ends
from tests.factories import NOW, at, make_node, make_reservation, make_user, workspace_of

pytestmark = pytest.mark.django_db
MINUTE = 1 / 60


@pytest.fixture(autouse=True)
def _first_round() -> None:
    make_node(ram_mib=65_536, cores=64)
    warn_of_ends(NOW)


def booked(user: User | None = None, hours: float = 48, **values: Any) -> Reservation:
    return make_reservation(user, length=timedelta(hours=hours), **values)


def titles() -> list[str]:
    return [row.title.partition(") ")[2] for row in Notification.objects.filter(kind=Notice.ENDS_SOON).order_by("pk")]


def walk(*hours: float) -> None:
    for hour in hours:
        warn_of_ends(at(hour))


def test_three_warnings_each_once() -> None:
    row = booked()

    walk(23, 24, 24.01, 30, 47, 47, 47.5, 48 - 10 * MINUTE, 48 - 9 * MINUTE, 48, 49)

    assert titles() == ["ends in 24 hours", "ends in 1 hour", "ends in 10 minutes"]
    first = Notification.objects.order_by("pk")[0]
    assert first.path == f"/reservations/{row.pk}/extend/"
    assert first.text.startswith("It ends on 6 May 2026, 10:00 UTC. What it has stored is deleted then.")
    assert (first.mail_until, first.by_mail, first.in_app) == (row.end, True, True)


@pytest.mark.parametrize(
    ("hours", "told"),
    [(0.25, 1), (1, 1), (1.25, 2), (24, 2), (24.25, 3)],
    ids=["15 min", "1 h", "75 min", "24 h", "more"],
)
def test_nobody_is_warned_of_what_was_near_when_it_was_booked(hours: float, told: int) -> None:
    booked(hours=hours)

    walk(*(minutes * MINUTE for minutes in range(5, 1500, 5)))

    assert len(titles()) == told


def test_one_for_later_is_not_warned_of_before_it_starts() -> None:
    booked(hours=2, start=at(10))

    walk(5, 10, 10.5, 11, 11.5)

    assert titles() == ["ends in 1 hour"]


def test_after_a_pause_of_the_workers_only_the_nearest_is_told() -> None:
    booked()

    walk(10, 47.5)
    assert titles() == ["ends in 30 minutes"]

    walk(48.5)
    assert titles() == ["ends in 30 minutes"]


def test_after_an_extension_the_new_end_is_warned_of_and_nothing_twice() -> None:
    user = make_user()
    row = booked(user)
    walk(24, 47)

    row = extending.extend(reservation=row, length=timedelta(hours=2), by=user, now=at(47.1))
    walk(47.2, 48, 48.9, 49, 49.1, 50 - 10 * MINUTE)

    assert titles() == ["ends in 24 hours", "ends in 1 hour", "ends in 1 hour", "ends in 10 minutes"]
    assert len({row.key for row in Notification.objects.all()}) == 4


def test_an_extension_by_days_brings_the_day_before_once_more() -> None:
    user = make_user()
    row = booked(user)
    walk(24)

    extending.extend(reservation=row, length=timedelta(hours=48), by=user, now=at(25))
    walk(26, 72)

    assert titles() == ["ends in 24 hours", "ends in 24 hours"]


@pytest.mark.parametrize("state", [State.OFFERED, State.ENDING, State.ENDED, State.FAILED])
def test_what_is_over_or_only_offered_is_not_warned_of(state: State) -> None:
    row = booked()
    Reservation.objects.filter(pk=row.pk).update(state=state)

    walk(24)

    assert titles() == []


def test_who_booked_it_hears_of_it_while_they_are_a_member_else_the_owners() -> None:
    owner, member = make_user("owner"), make_user("member")
    shared = workspace_of(owner)
    joined = Membership.objects.create(workspace=shared, user=member)
    row = booked(owner)
    Reservation.objects.filter(pk=row.pk).update(created_by=member)

    walk(24)
    joined.delete()
    walk(47)

    assert list(Notification.objects.order_by("pk").values_list("user__username", flat=True)) == ["member", "owner"]


@pytest.mark.parametrize("gone", [{"is_active": False}, {"closed_at": NOW}])
def test_when_who_booked_it_has_left_the_owners_hear_of_it(gone: dict[str, Any]) -> None:
    owner, member = make_user("owner"), make_user("member")
    Membership.objects.create(workspace=workspace_of(owner), user=member)
    row = booked(owner)
    Reservation.objects.filter(pk=row.pk).update(created_by=member)
    User.objects.filter(pk=member.pk).update(**gone)

    walk(24)

    assert Notification.objects.get().user == owner


def test_nobody_left_to_hear_of_it_stops_nothing() -> None:
    row = booked()
    Membership.objects.filter(workspace=row.workspace_id).delete()
    booked()

    walk(24)

    assert titles() == ["ends in 24 hours"]


def test_a_choice_is_heeded() -> None:
    user = make_user()
    NotificationChoice.objects.create(user=user, kind=Notice.ENDS_SOON, in_app=True, by_mail=False)
    booked(user)

    walk(24)

    assert Notification.objects.get().mail_at is None


def test_a_round_that_died_before_its_mark_tells_nobody_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    booked()
    walk(24)
    SamplingMark.objects.update(at=at(23))

    walk(24.1)

    assert titles() == ["ends in 24 hours"]


def test_a_round_that_dies_in_the_midst_is_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    booked(), booked(), booked()
    monkeypatch.setattr(warnings, "AT_ONCE", 1)
    warn = warnings._warn
    done: list[list[int]] = []

    def die(ids: list[int], since: datetime, now: datetime) -> int:
        if done:
            raise RuntimeError("died")
        done.append(ids)
        return warn(ids, since, now)

    with monkeypatch.context() as patch:
        patch.setattr(warnings, "_warn", die)
        with pytest.raises(RuntimeError):
            walk(24)
    assert len(titles()) == 1

    walk(24.1)

    assert len(titles()) == 3


def test_a_clock_that_was_ahead_keeps_nobody_unwarned() -> None:
    booked()
    SamplingMark.objects.update(at=at(500))

    walk(23.9, 24)

    assert titles() == ["ends in 24 hours"]


def test_the_queries_do_not_grow_with_the_warnings(django_assert_num_queries: Any) -> None:
    users = [make_user() for _ in range(3)]
    booked(users[0])
    with django_assert_num_queries(10) as few:
        walk(24)
    Notification.objects.all().delete()
    SamplingMark.objects.update(at=at(23))
    for user in users:
        for _ in range(5):
            booked(user)

    with django_assert_num_queries(len(few)):
        walk(24)
    assert len(titles()) == 16


def test_a_hundred_thousand_others_are_not_looked_at() -> None:
    row = booked()
    others = [
        Reservation(**{**_values(row), "end": at(100 + number / 10), "start": NOW, "created_at": NOW})
        for number in range(3000)
    ]
    Reservation.objects.bulk_create(others)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE reservations_reservation")

    plan = warnings._came_near(at(24) - timedelta(seconds=10), at(24)).explain()

    assert "reservation_live_end" in plan
    assert "Seq Scan" not in plan


def _values(row: Reservation) -> dict[str, Any]:
    fields = [field.attname for field in Reservation._meta.concrete_fields if field.attname not in {"id", "key"}]
    return {name: getattr(row, name) for name in fields}


# ---- words --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (86_400, "24 hours"),
        (86_395, "24 hours"),
        (3_599, "1 hour"),
        (600, "10 minutes"),
        (595, "10 minutes"),
        (60, "1 minute"),
        (1, "1 minute"),
        (18_720, "5 hours 12 minutes"),
        (3_660, "1 hour 1 minute"),
    ],
)
def test_how_long_is_left_in_words(seconds: int, words: str) -> None:
    assert in_words(timedelta(seconds=seconds)) == words


@pytest.mark.parametrize(
    ("zone", "instant", "text"),
    [
        ("Europe/Berlin", datetime(2026, 10, 25, 0, 30, tzinfo=UTC), "25 Oct 2026, 02:30 CEST"),
        ("Europe/Berlin", datetime(2026, 10, 25, 1, 30, tzinfo=UTC), "25 Oct 2026, 02:30 CET"),
        ("Europe/Berlin", datetime(2026, 3, 29, 1, 0, tzinfo=UTC), "29 Mar 2026, 03:00 CEST"),
        ("America/Sao_Paulo", datetime(2026, 5, 4, 10, 0, tzinfo=UTC), "4 May 2026, 07:00 UTC-03"),
        ("", datetime(2026, 5, 4, 10, 0, tzinfo=UTC), "4 May 2026, 10:00 UTC"),
        ("No/Where", datetime(2026, 5, 4, 10, 0, tzinfo=UTC), "4 May 2026, 10:00 UTC"),
    ],
)
def test_a_time_names_its_zone_also_where_clocks_are_set(zone: str, instant: datetime, text: str) -> None:
    assert format_for(User(time_zone=zone), instant) == text


def test_a_night_in_which_clocks_are_set_is_warned_of_by_the_hours_that_pass() -> None:
    user = make_user(time_zone="Europe/Berlin")
    row = booked(user)
    end = datetime(2026, 10, 25, 9, 0, tzinfo=UTC)  # 24 hours before it is 11:00 in summer time
    Reservation.objects.filter(pk=row.pk).update(end=end, start=end - timedelta(days=3))
    SamplingMark.objects.update(at=end - timedelta(days=2))

    warn_of_ends(end - timedelta(hours=24, seconds=1))
    assert titles() == []
    warn_of_ends(end - timedelta(hours=24))

    assert titles() == ["ends in 24 hours"]
    assert "25 Oct 2026, 10:00 CET" in Notification.objects.get().text


def test_the_end_is_told_in_the_language_that_was_chosen() -> None:
    booked(make_user(date_language="de"))

    walk(23, 24)

    assert Notification.objects.get().text.startswith("It ends on 06.05.2026, 10:00 UTC.")
