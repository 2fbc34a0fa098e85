"""The real Prometheus reads the running portal: its figures arrive, and the rules of deploy/ are loaded."""

import json
import socket
import subprocess
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from lab import Lab
from lab.stack.layout import REPO
from tests.live import RunningStack, wait_for

RULES = REPO / "deploy/prometheus"
Ask = Callable[..., Any]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(scope="module")
def prometheus(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Prometheus with the configuration of deploy/, the portal's address in it; asked by paths of its API."""
    place: Path = tmp_path_factory.mktemp("prometheus")
    example = (RULES / "prometheus.yml").read_text()
    assert example.count("127.0.0.1:8000") == 1
    config = place / "prometheus.yml"
    text = example.replace("127.0.0.1:8000", urllib.parse.urlsplit(stack.base_url).netloc).replace(": 15s", ": 1s")
    config.write_text(text)
    for rules in ("alerts.yml", "recording.yml"):
        (place / rules).write_text((RULES / rules).read_text())
    address = f"127.0.0.1:{free_port()}"
    argv = [
        *("prometheus", f"--config.file={config}", f"--storage.tsdb.path={place / 'data'}"),
        *(f"--web.listen-address={address}", "--storage.tsdb.retention.time=1h", "--log.level=warn"),
    ]
    with open(place / "log", "wb") as log, subprocess.Popen(argv, stdout=log, stderr=log) as process:
        try:
            with requests.Session() as session:
                session.trust_env = False

                def ask(path: str, **params: str) -> Any:
                    answer = session.get(f"http://{address}/api/v1/{path}", params=params, timeout=10)
                    answer.raise_for_status()
                    return answer.json()["data"]

                def up() -> bool:
                    assert process.poll() is None, (place / "log").read_text()
                    try:
                        targets = ask("targets")["activeTargets"]
                    except requests.RequestException:
                        return False
                    return [target["health"] for target in targets] == ["up"]

                wait_for(up, seconds=60)
                yield ask
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def values(prometheus: Ask, query: str) -> dict[str, float]:
    """The value of each node, gateway, route or task."""
    found = prometheus("query", query=query)["result"]
    return {next(iter(row["metric"].values()), ""): float(row["value"][1]) for row in found}


def test_it_reads_the_portal_without_an_error(prometheus: Ask) -> None:
    (target,) = prometheus("targets")["activeTargets"]

    assert (target["health"], target["lastError"]) == ("up", "")


def test_nodes_and_processes_are_there(prometheus: Ask, lab: Lab) -> None:
    nodes = {node.name for node in lab.info.nodes}

    assert wait_for(lambda: values(prometheus, "max by (node) (berth_node_up)"), seconds=30) == dict.fromkeys(nodes, 1)
    assert wait_for(lambda: values(prometheus, 'berth_processes{kind="worker"} >= 1'), seconds=30)


def test_what_workers_count_is_told_by_the_web_process(prometheus: Ask) -> None:
    query = 'sum by (task) (berth_task_duration_seconds_count{task="reservations.tasks.sweep"})'
    first = wait_for(lambda: values(prometheus, query), seconds=30)["reservations.tasks.sweep"]

    assert wait_for(lambda: values(prometheus, query)["reservations.tasks.sweep"] > first, seconds=30)


def test_every_rule_is_loaded_and_can_be_computed(prometheus: Ask) -> None:
    def computed() -> list[dict[str, Any]]:
        rules = [rule for group in prometheus("rules")["groups"] for rule in group["rules"]]
        return rules if all(rule["lastEvaluation"][:4] != "0001" for rule in rules) else []

    rules = wait_for(computed, seconds=60)

    assert len(rules) > 25
    assert [rule["name"] for rule in rules if rule["health"] != "ok"] == [], json.dumps(rules)[:2000]
