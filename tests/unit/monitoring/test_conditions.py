"""What is wrong by the rows: each kind, and that it is found in a constant number of queries."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from billing.models import LedgerAudit
from compute import partitions
from compute.models import Gateway, Node, Sample, StorageServer, Volume
from monitoring.alerts import conditions, of_machines, of_portal
from monitoring.alerts.conditions import Blind, Condition, Look, Surroundings
from monitoring.alerts.rules import RULES
from monitoring.drift import as_json
from monitoring.models import Delivery, DriftLook, Heartbeat, Incident
from reservations.drift import Difference, Kind
from reservations.models import Container, Event, Reservation
from tests.factories import NOW, make_gateway, make_node, make_reservation, make_storage
from tests.unit.monitoring.watching import alive, wrong

pytestmark = pytest.mark.django_db
CHECKS = of_machines.CHECKS | of_portal.CHECKS  # each in a savepoint
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)


@pytest.fixture(autouse=True)
def _processes() -> None:
    alive(NOW)


def sample(node: Node, at: datetime = NOW, **values: Any) -> Sample:
    partitions.ensure(at)
    well: dict[str, Any] = {
        "reachable": True,
        "took_s": 0.01,
        "memory_total_mib": 1000,
        "memory_free_mib": 500,
        "volumes_size_mib": 1000,
        "volumes_free_mib": 500,
        "images_size_mib": 1000,
        "images_free_mib": 500,
    }
    return Sample.objects.create(node=node, at=at, **{**well, **values})


def kinds(now: datetime = NOW, **more: Any) -> list[str]:
    return sorted({kind for kind, _ in wrong(now, **more)})


def blind(now: datetime = NOW) -> set[str]:
    return {kind for kind, _ in conditions.read(now, [], Surroundings(swept_at=now)).blind}


def test_nothing_is_wrong_where_all_is_well() -> None:
    sample(make_node(last_seen_at=NOW, tls_expires_at=NOW + 100 * DAY))
    make_storage()

    assert kinds() == []


# ---- nodes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("health", ["unknown", "lost"])
def test_a_silent_node_is_down(health: str) -> None:
    make_node("well", last_seen_at=NOW)
    make_node("well2", last_seen_at=NOW)
    node = make_node("ill", health=health, health_reason="connection refused", last_seen_at=NOW - 20 * SECOND)

    assert wrong(NOW) == {("node_down", f"node:{node.pk}"): wrong(NOW)[("node_down", f"node:{node.pk}")]}
    sentence = wrong(NOW)[("node_down", f"node:{node.pk}")]
    assert "It answered last at 09:59:40 UTC" in sentence
    assert "connection refused" in sentence
    assert ("started elsewhere" in sentence) == (health == "lost")


@pytest.mark.parametrize(("state", "health"), [("removed", "unknown"), ("active", "returning"), ("active", "ok")])
def test_a_node_that_is_gone_or_answers_is_not_down(state: str, health: str) -> None:
    make_node(state=state, health=health, last_seen_at=NOW)

    assert kinds() == []


def test_one_that_takes_calls_and_answers_none_hangs() -> None:
    make_node(last_seen_at=NOW)
    make_node(health="unknown", health_reason="tcp://x does not answer: it took the call and sent nothing in time")

    assert kinds() == ["engine_hangs"]


@pytest.mark.parametrize("kind", ["node_down", "engine_hangs"])
@pytest.mark.parametrize("reason", ["connection refused", "it took the call and sent nothing in time"])
def test_an_outage_stays_what_it_was_at_first(kind: str, reason: str) -> None:
    make_node(last_seen_at=NOW)
    node = make_node(health="unknown", health_reason=reason)

    assert kinds(standing=frozenset({(kind, f"node:{node.pk}")})) == [kind]


def test_most_nodes_silent_at_once_is_told_beside_them() -> None:
    make_node(health="unknown")

    assert kinds() == ["brake", "node_down"]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"took_s": 2.0}, "engine_slow"),
        ({"memory_free_mib": 49}, "memory_short"),
        ({"volumes_free_mib": 99}, "disk_short"),
        ({"images_free_mib": 99}, "disk_short"),
    ],
)
def test_a_sample_tells_what_is_short(values: dict[str, Any], kind: str) -> None:
    sample(make_node(last_seen_at=NOW), **values)

    assert kinds() == [kind]


@pytest.mark.parametrize(
    ("kind", "still", "over"),
    [
        ("engine_slow", {"took_s": 1.1}, {"took_s": 1.0}),
        ("memory_short", {"memory_free_mib": 79}, {"memory_free_mib": 80}),
        ("disk_short", {"volumes_free_mib": 149}, {"volumes_free_mib": 150}),
    ],
)
def test_what_was_told_takes_more_to_be_over(kind: str, still: dict[str, Any], over: dict[str, Any]) -> None:
    node = make_node(last_seen_at=NOW)
    standing = frozenset({(kind, f"node:{node.pk}")})
    sample(node, NOW - SECOND, **still)
    assert kinds() == []
    assert kinds(standing=standing) == [kind]

    sample(node, NOW, **over)
    assert kinds(standing=standing) == []


def test_without_a_fresh_sample_nothing_is_concluded() -> None:
    sample(make_node(last_seen_at=NOW), NOW - timedelta(minutes=2), memory_free_mib=0, took_s=9.0, volumes_free_mib=0)

    assert kinds() == []
    assert {"memory_short", "disk_short", "engine_slow"} <= blind()


def test_a_limit_of_zero_is_none(settings: Any) -> None:
    settings.BERTH_ALERT_DISK_FREE_PERCENT = settings.BERTH_ALERT_MEMORY_FREE_PERCENT = 0
    sample(make_node(last_seen_at=NOW), memory_free_mib=0, volumes_free_mib=0)

    assert kinds() == []


def test_a_full_disk_and_a_guard_are_told_as_the_row_says() -> None:
    make_node(last_seen_at=NOW, disk_problem="Its disk is nearly full.", guard_problem="its timer is not running")

    assert list(wrong(NOW).values()) == ["Its disk is nearly full.", "its timer is not running"]


@pytest.mark.parametrize(
    ("left", "found"),
    [
        (31 * DAY, []),
        (30 * DAY, ["certificate_ends"]),
        (SECOND, ["certificate_ends"]),
        (timedelta(0), ["certificate_ends", "certificate_expired"]),
    ],
)
def test_certificates_of_engines_and_of_the_portal(left: timedelta, found: list[str]) -> None:
    node = make_node(last_seen_at=NOW, tls_expires_at=NOW + left)
    assert kinds() == found

    Node.objects.filter(pk=node.pk).update(tls_expires_at=None)
    around = Surroundings(swept_at=NOW, client_certificate_ends=NOW + left)
    assert [subject for _, subject in wrong(NOW, around)] == ["portal"] * len(found)
    assert kinds(around=around) == found


# ---- gateways, storage, drift -------------------------------------------------------------------------------


def test_a_gateway_that_is_away_or_was_changed() -> None:
    gateway = make_gateway()
    Gateway.objects.update(drift=3)
    assert wrong(NOW) == {
        ("gateway_drift", f"gateway:{gateway.pk}"): "3 rules were not as Berth had put them at the last look;"
        " they were put right."
    }

    Gateway.objects.update(problem="no SSH connection")
    assert kinds() == ["gateway_away"]


def test_a_storage_server_and_its_volumes_are_one_line_each() -> None:
    node, server = make_node(last_seen_at=NOW), make_storage(problem="It does not answer: timeout")
    for _ in range(3):
        _container_with_volume(node, server)
    _container_with_volume(node, None)

    found = wrong(NOW)

    assert found[("storage_away", f"storage:{server.pk}")] == "It does not answer: timeout"
    assert found[("volumes_degraded", f"storage:{server.pk}")].startswith("3 volumes are not well")
    assert found[("volumes_degraded", f"node:{node.pk}")].startswith("1 volume is not well")
    StorageServer.objects.update(active=False)
    assert "storage_away" not in kinds()


def _container_with_volume(node: Node, server: StorageServer | None) -> None:
    reservation = make_reservation()
    Volume.objects.update(problem="")
    volume = Volume.objects.create(size_gb=1, server=server, node=node)
    Container.objects.filter(reservation=reservation).update(volume=volume, node=node)
    Volume.objects.filter(containers__gone_at=None).update(problem="It is gone.")


def difference(subject: str, kind: Kind = Kind.RULE_STRANGE, machine: str = "gateway:1") -> dict[str, object]:
    return as_json(Difference(kind, machine, "gate", subject, f"has {subject}, which nobody wants", "x"))


def looked(minutes_ago: float, *found: dict[str, object]) -> DriftLook:
    at = NOW - timedelta(minutes=minutes_ago)
    return DriftLook.objects.create(asked_at=at, asked_by="x", finished_at=at, found=list(found))


def test_differences_are_told_when_the_next_look_finds_them_again() -> None:
    first, second, silent = difference("a"), difference("b"), difference("look", Kind.NOT_CHECKED)
    looked(10, first, silent)
    assert kinds() == []
    looked(5, second, silent)
    assert kinds() == []  # the first healed by itself, and the second may; who is silent is told to be down

    last = looked(0, first, second, silent)
    assert wrong(NOW) == {("drift", "fleet"): "1 difference does not go away, as gate: has b, which nobody wants."}
    last.found = [first, silent]  # somebody pressed its button
    last.save()
    assert kinds() == []


@pytest.mark.parametrize(
    ("silent", "unknown"),
    [("gateway:1", True), ("portal", True), ("node:1", False), ("", False)],
)
def test_drift_is_not_over_while_its_machine_cannot_be_looked_at(silent: str, unknown: bool) -> None:
    not_checked = [difference("look", Kind.NOT_CHECKED, silent)] if silent else []
    looked(15, difference("a"))
    looked(10, difference("a"))
    looked(5, *not_checked)
    looked(0, *not_checked)

    assert kinds() == []
    assert ("drift" in blind()) == unknown


def test_drift_is_not_over_while_nobody_looks() -> None:
    looked(10, difference("a"))
    looked(5, difference("a"))
    assert "drift" not in kinds(NOW + DAY)
    assert "drift" in blind(NOW + DAY)

    looked(-24 * 60, difference("a"))
    assert "drift" in blind(NOW + DAY)  # it may go away by itself, and may not
    looked(-24 * 60 - 1)
    assert "drift" not in blind(NOW + DAY + timedelta(minutes=1))


def test_two_looks_within_a_moment_prove_nothing() -> None:
    looked(0.5, difference("a"))
    looked(0, difference("a"))

    assert kinds() == []


# ---- the portal -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "found"), [(Heartbeat.Kind.WORKER, "no_worker"), (Heartbeat.Kind.BEAT, "no_beat")])
def test_a_process_that_is_silent_or_never_was(kind: Heartbeat.Kind, found: str) -> None:
    Heartbeat.objects.filter(kind=kind).update(at=NOW - 21 * SECOND)
    assert kinds() == [found]

    Heartbeat.objects.filter(kind=kind).delete()
    assert kinds() == [found]


def test_one_of_several_that_is_silent_is_told_by_its_name() -> None:
    Heartbeat.objects.create(name="worker@other", kind="worker", started_at=NOW, at=NOW - 30 * SECOND)

    assert list(wrong(NOW)) == [("process_silent", "process:worker@other")]


@pytest.mark.parametrize("swept_at", [None, NOW - 21 * SECOND])
def test_nothing_is_swept(swept_at: datetime | None) -> None:
    assert kinds(around=Surroundings(swept_at=swept_at)) == ["no_sweep"]


def test_without_redis_it_is_redis_that_is_told() -> None:
    assert kinds(around=Surroundings("ConnectionError")) == ["redis_away"]


def test_a_process_whose_clock_is_off() -> None:
    around = Surroundings(swept_at=NOW, clocks_off={"worker@x": "this process's clock is 9 s ahead"})

    assert kinds(around=around) == ["clock_off"]


@pytest.mark.parametrize(
    ("late_s", "standing", "told"), [(59, False, False), (60, False, True), (31, True, True), (30, True, False)]
)
def test_a_backlog(late_s: int, standing: bool, told: bool) -> None:
    make_node(last_seen_at=NOW)
    make_reservation()
    Reservation.objects.update(look_at=NOW - late_s * SECOND)

    assert (kinds(standing=frozenset({("backlog", "portal")} if standing else ())) == ["backlog"]) == told


@pytest.mark.parametrize(
    ("failed", "well", "told"), [(2, 0, False), (3, 12, True), (3, 13, False), (3, 0, True), (0, 5, False)]
)
def test_start_failures_over_a_rate(failed: int, well: int, told: bool) -> None:
    make_node(last_seen_at=NOW)
    reservation = make_reservation()
    Reservation.objects.update(look_at=None)
    broken = make_reservation()
    Reservation.objects.filter(pk=broken.pk).update(failure="The image is missing.", look_at=None)
    for count, row, state in ((failed, broken, "ending"), (well, reservation, "running"), (9, reservation, "ending")):
        for _ in range(count):
            Event.objects.create(reservation=row, at=NOW - timedelta(minutes=14), old_state="starting", new_state=state)
    Event.objects.create(reservation=broken, at=NOW - timedelta(minutes=16), old_state="starting", new_state="ending")

    assert (kinds() == ["start_failures"]) == told


def test_the_books_and_the_mails() -> None:
    LedgerAudit.objects.create(at=NOW, seconds=1, reservations=1, entries=1, invoices=1, found=2, findings=["a", "b"])
    incident = Incident.objects.create(kind="brake", subject="x", name="x", first_seen_at=NOW, last_seen_at=NOW)
    Delivery.objects.create(incident=incident, channel="mail", created_at=NOW, try_at=NOW, attempts=3)

    assert kinds() == ["ledger", "mail_stuck"]
    assert not RULES["ledger"].mail  # billing mails it
    assert not RULES["mail_stuck"].mail


# ---- a check that fails -----------------------------------------------------------------------------------------


def test_a_check_that_fails_silences_no_other(caplog: pytest.LogCaptureFixture) -> None:
    looked(10, {**difference("a"), "of": "another version"})
    looked(5, {**difference("a"), "of": "another version"})
    make_node("well", last_seen_at=NOW)
    make_node("well2", last_seen_at=NOW)
    make_node("ill", health="unknown")

    assert kinds() == ["node_down"]
    assert "drift" in blind()
    assert caplog.text.count("the check of drift fails") == 1  # and not every five seconds
    DriftLook.objects.all().delete()
    looked(5)
    assert "drift" not in blind()


def test_a_query_that_fails_silences_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(look: Look) -> Iterator[Condition | Blind]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1/0")
        yield Blind("unreached")

    monkeypatch.setattr(of_machines, "CHECKS", {broken: ("guard",), **of_machines.CHECKS})
    make_node(disk_problem="full", last_seen_at=NOW)

    assert kinds() == ["disk_full"]
    assert "guard" in blind()


def test_every_kind_is_told_by_one_check() -> None:
    assert sorted(kind for kinds_of_it in CHECKS.values() for kind in kinds_of_it) == sorted(RULES)


# ---- cost -------------------------------------------------------------------------------------------------------


def test_the_queries_do_not_grow_with_what_is_wrong(django_assert_max_num_queries: Any) -> None:
    counts = []
    for many in (1, 50):
        for _ in range(many):
            sample(
                make_node(health="unknown", disk_problem="full", guard_problem="off", tls_expires_at=NOW),
                memory_free_mib=0,
                volumes_free_mib=0,
                took_s=9,
            )
        with django_assert_max_num_queries(16 + 2 * len(CHECKS)) as queries:
            found = conditions.read(NOW, [], Surroundings(swept_at=NOW))
        assert len(found.conditions) > 5 * many
        counts.append(len(queries))

    assert counts[0] == counts[1]


@pytest.mark.parametrize("away", ["worker", "beat", "Redis"])
def test_what_follows_from_nobody_working_is_not_told_beside_it(away: str) -> None:
    """Nodes that nobody probes look silent, and everything waits."""
    make_node(last_seen_at=NOW - timedelta(minutes=5))
    make_reservation()
    Reservation.objects.update(look_at=NOW - timedelta(minutes=5))
    assert kinds() == ["backlog", "brake"]

    Heartbeat.objects.filter(kind=away).delete()
    around = Surroundings("ConnectionError" if away == "Redis" else "", NOW - timedelta(minutes=5))
    assert kinds(around=around) == [{"worker": "no_worker", "beat": "no_beat", "Redis": "redis_away"}[away]]
    assert {key[0] for key in conditions.read(NOW, [], around).blind} >= {"backlog", "brake", "no_sweep"}
