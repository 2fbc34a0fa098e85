"""Probes: is a node's engine there; and what its row says after. What else one may want to see is read by sampling."""

import logging
from datetime import datetime, timedelta

from django.db.models import F, Q
from django.dispatch import Signal

from compute import drivers
from compute.engine import EngineRefused, NoAnswer
from compute.log_context import about_its_node
from compute.models import Node

logger = logging.getLogger(__name__)
FAILURES_UNTIL_UNKNOWN = 2
FAILURES_UNTIL_LOST = 4  # so that a pause of our own, after which nothing was seen for long, declares nobody lost
LOST_AFTER = timedelta(seconds=32)  # without an answer; with a probe every 5 s it is declared within 45 s
node_back = Signal()  # node=, now=: it is in service again; who waited for it need not wait out their pause
PROBE_LASTS = timedelta(seconds=20)
UNSEEN_AFTER = timedelta(seconds=20)  # four probes
RETURNS = "It answers again; old copies are removed from it first."
HANGING = ("sent nothing in time", "is not answering")  # as docker_engine and breaker say it
BRAKE = "It is not declared lost, since most nodes gave no answer at once: that looks like a fault on our side."


def hangs(node: Node) -> bool:
    """Whether its engine takes calls and does not answer them, by what its last probe said."""
    silent = node.health in {Node.Health.UNKNOWN, Node.Health.LOST}
    return silent and any(words in node.health_reason for words in HANGING)


def claim_probe(node_id: int, now: datetime) -> Node | None:
    """The node, if nobody probes it at the moment: a hanging one takes one worker's thread and not all of them."""
    free = Q(probe_until=None) | Q(probe_until__lte=now)
    won = Node.objects.present().filter(free, pk=node_id).update(probe_until=now + PROBE_LASTS)
    return Node.objects.get(pk=node_id) if won else None


def let_go(node: Node) -> None:
    Node.objects.filter(pk=node.pk).update(probe_until=None)


@about_its_node
def probe(node: Node, now: datetime) -> bool:
    """Ask the node and write down what it said; returns whether its engine answered.

    A node that did not answer twice in a row is `unknown` and is given nothing new; one answer makes it `ok`.
    Nothing that runs on it is touched: no answer is not "gone". One that gave none for LOST_AFTER is `lost`; when
    that answers again it is `returning`, until what was started elsewhere meanwhile was removed from it.
    """
    try:
        info = drivers.engine(node).info()
    except (NoAnswer, EngineRefused) as problem:
        _note_silence(node, str(problem), now)
        return False
    if node.health != Node.Health.OK:
        logger.info("node %s answers again", node.name)
    row, away = Node.objects.filter(pk=node.pk), Q(health__in=[Node.Health.LOST, Node.Health.RETURNING])
    seen = {"failures": 0, "last_seen_at": now, "engine_version": info.version[:60]}
    seen["containers_found"] = info.containers
    # The row is asked: another probe may have declared it lost while this one waited for its answer.
    if not row.filter(away).update(health=Node.Health.RETURNING, health_reason=RETURNS, **seen):
        row.exclude(away).update(health=Node.Health.OK, health_reason="", **seen)
    if node.health == Node.Health.UNKNOWN:
        node_back.send(sender=Node, node=node, now=now)
    return True


def _note_silence(node: Node, problem: str, now: datetime) -> None:
    row = Node.objects.filter(pk=node.pk)
    row.update(failures=F("failures") + 1, health_reason=problem[:300])
    silent = row.filter(failures__gte=FAILURES_UNTIL_UNKNOWN)
    if silent.filter(health=Node.Health.OK).update(health=Node.Health.UNKNOWN):
        logger.warning("node %s is not in service: %s", node.name, problem)
    silent.filter(health=Node.Health.RETURNING).update(health=Node.Health.LOST)
    overdue = Q(last_seen_at=None) | Q(last_seen_at__lte=now - LOST_AFTER)
    due = row.filter(overdue, health=Node.Health.UNKNOWN, failures__gte=FAILURES_UNTIL_LOST)
    if not due.exists():
        return
    if brake(now):
        if node.health_reason != BRAKE:
            logger.error("node %s gives no answer. %s", node.name, BRAKE)
        due.update(health_reason=BRAKE)
    elif due.update(health=Node.Health.LOST, lost_at=now):
        logger.error("node %s is lost: no answer since %s (%s)", node.name, node.last_seen_at, problem)


def brake(now: datetime) -> bool:
    """Whether most nodes fell silent at once: then it is us, and nothing is torn down, moved or declared lost.

    Silent is also whoever was not seen lately, by whatever health: among many silent nodes some are probed late or
    not at all, since each takes a thread as long as a probe may last. Nodes that were declared lost before do not
    count; an operator can still take a node to be lost by hand (manage.py remove_node --lost).
    """
    since = now - UNSEEN_AFTER
    rows = Node.objects.present().exclude(health=Node.Health.LOST).values_list("health", "last_seen_at")
    silent = [health == Node.Health.UNKNOWN or bool(seen and seen < since) for health, seen in rows]
    return 2 * sum(silent) > len(silent)


def welcome_back(node: Node, now: datetime) -> None:
    """A returning node has nothing old on it any more: it is in service again."""
    back = Node.objects.filter(pk=node.pk, health=Node.Health.RETURNING, failures=0)
    if back.update(health=Node.Health.OK, health_reason="", lost_at=None):
        logger.info("node %s is back", node.name)
        node_back.send(sender=Node, node=node, now=now)


def mark_unreachable(node: Node, problem: str) -> None:
    """A call in the middle of work got no answer: count it as a failed probe, so that nothing new goes there."""
    Node.objects.filter(pk=node.pk, health=Node.Health.OK).update(
        failures=F("failures") + FAILURES_UNTIL_UNKNOWN, health=Node.Health.UNKNOWN, health_reason=problem[:300]
    )
