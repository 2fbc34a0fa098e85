"""/metrics: what it says, to whom, and what it costs."""

import re
import shutil
import subprocess
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families
from redis.exceptions import RedisError

from accounts.models import User
from compute import partitions
from compute.models import Forward, Gateway, Node, Sample
from monitoring.models import Delivery, Heartbeat, Incident
from portal.env import BadSetting, address
from portal.metrics import page
from reservations.models import Reservation
from tests.factories import make_node, make_storage

pytestmark = pytest.mark.django_db
TOKEN = "a-token-of-some-length"


def lines(**extra: Any) -> list[str]:
    answer = Client(**extra).get("/metrics")
    assert answer.status_code == 200
    return list(answer.content.decode().splitlines())


def test_reservations_and_machines_are_counted(reservation: Reservation, owner: User) -> None:
    Node.objects.update(health="unknown", engine_version="24.0.7")
    Gateway.objects.update(drift_total=3, problem="it is busy")
    Forward.objects.update(wanted=True)
    make_storage(capacity_gb=2, problem="no answer")

    found = lines()

    assert 'berth_reservations{state="booked"} 1.0' in found
    assert 'berth_reservations{state="running"} 0.0' in found
    assert 'berth_node_up{node="one"} 0.0' in found
    info = 'berth_node_info{engine_version="24.0.7",gateway="gate",health="unknown",node="one",state="active"} 1.0'
    assert info in found
    assert "# TYPE berth_gateway_drift_rules_total counter" in found
    assert 'berth_gateway_drift_rules_total{gateway="gate"} 3.0' in found
    assert 'berth_gateway_up{gateway="gate"} 0.0' in found
    assert "berth_forwards_wanted 1.0" in found
    assert "berth_forwards_unapplied 1.0" in found
    assert 'berth_storage_up{storage="store"} 0.0' in found
    assert "berth_database_up 1.0" in found


def figures() -> dict[tuple[str, str], float]:
    """Value by name of the metric and value of its (last) label."""
    families = text_string_to_metric_families("\n".join(lines()) + "\n")
    return {(s.name, [*s.labels.values(), ""][0]): s.value for family in families for s in family.samples}


def test_memory_is_told_in_bytes_and_what_is_not_known_is_not_told(reservation: Reservation) -> None:
    now = timezone.now()
    partitions.ensure(now)
    node, silent = Node.objects.get(name="one"), make_node("two")
    Sample.objects.create(node=node, at=now - timedelta(seconds=20), reachable=True, memory_free_mib=1)
    Sample.objects.create(
        node=node, at=now - timedelta(seconds=5), reachable=True, memory_free_mib=7, volumes_free_mib=5, load_1=0.25
    )
    Sample.objects.create(node=silent, at=now - timedelta(minutes=2), reachable=True, memory_free_mib=9)

    found = figures()

    assert found["berth_node_lendable_memory_bytes", "one"] == 65_536 * 2**20
    assert found["berth_node_free_memory_bytes", "one"] == 7 * 2**20
    assert found["berth_node_volumes_free_bytes", "one"] == 5 * 2**20
    assert found["berth_node_load1", "one"] == 0.25
    assert ("berth_node_load5", "one") not in found
    assert ("berth_node_free_memory_bytes", "two") not in found  # the reading is too old to be called today's


def test_an_engine_that_hangs_is_told_from_one_that_is_gone(node: Node) -> None:
    make_node(
        "hangs", health="unknown", health_reason="tcp://x: does not answer: it took the call and sent nothing in time"
    )
    make_node("gone", health="lost", health_reason="tcp://x does not answer: connection refused")

    found = figures()

    assert {name: found["berth_node_engine_hanging", name] for name in ("one", "hangs", "gone")} == {
        "one": 0,
        "hangs": 1,
        "gone": 0,
    }


def test_what_is_lent_now_is_told(machines: Any, reservation: Reservation) -> None:
    Reservation.objects.update(start=timezone.now() - timedelta(minutes=5))
    node = Node.objects.get(name="one")
    node.steps.all().delete()
    node.steps.create(at=timezone.now() - timedelta(hours=2), ram_mib=100, cores=1)
    node.steps.create(at=timezone.now() - timedelta(hours=1), ram_mib=512, cores="0.5")
    node.steps.create(at=timezone.now() + timedelta(hours=1), ram_mib=2048, cores=3)

    found = figures()

    assert found["berth_node_held_memory_bytes", "one"] == 512 * 2**20
    assert found["berth_node_held_cores", "one"] == 0.5


def test_what_waits_is_told_with_how_long(reservation: Reservation) -> None:
    Reservation.objects.update(look_at=timezone.now() - timedelta(seconds=90))

    found = figures()

    assert found["berth_reservations_due", ""] == 1
    assert 90 <= found["berth_oldest_due_seconds", ""] < 100


def test_processes_incidents_and_messages_are_told() -> None:
    now = timezone.now()
    Heartbeat.objects.create(name="worker@a", kind="worker", started_at=now, at=now - timedelta(seconds=10))
    Heartbeat.objects.create(name="worker@b", kind="worker", started_at=now, at=now - timedelta(minutes=5))
    Heartbeat.objects.create(name="worker@old", kind="worker", started_at=now, at=now - timedelta(days=3))
    what: dict[str, Any] = {"kind": "node_down", "sentence": "x", "first_seen_at": now, "last_seen_at": now}
    told = Incident.objects.create(subject="node:1", severity="critical", opened_at=now, **what)
    Incident.objects.create(subject="node:2", severity="critical", opened_at=now, closed_at=now, **what)
    Incident.objects.create(subject="node:3", severity="critical", **what)
    created = now - timedelta(seconds=40)
    Delivery.objects.create(incident=told, about="opened", channel="mail", created_at=created, try_at=now)

    found = lines()

    assert 'berth_processes{kind="worker"} 1.0' in found
    assert 'berth_processes{kind="beat"} 0.0' in found
    assert sum(line.startswith("berth_process_heartbeat_timestamp_seconds{") for line in found) == 2
    assert 'berth_incidents_open{kind="node_down",severity="critical"} 1.0' in found
    assert "berth_alert_deliveries_waiting 1.0" in found


def test_numbers_are_told_without_redis_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(key: str) -> None:
        raise RedisError("connection refused")

    monkeypatch.setattr(cache, "get", refuse)

    assert "berth_database_up 1.0" in lines()


def test_without_the_database_what_the_processes_count_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise OperationalError("connection refused by db.internal as berth")

    monkeypatch.setattr("portal.metrics.database._nodes", refuse)
    Client().get("/healthz")

    found = lines()

    assert "berth_database_up 0.0" in found
    assert not [line for line in found if line.startswith("berth_node") or "db.internal" in line]
    assert [line for line in found if line.startswith("berth_http_request_duration_seconds_count{")]


def test_it_asks_the_same_for_one_node_and_for_fifty(reservation: Reservation) -> None:
    now = timezone.now()
    partitions.ensure(now)
    counts = []
    for more in (0, 49):
        for node in [make_node() for _ in range(more)]:
            Sample.objects.create(node=node, at=now, reachable=True, load_1=1)
        with CaptureQueriesContext(connection) as asked:
            found = lines()
        counts.append(len(asked))
        assert sum(line.startswith("berth_node_up{") for line in found) == more + 1

    assert counts[0] == counts[1] <= 16


def test_labels_are_escaped(reservation: Reservation) -> None:
    Node.objects.update(engine_version='a"b\\c\nd')

    found = [line for line in lines() if line.startswith("berth_node_info{")]

    assert found == [
        r'berth_node_info{engine_version="a\"b\\c\nd",gateway="gate",health="ok",node="one",state="active"} 1.0'
    ]


def test_requests_are_told_by_the_name_of_their_address_never_by_their_path() -> None:
    for path in ("/reservations/123456/", "/nothing/here/secret-word", "/healthz", "/accounts/login/?next=/x"):
        Client().get(path)
    Client().generic("BREW", "/healthz")

    text = "\n".join(line for line in lines() if line.startswith("berth_http_request"))

    routes = set(re.findall(r'route="([^"]*)"', text))
    assert {"reservations:detail", "none", "healthz", "account_login"} <= routes
    assert set(re.findall(r'method="([^"]*)"', text)) <= {"GET", "POST", "HEAD", "DELETE", "PUT", "PATCH", "other"}
    assert "123456" not in text
    assert "secret-word" not in text


@pytest.mark.skipif(not shutil.which("promtool"), reason="Debian's package prometheus has promtool")
def test_names_and_help_are_as_prometheus_wants_them(reservation: Reservation) -> None:
    now = timezone.now()
    partitions.ensure(now)
    Sample.objects.create(node=Node.objects.get(name="one"), at=now, reachable=True, load_1=1, memory_total_mib=1)
    make_storage()

    text = page.exposition().decode()
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# ---- who may ask ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "near", ["127.0.0.1", "::1", "10.1.2.3", "172.20.0.1", "192.168.7.7", "fd00::7", "::ffff:10.0.0.1"]
)
def test_this_machine_and_private_networks_may_ask(near: str) -> None:
    assert Client(REMOTE_ADDR=near).get("/metrics").status_code == 200


@pytest.mark.parametrize(
    "far", ["198.51.100.7", "2001:db8::7", "172.32.0.1", "198.18.0.9", "", "unix:", "10.0.0.1.evil"]
)
def test_nobody_else_may(far: str) -> None:
    answer = Client(REMOTE_ADDR=far).get("/metrics")

    assert answer.status_code == 403
    assert b"berth_" not in answer.content


def test_a_proxy_on_this_machine_makes_nobody_near(settings: Any) -> None:
    far = Client(headers={"x-forwarded-for": "10.0.0.1, 198.51.100.7"})
    unknown_proxy = far.get("/metrics").status_code
    settings.TRUSTED_PROXIES = 1
    forged = far.get("/metrics").status_code
    inside = Client(headers={"x-forwarded-for": "198.51.100.7, 10.0.0.1"}).get("/metrics").status_code
    past_it = Client().get("/metrics").status_code
    settings.TRUSTED_PROXIES = 3
    fewer_hops = far.get("/metrics").status_code

    assert (unknown_proxy, forged, inside, past_it, fewer_hops) == (403, 403, 200, 200, 403)


def test_with_a_token_it_is_the_token_that_counts(settings: Any) -> None:
    settings.BERTH_METRICS_TOKEN = TOKEN

    def status(header: str, address: str = "198.51.100.7") -> int:
        return Client(REMOTE_ADDR=address, headers={"authorization": header}).get("/metrics").status_code

    assert status(f"Bearer {TOKEN}") == status(f"bearer {TOKEN}") == 200
    wrong = ["", TOKEN, f"Basic {TOKEN}", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer é☃"]
    assert {header: status(header) for header in wrong} == dict.fromkeys(wrong, 401)
    assert status("", "127.0.0.1") == 401
    assert Client().get("/metrics")["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("value", ["9464", "10.0.0.5", "10.0.0.5:", ":9464", "10.0.0.5:0", "10.0.0.5:99999", "a:٣"])
def test_an_address_to_listen_on_that_is_none_stops_the_start(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTH_METRICS_LISTEN", value)

    with pytest.raises(BadSetting, match="BERTH_METRICS_LISTEN"):
        address("BERTH_METRICS_LISTEN")


def test_an_address_to_listen_on_may_be_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTH_METRICS_LISTEN", "[fd00::5]:9464")

    assert address("BERTH_METRICS_LISTEN") == ("fd00::5", 9464)
