"""Probes: is a node's engine there, how is its machine; and what its row says after."""

import logging
from dataclasses import dataclass
from datetime import datetime

from compute import drivers
from compute.engine import EngineRefused, NoAnswer
from compute.models import Node, Sample
from compute.shell import CommandFailed

logger = logging.getLogger(__name__)
FAILURES_UNTIL_UNKNOWN = 2


@dataclass(frozen=True, slots=True)
class Vitals:
    """What /proc says of a machine."""

    memory_free_mib: int | None = None
    load_1: float | None = None
    uptime_s: int | None = None


def probe(node: Node, now: datetime) -> bool:
    """Ask the node and write down what it said; returns whether its engine answered.

    A node that did not answer twice in a row is `unknown` and is given nothing new; one answer makes it `ok`.
    Nothing that runs on it is touched: no answer is not "gone".
    """
    try:
        info = drivers.engine(node).info()
    except (NoAnswer, EngineRefused) as problem:
        failures = node.failures + 1
        lost = failures >= FAILURES_UNTIL_UNKNOWN
        if lost and node.health == Node.Health.OK:
            logger.warning("node %s is not in service: %s", node.name, problem)
        Node.objects.filter(pk=node.pk).update(
            failures=failures,
            health=Node.Health.UNKNOWN if lost else node.health,
            health_reason=str(problem)[:300],
        )
        Sample.objects.create(node=node, at=now, reachable=False)
        return False
    if node.health != Node.Health.OK:
        logger.info("node %s is back", node.name)
    Node.objects.filter(pk=node.pk).update(
        failures=0,
        health=Node.Health.OK,
        health_reason="",
        last_seen_at=now,
        engine_version=info.version[:60],
        containers_found=info.containers,
    )
    vitals = read_vitals(node)
    Sample.objects.create(
        node=node,
        at=now,
        reachable=True,
        containers=info.containers,
        memory_free_mib=vitals.memory_free_mib,
        load_1=vitals.load_1,
        uptime_s=vitals.uptime_s,
    )
    return True


def read_vitals(node: Node) -> Vitals:
    """Free memory, load and uptime over SSH; empty where Berth has only the engine or SSH does not answer."""
    host = drivers.host(node)
    if host is None:
        return Vitals()
    try:
        text = host.run(["cat", "/proc/meminfo", "/proc/loadavg", "/proc/uptime"], timeout_s=8)
    except (NoAnswer, CommandFailed) as problem:
        logger.warning("node %s: no vitals: %s", node.name, problem)
        return Vitals()
    return parse_vitals(text)


def parse_vitals(text: str) -> Vitals:
    """Reads /proc/meminfo, /proc/loadavg and /proc/uptime, one after the other (man 5 proc)."""
    lines = text.splitlines()
    available = next((line for line in lines if line.startswith("MemAvailable:")), "")
    load, uptime = lines[-2].split(), lines[-1].split()
    return Vitals(int(available.split()[1]) // 1024 if available else None, float(load[0]), int(float(uptime[0])))


def mark_unreachable(node: Node, problem: str) -> None:
    """A call in the middle of work got no answer: count it as a failed probe, so that nothing new goes there."""
    Node.objects.filter(pk=node.pk, health=Node.Health.OK).update(
        failures=FAILURES_UNTIL_UNKNOWN, health=Node.Health.UNKNOWN, health_reason=problem[:300]
    )
