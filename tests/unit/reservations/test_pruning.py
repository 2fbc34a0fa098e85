"""manage.py prune_images, resync_gateway: what Berth itself put on the machines, and nothing else."""

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from accounts.models import AuditEntry
from compute import drivers
from compute.engine import ContainerEngine, EngineRefused
from compute.models import Gateway, Node
from compute.spec import ImageSeen
from reservations.models import Service
from reservations.pruning import Known, spare
from tests.factories import DIGEST, NOW, at, make_gateway, make_node, make_reservation
from tests.fakes import FakeEngine
from tests.unit.conftest import Machines

pytestmark = pytest.mark.django_db
OLD = f"registry.test:5000/library/nginx@{DIGEST}"
NEW_DIGEST = f"sha256:{'b' * 64}"


@pytest.fixture(autouse=True)
def _the_tests_own_clock(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django.utils.timezone.now", machines.clock)


@pytest.fixture
def node() -> Node:
    return make_node("one", cores=8)


def run(*words: str) -> str:
    out = StringIO()
    call_command(*words, stdout=out)
    return out.getvalue()


def over_and_replaced(machines: Machines, node: Node) -> FakeEngine:
    """A reservation is over, and its service has another image since; ten days have passed."""
    reservation = machines.settle(make_reservation())
    machines.clock.forward(hours=1)
    assert machines.settle(reservation).state == "ended"
    Service.objects.update(digest=NEW_DIGEST)
    machines.clock.forward(days=10)
    return machines.engine(node)


# ---- which ------------------------------------------------------------------------------------------------

ROWS = Known(
    {"r/old@1": at(-500), "r/lately@2": at(-1), "r/never@3": None, "r/offered@4": None}, frozenset({"r/offered@4"})
)


@pytest.mark.parametrize(
    ("names", "used", "goes"),
    [
        (("r/old@1",), False, True),
        (("r/never@3",), False, True),
        (("r/old@1", "r/never@3"), False, True),
        (("r/old@1",), True, False),
        (("r/lately@2",), False, False),
        (("r/offered@4",), False, False),
        (("r/old@1", "r/offered@4"), False, False),
        (("r/old@1", "mine:latest"), False, False),
        (("strangers@5",), False, False),
        ((), False, False),
    ],
)
def test_only_what_is_ours_alone_old_and_unused_is_spare(names: tuple[str, ...], used: bool, goes: bool) -> None:
    image = ImageSeen("id", names, 100, used)

    assert bool(spare([image], ROWS, before=NOW - timedelta(days=7))) is goes


# ---- the command ------------------------------------------------------------------------------------------


def test_an_image_that_nothing_needs_any_more_goes(machines: Machines, node: Node) -> None:
    engine = over_and_replaced(machines, node)

    preview = run("prune_images", "--dry-run")
    still_there = set(engine.images)
    said = run("prune_images")
    again = run("prune_images")

    assert OLD in preview
    assert still_there == {OLD}
    assert "1 images were taken off: about 100 MiB" in said
    assert engine.images == set()
    assert again.startswith("0 images were taken off")
    audit = AuditEntry.objects.get(action="node.prune")
    assert (audit.actor_name, audit.data) == ("manage.py prune_images", {"name": "one", "images": [OLD]})


def test_what_was_used_lately_stays_unless_it_is_said_otherwise(machines: Machines, node: Node) -> None:
    engine = over_and_replaced(machines, node)

    run("prune_images", "--older-than=30d")
    stayed = set(engine.images)
    run("prune_images", "--older-than=12h")

    assert (stayed, engine.images) == ({OLD}, set())


def test_strangers_images_stay(machines: Machines, node: Node) -> None:
    engine = over_and_replaced(machines, node)
    engine.images |= {"nginx:1", "registry.test:5000/other/app@sha256:1"}
    engine.other_names[OLD] = ("somebodys:tag",)

    run("prune_images", "--older-than=1m")

    assert engine.images == {OLD, "nginx:1", "registry.test:5000/other/app@sha256:1"}


def test_what_a_live_reservation_was_booked_with_stays(machines: Machines, node: Node) -> None:
    machines.settle(make_reservation())
    make_reservation(start=at(200))
    Service.objects.update(digest=NEW_DIGEST)
    machines.clock.forward(days=10)
    engine = machines.engine(node)
    engine.containers.clear()

    run("prune_images", "--older-than=1m")

    assert engine.images == {OLD}


def test_one_that_a_container_begins_to_use_meanwhile_stays_and_is_said(machines: Machines, node: Node) -> None:
    engine = over_and_replaced(machines, node)

    def begins(call: str) -> None:
        if call == "forget_image":
            engine.put_stranger("their-own")
            engine.containers["their-own"].image = OLD

    engine.trouble.before = begins

    with pytest.raises(CommandError, match="is using the image"):
        run("prune_images")

    assert engine.images == {OLD}
    assert not AuditEntry.objects.filter(action="node.prune").exists()


def test_a_silent_node_is_an_exit_code_and_keeps_nobody_else_from_it(machines: Machines, node: Node) -> None:
    engine = over_and_replaced(machines, node)
    machines.engine(make_node("two")).trouble.silent = True
    out = StringIO()

    with pytest.raises(CommandError, match="two: "):
        call_command("prune_images", "--json", stdout=out)

    assert engine.images == set()
    values = json.loads(out.getvalue())
    assert [image["reference"] for image in values["images"]] == [OLD]
    assert len(values["problems"]) == 1


def test_a_node_that_cannot_be_asked_is_an_exit_code_and_keeps_nobody_else_from_it(
    machines: Machines, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = over_and_replaced(machines, node)
    make_node("another")
    ask = drivers.engine

    def without_tls(row: Node) -> ContainerEngine:
        if row.name == "another":
            raise EngineRefused("an engine on tcp:// needs mutual TLS: set BERTH_TLS_DIR")
        return ask(row)

    monkeypatch.setattr(drivers, "engine", without_tls)

    with pytest.raises(CommandError, match=r"^another: an engine on tcp:// needs mutual TLS"):
        run("prune_images")

    assert engine.images == set()


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--node=nowhere", "no node nowhere"),
        ("--older-than=soon", "no span of time"),
        ("--older-than=-1d", "no span of time"),
    ],
)
def test_what_cannot_be_pruned_is_named(option: str, sentence: str, node: Node) -> None:
    with pytest.raises(CommandError, match=sentence):
        run("prune_images", option)


# ---- the gateway ------------------------------------------------------------------------------------------


def test_a_flushed_gateway_is_shown_rule_by_rule_and_mended(machines: Machines, node: Node) -> None:
    machines.settle(make_reservation())
    gateway = machines.gateway(node.gateway)
    whole = gateway.rules
    gateway.flush()
    out = StringIO()

    with pytest.raises(SystemExit):
        call_command("resync_gateway", "--dry-run", stdout=out)
    flushed = gateway.rules
    said = run("resync_gateway", "gate")
    again = run("resync_gateway")

    assert all(f"+ {rule}" in out.getvalue() for rule in [*whole.nat, *whole.filter])
    assert flushed != whole
    assert gateway.rules == whole
    assert "rules differed; it has the wanted ones now" in said
    assert again == "gate: its rules are as they should be.\n"
    audit = AuditEntry.objects.get(action="gateway.resync")
    assert (audit.data["missing"], audit.data["unwanted"]) == (len(whole.nat) + len(whole.filter), 0)
    assert Gateway.objects.get().drift_total == len(whole.nat) + len(whole.filter)


def test_a_rule_that_nobody_wants_is_shown_and_taken_away(machines: Machines, node: Node) -> None:
    machines.settle(make_reservation())
    gateway = machines.gateway(node.gateway)
    whole = gateway.rules
    gateway.rules = type(whole)((*whole.nat, "-A BERTH-DNAT -j ACCEPT"), whole.filter)

    said = run("resync_gateway")

    assert "- -A BERTH-DNAT -j ACCEPT" in said
    assert gateway.rules == whole


def test_a_silent_gateway_is_an_exit_code(machines: Machines) -> None:
    machines.gateway(make_gateway()).trouble.silent = True
    out = StringIO()

    with pytest.raises(CommandError, match="gate: "):
        call_command("resync_gateway", "--json", stdout=out)

    assert json.loads(out.getvalue())[0]["problem"]


def test_a_gateway_without_rules_has_nothing_to_mend(machines: Machines) -> None:
    make_gateway(driver="direct")

    assert run("resync_gateway") == "gate: its rules are as they should be.\n"


def test_an_unknown_gateway_is_named() -> None:
    with pytest.raises(CommandError, match="There is no gateway nowhere"):
        run("resync_gateway", "nowhere")
