"""What probes conclude of a node, and what they leave alone."""

import pytest

from compute import health
from compute.models import Node
from tests.factories import NOW, make_node
from tests.unit.conftest import Machines


@pytest.mark.django_db
def test_one_missed_probe_is_chance_two_take_a_node_out_and_one_answer_brings_it_back(machines: Machines) -> None:
    node = make_node()
    trouble = machines.engine(node).trouble
    states = []

    for silent in (True, True, True, False):
        trouble.silent = silent
        node.refresh_from_db()
        health.probe(node, NOW)
        states.append(Node.objects.get(pk=node.pk).health)

    assert states == ["ok", "unknown", "unknown", "ok"]
    node.refresh_from_db()
    assert (node.failures, node.health_reason, node.last_seen_at) == (0, "", NOW)


@pytest.mark.django_db
def test_a_call_without_answer_takes_a_healthy_node_out_and_says_why(machines: Machines) -> None:
    node = make_node()

    health.mark_unreachable(node, "it is silent")

    node.refresh_from_db()
    assert (node.health, node.health_reason) == ("unknown", "it is silent")
    assert not Node.objects.lending().exists()
