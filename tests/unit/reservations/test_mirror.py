"""Where the services' images come from: copied into the private registry, or pinned and pulled from upstream."""

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from accounts.models import AuditEntry
from compute import drivers
from compute.engine import ContainerEngine, EngineRefused
from compute.models import Node
from reservations.models import Service
from tests.factories import DIGEST, make_node, make_service
from tests.fakes import FakeEngine
from tests.unit.conftest import Machines

pytestmark = pytest.mark.django_db
OTHER = f"sha256:{'b' * 64}"
NGINX = "library/nginx"


@pytest.fixture
def engine(machines: Machines, settings: Any) -> FakeEngine:
    """The engine of the one node, which can pull nginx from upstream; there is no private registry."""
    settings.BERTH_REGISTRY = ""
    engine = machines.engine(make_node())
    engine.registry = {f"{NGINX}@{DIGEST}"}
    return engine


def run(*arguments: str) -> str:
    said = StringIO()
    call_command("mirror_images", *arguments, stdout=said)
    return said.getvalue()


def pinned(service: Service) -> str:
    service.refresh_from_db()
    return service.digest


def test_a_pinned_service_can_be_booked_and_its_image_is_upstreams_by_digest(engine: FakeEngine) -> None:
    service = make_service(digest="")

    assert "pinned" in run("--pin-only")

    service.refresh_from_db()
    assert service.available
    assert service.mirrored_at
    assert service.reference == f"{NGINX}@{DIGEST}"
    assert engine.images == set()  # nothing is pulled before somebody books it


def test_pinning_again_changes_nothing_and_writes_no_second_audit_entry(engine: FakeEngine) -> None:
    make_service(digest="")
    run("--pin-only")

    assert "up to date" in run("--pin-only")
    assert AuditEntry.objects.filter(action="service.mirror").count() == 1


def test_what_upstream_has_now_replaces_the_digest_of_a_registry_that_is_no_longer_used(engine: FakeEngine) -> None:
    service = make_service(digest=OTHER, upstream_digest=DIGEST)

    run("--pin-only")

    assert pinned(service) == DIGEST


def test_an_image_that_nobody_has_leaves_its_service_unavailable_and_fails(engine: FakeEngine) -> None:
    service = make_service("absent", digest="")
    nginx = make_service(digest="")

    with pytest.raises(CommandError, match="1 images could not be pinned"):
        run("--pin-only")
    assert "does not have library/absent:1" in run("--pin-only", "--missing-ok")

    assert not pinned(service)
    assert pinned(nginx) == DIGEST


def test_an_upstream_without_an_answer_keeps_what_was_pinned_and_is_a_failure(engine: FakeEngine) -> None:
    service = make_service(digest=OTHER, upstream_digest=OTHER)
    engine.trouble.silent = True

    with pytest.raises(CommandError, match="could not be pinned"):
        run("--pin-only", "--missing-ok")

    assert pinned(service) == OTHER


def test_pinning_is_refused_where_nodes_pull_from_a_private_registry(engine: FakeEngine, settings: Any) -> None:
    settings.BERTH_REGISTRY = "registry.test:5000"
    service = make_service(digest="")

    with pytest.raises(CommandError, match="BERTH_REGISTRY is set"):
        run("--pin-only")

    assert not pinned(service)


@pytest.mark.parametrize("arguments", [["--from=elsewhere:5000"], ["--insecure"]])
def test_pinning_takes_no_options_of_copying(engine: FakeEngine, arguments: list[str]) -> None:
    with pytest.raises(CommandError, match="for copying"):
        run("--pin-only", *arguments)


def test_pinning_without_a_node_says_so(machines: Machines, settings: Any) -> None:
    settings.BERTH_REGISTRY = ""

    with pytest.raises(CommandError, match="no node to ask"):
        run("--pin-only")


def test_pinning_by_a_node_that_cannot_be_asked_says_why(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(node: Node) -> ContainerEngine:
        raise EngineRefused("an engine on tcp:// needs mutual TLS: set BERTH_TLS_DIR")

    make_service(digest="")
    monkeypatch.setattr(drivers, "engine", refuses)

    with pytest.raises(CommandError, match="needs mutual TLS"):
        run("--pin-only")


def test_copying_without_a_private_registry_tells_of_pinning(engine: FakeEngine) -> None:
    said = StringIO()
    make_service(digest="")

    with pytest.raises(CommandError, match="could not be mirrored"):
        call_command("mirror_images", stdout=said)

    assert "--pin-only" in said.getvalue()


def test_seed_local_pins_what_there_is_and_does_not_fail_offline(machines: Machines, settings: Any) -> None:
    settings.BERTH_REGISTRY = ""
    service, said = make_service(digest=""), StringIO()
    local = FakeEngine("local", registry={f"{NGINX}@{DIGEST}"})
    machines.engines["local"] = local

    call_command("seed_local", stdout=said)
    assert pinned(service) == DIGEST

    local.trouble.before = lambda call: setattr(local.trouble, "silent", call == "digest")
    call_command("seed_local", stdout=said)
    assert "when upstream answers" in said.getvalue()
    assert pinned(service) == DIGEST


def test_seed_local_leaves_the_images_to_the_private_registry_that_is_set(machines: Machines) -> None:
    service, said = make_service(digest=""), StringIO()

    call_command("seed_local", stdout=said)

    assert "run manage.py mirror_images" in said.getvalue()
    assert not pinned(service)
