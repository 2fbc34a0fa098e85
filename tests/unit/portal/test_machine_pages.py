"""What machines ask: alive and ready. Numbers are in test_metrics.py."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from accounts.models import User
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


def test_machines_pages_only_read(owner: User) -> None:
    codes: list[Any] = [Client().post(path).status_code for path in ("/healthz", "/readyz", "/metrics")]

    assert codes == [405, 405, 405]
