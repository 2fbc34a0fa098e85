"""What machines ask: alive, ready, and numbers."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from django.utils import timezone
from redis.exceptions import RedisError

from accounts.models import User
from compute.models import Node
from portal.metrics import Metric, exposition
from reservations.models import Reservation
from reservations.tasks import SWEPT_AT

pytestmark = pytest.mark.django_db


def ready() -> tuple[int, list[str]]:
    answer = Client().get("/readyz")
    return answer.status_code, list(answer.json()["problems"])


def test_alive_is_alive_whatever_is_missing() -> None:
    assert Client().get("/healthz").content == b"ok\n"


def test_without_a_worker_that_sweeps_it_is_not_ready() -> None:
    never = ready()
    cache.set(SWEPT_AT, timezone.now() - timedelta(minutes=1))
    long_ago = ready()
    cache.set(SWEPT_AT, timezone.now())

    assert never == long_ago == (503, ["worker"])
    assert ready() == (200, [])


def test_without_its_database_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import OperationalError, connection

    def refuse() -> None:
        raise OperationalError("connection refused")

    cache.set(SWEPT_AT, timezone.now())
    monkeypatch.setattr(connection, "cursor", refuse)

    assert ready() == (503, ["database"])


def test_numbers_are_told_in_the_format_of_prometheus(reservation: Reservation, owner: User) -> None:
    Node.objects.update(health="unknown")

    lines = Client().get("/metrics").content.decode().splitlines()

    assert 'berth_reservations{state="booked"} 1' in lines
    assert 'berth_reservations{state="running"} 0' in lines
    assert 'berth_node_up{node="one"} 0' in lines
    assert "# TYPE berth_gateway_drift_rules_total counter" in lines


def test_numbers_are_told_without_redis_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(key: str) -> None:
        raise RedisError("connection refused")

    monkeypatch.setattr(cache, "get", refuse)

    assert Client(raise_request_exception=False).get("/metrics").status_code == 200


def test_labels_are_escaped_and_each_metric_has_its_help() -> None:
    metric = Metric("m", "A metric.", {(("name", 'a"b\\c\nd'),): 1.5, (): 2})

    assert exposition([metric]) == '# HELP m A metric.\n# TYPE m gauge\nm{name="a\\"b\\\\c\\nd"} 1.5\nm 2\n'


def test_large_numbers_keep_their_digits() -> None:
    assert exposition([Metric("m", "h", {(): 1_234_567})]).splitlines()[-1] == "m 1234567"


def test_machines_pages_only_read(owner: User) -> None:
    codes: list[Any] = [Client().post(path).status_code for path in ("/healthz", "/readyz", "/metrics")]

    assert codes == [405, 405, 405]
