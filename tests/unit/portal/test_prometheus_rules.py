"""deploy/prometheus and deploy/grafana: sound, tested, and of figures that exist."""

import json
import re
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from django.test import Client
from django.utils import timezone

from compute import partitions
from compute.models import Node, Sample
from monitoring.models import Heartbeat, Incident
from portal.env import ROOT
from portal.metrics import page
from portal.metrics.processes import START_FAILURES, START_SECONDS, TASK_SECONDS
from reservations.models import Reservation
from tests.factories import make_storage

PROMETHEUS, GRAFANA = ROOT / "deploy/prometheus", ROOT / "deploy/grafana"
NAME = re.compile(r"\bberth_[a-z0-9_]+")

needs_promtool = pytest.mark.skipif(
    not shutil.which("promtool"), reason="promtool is not installed: Debian's package prometheus has it"
)


def promtool(*argv: str) -> str:
    """What it says; fails with that when it is not content. It comes with Debian's package prometheus."""
    done = subprocess.run(["promtool", *argv], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_promtool
def test_the_configuration_and_its_rules_are_sound() -> None:
    assert "2 rule files found" in promtool("check", "config", "prometheus.yml")


@needs_promtool
def test_alerts_fire_when_they_should_and_not_before() -> None:
    promtool("test", "rules", "tests.yml")


def test_each_alert_is_tested() -> None:
    alerts = set(re.findall(r"- alert: (\w+)", (PROMETHEUS / "alerts.yml").read_text()))
    tests = (PROMETHEUS / "tests.yml").read_text()
    fired = {block.split()[0] for block in tests.split("alertname: ") if "exp_alerts" in block}

    assert len(alerts) > 20
    assert alerts == fired


@pytest.fixture
def exposed(reservation: Reservation, settings: object, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The name of every series that the portal can tell, with everything known once."""
    now = timezone.now()
    partitions.ensure(now)
    node = Node.objects.get()
    Node.objects.update(guard_checked_at=now, last_seen_at=now, tls_expires_at=now)
    known = {
        field.name: 1
        for field in Sample._meta.concrete_fields
        if field.null  # what may be unknown
    }
    Sample.objects.create(node=node, at=now, reachable=True, **known)
    make_storage(last_seen_at=now)
    Heartbeat.objects.create(name="worker@a", kind="worker", started_at=now, at=now)
    Incident.objects.create(
        kind="x", subject="x", severity="warning", sentence="x", first_seen_at=now, last_seen_at=now, opened_at=now
    )
    monkeypatch.setattr("compute.certificates.client_expiry", lambda folder: now + timedelta(days=9))
    monkeypatch.setattr("portal.metrics.database.last_sweep", lambda: now)
    START_SECONDS.labels("success").observe(1)
    START_FAILURES.labels("node").inc()
    TASK_SECONDS.labels("x", "success").observe(1)
    Client().get("/healthz")
    return set(NAME.findall(re.sub(r"(?m)^#.*$", "", page.exposition().decode())))


@pytest.mark.django_db
@pytest.mark.parametrize("file", [PROMETHEUS / "alerts.yml", PROMETHEUS / "recording.yml", GRAFANA / "berth.json"])
def test_every_figure_that_is_asked_for_is_told(file: Path, exposed: set[str]) -> None:
    if file.suffix == ".json":
        board = json.loads(file.read_text())
        asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
        asked += [str(variable["query"]) for variable in board["templating"]["list"]]
    else:
        asked = re.findall(r"expr: (.*)", file.read_text())

    names = {name for expression in asked for name in NAME.findall(expression)}
    assert len(names) > 4
    assert sorted(names - exposed) == []


@pytest.mark.django_db
def test_every_figure_is_explained(exposed: set[str]) -> None:
    told = (ROOT / "docs/metrics.md").read_text()
    families = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in exposed}

    assert sorted(name for name in families if name not in told) == []


def test_the_boards_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    panels = json.loads((GRAFANA / "berth.json").read_text())["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)
