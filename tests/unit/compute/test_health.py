"""What probes conclude of a node, and what they leave alone."""

import pytest

from compute import health
from compute.health import Vitals, parse_vitals
from compute.models import Node, Sample
from tests.factories import NOW, at, make_node
from tests.unit.conftest import Machines

PROC = """MemTotal:        8000000 kB
MemFree:          100000 kB
MemAvailable:    4096000 kB
0.52 0.58 0.59 1/467 12345
350735.47 234388.90
"""


def test_proc_is_read() -> None:
    assert parse_vitals(PROC) == Vitals(memory_free_mib=4000, load_1=0.52, uptime_s=350_735)


def test_a_kernel_without_mem_available_has_no_free_memory_to_tell() -> None:
    assert parse_vitals("MemTotal: 1 kB\n0.1 0.2 0.3 1/1 1\n5.5 1.0\n").memory_free_mib is None


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
def test_each_probe_leaves_a_sample(machines: Machines) -> None:
    node = make_node()

    health.probe(node, NOW)
    machines.engine(node).trouble.silent = True
    health.probe(node, at(1))

    assert list(Sample.objects.order_by("at").values_list("reachable", flat=True)) == [True, False]


@pytest.mark.django_db
def test_a_call_without_answer_takes_a_healthy_node_out_and_says_why(machines: Machines) -> None:
    node = make_node()

    health.mark_unreachable(node, "it is silent")

    node.refresh_from_db()
    assert (node.health, node.health_reason) == ("unknown", "it is silent")
    assert not Node.objects.lending().exists()
