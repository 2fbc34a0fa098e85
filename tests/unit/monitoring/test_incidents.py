"""What becomes of the rows look by look: one incident, one message, one all-clear."""

from datetime import timedelta
from typing import Any

import pytest

from accounts.models import AuditEntry
from compute.models import Node
from monitoring.alerts import incidents
from monitoring.alerts.rules import FLAPPING_CLEARS_AFTER, RULES
from monitoring.models import Delivery, Incident
from tests.factories import NOW, make_node, make_user
from tests.unit.conftest import Time
from tests.unit.monitoring.watching import ill, see

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock() -> Time:
    return Time(NOW)


@pytest.fixture(autouse=True)
def _somebody_is_told(settings: Any) -> None:
    settings.BERTH_ALERT_MAIL = ["ops@example.org", "oncall@example.org"]


def told() -> list[tuple[str, str]]:
    return [(row.about, row.recipient.split("@")[0]) for row in Delivery.objects.order_by("pk")]


def last(clock: Time, seconds: int, *, there: bool = True, every_s: int = 5) -> None:
    """It is there, or away, for so long."""
    for _ in range(seconds // every_s):
        clock.forward(seconds=every_s)
        see(clock.now, *[ill()] * there)


def test_it_is_pending_then_told_to_everybody_then_over(clock: Time) -> None:
    see(clock.now, ill())
    row = Incident.objects.get()
    assert (row.opened_at, row.severity, row.name, told()) == (None, "critical", "node1", [])

    last(clock, 30)
    row.refresh_from_db()
    assert row.opened_at == NOW + RULES["node_down"].opens_after
    assert (row.first_seen_at, row.last_seen_at) == (NOW, clock.now)
    assert told() == [("opened", "ops"), ("opened", "oncall")]

    last(clock, 10, there=False)
    row.refresh_from_db()
    assert row.closed_at == NOW + timedelta(seconds=35)
    assert told()[2:] == [("closed", "ops"), ("closed", "oncall")]
    last(clock, 60, there=False)
    assert len(told()) == 4


def test_what_heals_while_it_is_pending_leaves_nothing(clock: Time) -> None:
    see(clock.now, ill())
    last(clock, 5, there=False)

    assert not Incident.objects.exists()
    assert told() == []


def test_what_is_told_at_once_has_no_pending_time(clock: Time) -> None:
    came = see(clock.now, ill("disk_full"))

    assert [row.kind for row in came.opened] == ["disk_full"]
    assert len(told()) == 2


def test_its_sentence_follows_what_is_seen(clock: Time) -> None:
    see(clock.now, ill(sentence="connection refused"))
    clock.forward(seconds=5)
    see(clock.now, ill(sentence="no route\nto host" + 500 * "!"))

    row = Incident.objects.get()
    assert row.sentence.startswith("no route to host!")
    assert len(row.sentence) == 400


def test_what_cannot_be_seen_stays_as_it_is(clock: Time) -> None:
    see(clock.now, ill("memory_short"))
    for _ in range(30):
        clock.forward(seconds=5)
        see(clock.now, ill("memory_short"))
    for blind in (("memory_short", "node:1"), ("memory_short", "")):
        clock.forward(hours=1)
        see(clock.now, blind=frozenset({blind}))
        assert Incident.objects.get().closed_at is None

    clock.forward(seconds=60)
    see(clock.now)
    assert Incident.objects.get().closed_at == clock.now


def test_a_node_that_was_taken_out_is_not_said_to_be_back(clock: Time) -> None:
    one, two = make_node("node1"), make_node("node2")
    for seconds in (0, 10):
        see(NOW + timedelta(seconds=seconds), ill(number=one.pk), ill(number=two.pk))
    Node.objects.filter(pk=one.pk).update(state=Node.State.REMOVED)
    came = see(NOW + timedelta(seconds=60))

    said = {row.subject: (incidents.over_title(row), row.sentence) for row in Incident.objects.all()}
    assert len(came.closed) == 2
    assert said[f"node:{one.pk}"] == (f"node{one.pk} was removed", "It was taken out of the fleet. no route to host")
    assert said[f"node:{two.pk}"] == (f"node{two.pk} is back", "no route to host")


def test_two_outages_of_a_node_are_two_incidents_and_a_short_return_is_none(clock: Time) -> None:
    see(clock.now, ill())
    last(clock, 10)
    last(clock, 10, there=False)
    see(clock.now, ill())
    last(clock, 10)
    assert Incident.objects.count() == 2
    assert told().count(("opened", "ops")) == 2

    see(clock.now + timedelta(seconds=3))  # away, but not for long enough
    last(clock, 60)
    assert Incident.objects.count() == 2


def test_what_comes_and_goes_all_the_time_is_told_three_times_and_not_thirty(clock: Time) -> None:
    for _ in range(30):
        see(clock.now, ill())
        last(clock, 15)
        last(clock, 15, there=False)

    assert told().count(("opened", "ops")) == 3
    assert told().count(("closed", "ops")) == 2
    last(clock, int(FLAPPING_CLEARS_AFTER.total_seconds()) + 10, there=False)
    assert told().count(("closed", "ops")) == 3


def test_kinds_that_somebody_else_mails_are_not_mailed_twice(clock: Time, settings: Any) -> None:
    settings.BERTH_ALERT_WEBHOOK = "https://hooks.example.org/secret"
    see(clock.now, ill("ledger"))

    assert [(row.channel, row.recipient) for row in Delivery.objects.all()] == [("webhook", "hooks.example.org")]


def test_with_nobody_to_tell_it_is_listed_all_the_same(clock: Time, settings: Any) -> None:
    settings.BERTH_ALERT_MAIL = []
    see(clock.now, ill("disk_full"))

    assert [incidents.title(row) for row in incidents.open_now()] == ["The disk of node1 is nearly full"]
    assert told() == []


def test_without_a_setting_the_superusers_are_told(clock: Time, settings: Any) -> None:
    settings.BERTH_ALERT_MAIL = []
    make_user("root", is_superuser=True)
    make_user("gone", is_superuser=True, is_active=False)
    make_user("staff", is_staff=True)
    see(clock.now, ill("disk_full"))

    assert told() == [("opened", "root")]


def test_who_is_told_of_the_end_are_those_who_were_told_of_the_begin(clock: Time, settings: Any) -> None:
    see(clock.now, ill())
    last(clock, 10)
    settings.BERTH_ALERT_MAIL = ["new@example.org"]
    last(clock, 10, there=False)

    assert [who for about, who in told() if about == "closed"] == ["ops", "oncall"]


def test_the_gravest_and_newest_come_first(clock: Time) -> None:
    see(clock.now, ill("disk_full", 1))
    clock.forward(seconds=5)
    see(clock.now, ill("disk_full", 1), ill("disk_full", 2), ill("certificate_ends", 3))

    assert [row.name for row in incidents.open_now()] == ["node2", "node1", "node3"]


def test_a_kind_that_this_version_does_not_know_is_closed_in_silence(clock: Time) -> None:
    Incident.objects.create(
        kind="old", subject="x", name="x", severity="info", first_seen_at=NOW, last_seen_at=NOW, opened_at=NOW
    )
    came = see(clock.now)

    assert came.closed == []
    assert Incident.objects.get().closed_at == NOW
    assert incidents.title(Incident.objects.get()) == "x: old"


def test_somebody_looks_after_it(clock: Time) -> None:
    ada = make_user("ada")
    see(clock.now, ill("disk_full"))
    row = Incident.objects.get()

    incidents.acknowledge(incident=row, by=ada, note="I am on my way", now=clock.now)
    row.refresh_from_db()
    assert (row.acknowledged_by, row.acknowledged_at, row.note) == (ada, NOW, "I am on my way")
    incidents.unacknowledge(incident=row, by=ada)
    row.refresh_from_db()
    assert (row.acknowledged_by, row.acknowledged_at, row.note) == (None, None, "")
    entries = AuditEntry.objects.filter(target=f"incident:{row.pk}").order_by("pk")
    assert [entry.action for entry in entries] == ["incident.acknowledge", "incident.unacknowledge"]
    assert entries[0].data == {"title": "The disk of node1 is nearly full", "note": "I am on my way"}

    see(clock.now + timedelta(minutes=2))
    with pytest.raises(incidents.IsOver):
        incidents.acknowledge(incident=row, by=ada)


def test_a_look_costs_as_many_queries_for_a_thousand_as_for_one(
    django_assert_max_num_queries: Any, clock: Time
) -> None:
    counts = []
    for many in (1, 400):
        Incident.objects.all().delete()
        found = [ill(number=number) for number in range(many)]
        see(clock.now, *found)
        clock.forward(seconds=10)
        with django_assert_max_num_queries(14) as first:
            see(clock.now, *found)
        clock.forward(seconds=10)
        with django_assert_max_num_queries(14) as second:
            see(clock.now)
        counts.append((len(first), len(second)))
        assert Incident.objects.filter(closed_at=clock.now).count() == many

    assert counts[0] == counts[1]


def test_what_is_long_over_is_forgotten_and_what_is_open_never(clock: Time) -> None:
    see(clock.now, ill("disk_full", 1), ill("disk_full", 2))
    clock.forward(minutes=2)
    see(clock.now, ill("disk_full", 2))
    clock.forward(days=401)
    assert incidents.forget(clock.now) == 1

    assert [row.name for row in Incident.objects.all()] == ["node2"]
    assert {row.incident.name for row in Delivery.objects.select_related("incident")} == {"node2"}
