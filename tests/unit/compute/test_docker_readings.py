"""What is understood of an engine's answers, and what is not."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from compute import docker_readings
from compute.readings import ContainerSeen, Details, Usage

# As a 20.10 with cgroup v1 answered, without what nobody reads.
STATS_V1: dict[str, Any] = {
    "read": "2026-11-21T07:47:32.79677451Z",
    "cpu_stats": {"cpu_usage": {"total_usage": 25_705_010, "percpu_usage": [14_909_766, 10_795_244]}},
    "memory_stats": {
        "usage": 2_674_688,
        "stats": {"inactive_file": 111, "total_inactive_file": 331_776, "total_rss": 118_784},
        "limit": 25_276_502_016,
    },
    "networks": {"eth0": {"rx_bytes": 1000, "tx_bytes": 10}, "eth1": {"rx_bytes": 500, "tx_bytes": 5}},
}
# As with cgroup v2 (docs.docker.com/reference/api/engine, ContainerStats): no total_ names, no percpu_usage.
STATS_V2 = {
    **STATS_V1,
    "cpu_stats": {"cpu_usage": {"total_usage": 4_000_000_000, "usage_in_usermode": 1}},
    "memory_stats": {"usage": 6_291_456, "stats": {"anon": 1, "file": 2, "inactive_file": 1_048_576}, "limit": 1},
}
ROW: dict[str, Any] = {
    "Id": "abc",
    "Names": ["/berth-7-1-main"],
    "State": "running",
    "Status": "Up 3 hours",
    "Labels": {"berth.reservation": "7"},
}
STATE: dict[str, Any] = {
    "Status": "exited",
    "ExitCode": 137,
    "OOMKilled": True,
    "StartedAt": "2026-05-04T10:00:00.123456789Z",
    "FinishedAt": "2026-05-04T12:00:00.5+02:00",
}


def body(value: Any) -> bytes:
    return json.dumps(value).encode()


def row(**values: Any) -> ContainerSeen:
    return docker_readings.listing(body([ROW | values]), "").containers[0]


def test_statistics_of_cgroup_v1_are_understood() -> None:
    used = docker_readings.usage(body(STATS_V1))

    assert used == Usage(cpu_s=0.02570501, memory_mib=(2_674_688 - 331_776) / 2**20, received=1500, sent=15)


def test_statistics_of_cgroup_v2_are_understood() -> None:
    used = docker_readings.usage(body(STATS_V2))

    assert used == Usage(cpu_s=4.0, memory_mib=5.0, received=1500, sent=15)


def test_memory_that_is_all_inactive_is_not_negative() -> None:
    memory = {"usage": 100 * 2**20, "stats": {"total_inactive_file": 200 * 2**20}}

    used = docker_readings.usage(body(STATS_V1 | {"memory_stats": memory}))

    assert used
    assert used.memory_mib == 100.0


def test_without_a_network_nothing_is_sent() -> None:
    used = docker_readings.usage(body({k: v for k, v in STATS_V1.items() if k != "networks"}))

    assert used
    assert (used.received, used.sent) == (0, 0)


@pytest.mark.parametrize(
    "answer",
    [
        {**STATS_V1, "read": "0001-01-01T00:00:00Z"},  # before version 25
        {"name": "/berth-7-1-main", "id": "abc"},  # since then
        {**STATS_V1, "memory_stats": {}},
    ],
)
def test_what_does_not_run_uses_nothing(answer: dict[str, Any]) -> None:
    assert docker_readings.usage(body(answer)) is None


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        body(STATS_V1 | {"networks": {"eth0": {}}}),
        body(STATS_V1 | {"networks": 5}),
        body(STATS_V1 | {"memory_stats": {"usage": "much"}}),
        body(STATS_V1 | {"cpu_stats": {"cpu_usage": {"total_usage": "much"}}}),
        body(STATS_V1 | {"cpu_stats": {"cpu_usage": {"total_usage": 2**70}}}),
        body(STATS_V1 | {"networks": {"eth0": {"rx_bytes": -1, "tx_bytes": 0}}}),
        body(STATS_V1 | {"memory_stats": {"usage": float("inf")}}),
        body(STATS_V1)[:-20],
        b"\xff\xfe",
    ],
)
def test_statistics_that_make_no_sense_are_an_error_and_no_value(answer: bytes) -> None:
    with pytest.raises(docker_readings.NotUnderstood):
        docker_readings.usage(answer)


@pytest.mark.parametrize(
    ("state", "words", "health", "exit_code", "lately"),
    [
        ("running", "Up 3 hours", "", None, False),
        ("running", "Up Less than a second", "", None, True),
        ("running", "Up 59 seconds", "", None, True),
        ("running", "Up About a minute (healthy)", "healthy", None, False),
        ("running", "Up 2 days (unhealthy)", "unhealthy", None, False),
        ("running", "Up 1 second (health: starting)", "starting", None, True),
        ("paused", "Up 2 hours (Paused)", "", None, False),
        ("exited", "Exited (0) 3 weeks ago", "", 0, False),
        ("exited", "Exited (137) 5 seconds ago", "", 137, True),
        ("exited", "Exited (-1) 5 hours ago", "", -1, False),
        ("exited", "Exited (99999999999) 5 hours ago", "", None, False),
        ("exited", "Exited (-) 5 hours ago", "", None, False),
        ("restarting", "Restarting (1) 5 seconds ago", "", None, True),
        ("created", "Created", "", None, False),
        ("dead", "Dead", "", None, False),
        ("removing", "Removal In Progress", "", None, False),
    ],
)
def test_the_lists_words_are_understood(
    state: str, words: str, health: str, exit_code: int | None, lately: bool
) -> None:
    one = row(State=state, Status=words)

    assert (one.state, one.health, one.exit_code, one.lately) == (state, health, exit_code, lately)
    assert (one.name, one.reservation_id) == ("berth-7-1-main", 7)


@pytest.mark.parametrize("label", ["", "x", "-1", "1" * 40, "²"])
def test_a_label_that_is_no_reservation_is_kept_out(label: str) -> None:
    assert row(Labels={"berth.reservation": label}).reservation_id is None


@pytest.mark.parametrize(
    "broken",
    [
        {},
        None,
        "x",
        {**ROW, "Names": []},
        {**ROW, "Names": None},
        {**ROW, "Id": ""},
        {**ROW, "Id": "a" * 65},
        {**ROW, "Names": ["/a\0b"]},
        {**ROW, "Names": ["/" + "a" * 121]},
        {**ROW, "State": "molten"},
        {**ROW, "Status": None},
        {k: v for k, v in ROW.items() if k != "Labels"},
    ],
)
def test_a_list_with_a_line_that_makes_no_sense_is_not_complete(broken: Any) -> None:
    listing = docker_readings.listing(body([ROW, broken]), "Docker/25.0.3 (linux)")

    assert [one.engine_id for one in listing.containers] == ["abc"]
    assert not listing.complete
    assert listing.version == "25.0.3"


def test_an_empty_list_is_complete() -> None:
    listing = docker_readings.listing(b"[]", "nginx/1.2")

    assert (listing.containers, listing.complete, listing.version) == ((), True, "")


@pytest.mark.parametrize("answer", [b"", b"{}", b"null", b"[", b'"x"'])
def test_what_is_no_list_is_an_error(answer: bytes) -> None:
    with pytest.raises(docker_readings.NotUnderstood):
        docker_readings.listing(answer, "")


def test_an_inspect_is_understood() -> None:
    details = docker_readings.details(body({"State": STATE, "HostConfig": {"Memory": 64 * 2**20}}))

    assert details == Details(
        state="exited",
        exit_code=137,
        out_of_memory=True,
        started_at=datetime(2026, 5, 4, 10, 0, 0, 123456, tzinfo=UTC),
        finished_at=datetime(2026, 5, 4, 10, 0, 0, 500000, tzinfo=UTC),
        memory_limit_mib=64,
    )


def test_an_inspect_of_one_that_was_never_started_has_neither_times_nor_an_exit_code() -> None:
    never = "0001-01-01T00:00:00Z"
    state = {"Status": "created", "ExitCode": 0, "StartedAt": never, "FinishedAt": never}

    assert docker_readings.details(body({"State": state})) == Details(state="created")


def test_health_is_told_only_of_what_runs() -> None:
    health = {"Health": {"Status": "unhealthy"}}

    assert docker_readings.details(body({"State": {"Status": "running", **health}})).health == "unhealthy"
    assert docker_readings.details(body({"State": {**STATE, **health}})).health == ""
    assert docker_readings.details(body({"State": {"Status": "running", "Health": {"Status": "none"}}})).health == ""


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"State": None},
        {"State": {"Status": "molten"}},
        {"State": {**STATE, "StartedAt": "yesterday"}},
        {"State": {**STATE, "ExitCode": None}},
        {"State": STATE, "HostConfig": 5},
        {"State": STATE, "HostConfig": {"Memory": -1}},
        [],
    ],
)
def test_an_inspect_that_makes_no_sense_is_an_error(answer: Any) -> None:
    with pytest.raises(docker_readings.NotUnderstood):
        docker_readings.details(body(answer))
