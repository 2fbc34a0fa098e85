"""The cache while Redis is down."""

import logging
from typing import Any

import pytest
from django.test import Client
from redis.exceptions import ConnectionError as RedisDown

from portal.cache import ForgivingRedisCache


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> ForgivingRedisCache:
    """One whose Redis is not there: the socket does not exist."""
    return ForgivingRedisCache("unix:///nowhere/redis.sock", {})


def test_it_answers_as_an_empty_one_and_says_so(cache: ForgivingRedisCache, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        cache.set("key", 1)

    assert cache.get("key", "default") == "default"
    assert cache.add("key", 1) is True
    assert cache.delete("key") is False
    assert "cannot be used" in caplog.text


def test_a_fault_of_the_program_is_not_forgiven(cache: ForgivingRedisCache) -> None:
    with pytest.raises(ZeroDivisionError):
        cache._or(None, lambda: 1 / 0)


def test_redis_being_down_is_what_it_forgives(cache: ForgivingRedisCache) -> None:
    def down() -> int:
        raise RedisDown("refused")

    assert cache._or(7, down) == 7


@pytest.mark.django_db
def test_ready_says_that_redis_is_missing(client: Client, settings: Any) -> None:
    settings.REDIS_URL = "unix:///nowhere/redis.sock"

    answer = client.get("/readyz")

    assert answer.status_code == 503
    assert "redis" in answer.json()["problems"]
