"""What is written down and said about guards and certificates."""

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from compute import certificates, guarding
from compute.models import Node
from tests.factories import NOW, make_gateway, make_node
from tests.unit.conftest import Machines

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("left", "sentence"),
    [
        (timedelta(days=31), ""),
        (timedelta(days=29, hours=5), "expires on 2026-06-02, in 29 days"),
        (timedelta(hours=2), "expires on 2026-05-04, in 0 days"),
        (timedelta(0), "expired on 2026-05-04"),
    ],
)
def test_a_certificate_is_warned_of_in_time(left: timedelta, sentence: str) -> None:
    assert certificates.warning(NOW + left, NOW) == sentence


def test_a_certificate_that_is_not_known_is_not_warned_of() -> None:
    assert certificates.warning(None, NOW) == ""


def test_nodes_shows_what_is_wrong_with_the_guard_and_the_certificate(machines: Machines) -> None:
    make_node(
        "one", guard_problem="its timer does not run", tls_expires_at=timezone.now() + timedelta(days=12, hours=1)
    )
    out = StringIO()

    with pytest.raises(SystemExit):
        call_command("nodes", stdout=out)

    assert "    guard: its timer does not run\n" in out.getvalue()
    assert "in 12 days" in out.getvalue()


def test_prometheus_sees_guards_and_certificates(client: Client) -> None:
    make_node("one", guard_checked_at=NOW, guard_problem="its timer does not run", tls_expires_at=NOW)
    make_node("two", guard_checked_at=NOW)
    make_node("three")

    text = client.get("/metrics").content.decode()

    assert 'berth_node_guarded{node="one"} 0' in text
    assert 'berth_node_guarded{node="two"} 1' in text
    assert 'berth_node_guarded{node="three"}' not in text
    ends = next(line for line in text.splitlines() if line.startswith("berth_node_certificate_expiry"))
    assert float(ends.rpartition(" ")[2]) == NOW.timestamp()


def test_a_node_that_berth_cannot_log_in_to_has_no_guard(machines: Machines) -> None:
    make_node("far", ssh="")
    make_node("here", ssh="", engine_url="unix:///run/docker.sock")

    assert [(t.where, t.checked) for t in guarding._of_guard(Node.objects.get(name="far"))] == [("far", True)]
    assert list(guarding._of_guard(Node.objects.get(name="here"))) == []


def test_the_gateways_network_is_blocked_if_it_has_one() -> None:
    assert guarding.blocked_networks(make_node("one")) == ["10.99.0.0/24"]
    direct = make_gateway(name="direct", private_subnet="")
    assert guarding.blocked_networks(make_node("two", gateway=direct)) == []
