"""manage.py nodes, node, reservations, drain: what an operator sees before doing something, and what drain asks."""

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import AuditEntry
from compute.models import Node, ObservedContainer
from compute.models.samples import Sample
from compute.partitions import ensure
from reservations.management.commands import drain as drain_command
from reservations.models import Reservation
from tests.factories import NOW, at, make_node, make_reservation, make_service, make_user, workspace_of
from tests.unit.compute.readings import make_observed
from tests.unit.conftest import Machines

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _the_tests_own_clock(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django.utils.timezone.now", machines.clock)


def run(*words: object) -> str:
    out = StringIO()
    call_command(*map(str, words), stdout=out)
    return out.getvalue()


def code(*words: object) -> tuple[int, str]:
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command(*map(str, words), stdout=out)
    return int(str(ended.value.code)), out.getvalue()


def queries(*words: object) -> int:
    with CaptureQueriesContext(
        connection,
    ) as seen:
        run(*words)
    return len(seen)


def read_node(node: Node, **values: Any) -> None:
    ensure(NOW)
    defaults: dict[str, Any] = {
        "reachable": True,
        "memory_total_mib": 8000,
        "memory_free_mib": 6000,
        "load_1": 0.25,
        "cores": 8.0,
        "cores_used": 1.5,
        "uptime_s": 90_000,
        "volumes_size_mib": 1000,
        "volumes_free_mib": 250,
    }
    Sample.objects.create(node=node, at=NOW, **{**defaults, **values})


# ---- nodes, node ------------------------------------------------------------------------------------------


def test_nodes_tells_what_is_really_used() -> None:
    read_node(make_node("one", last_seen_at=NOW))

    line = run("nodes").splitlines()[1]
    (row,) = json.loads(run("nodes", "--json"))

    assert line.split()[:3] == ["one", "active", "ok"]
    assert all(word in line for word in ("2000", "1.50", "75%", "1 d 1 h"))
    assert (row["memory_free_mib"], row["uptime_s"], row["problems"]) == (6000, 90_000, [])


def test_what_no_reading_tells_is_a_dash_and_no_nought() -> None:
    make_node("one", last_seen_at=NOW)

    words = run("nodes").splitlines()[1].split()

    assert words[4] == words[6] == words[7] == words[9] == "–"


@pytest.mark.parametrize(
    "change",
    [
        {"health": "lost", "health_reason": "no answer for 40 s"},
        {"guard_problem": "its timer does not run"},
        {"disk_problem": "Its disk is nearly full."},
        {"tls_expires_at": at(24)},
    ],
)
def test_what_is_wrong_with_a_node_is_said_and_is_an_exit_code(change: dict[str, Any]) -> None:
    make_node("one", **change)

    for words in (["nodes"], ["node", "one"], ["nodes", "--json"], ["node", "one", "--json"]):
        ended, said = code(*words)
        assert ended == 1, words
        assert "".join(str(v) for k, v in change.items() if k not in {"health", "tls_expires_at"}) in said


def test_a_node_is_shown_with_what_is_on_it_and_what_is_booked(machines: Machines) -> None:
    make_node("one", last_seen_at=NOW)
    running = machines.settle(make_reservation())
    later = make_reservation(start=at(3))

    said = run("node", "one")
    values = json.loads(run("node", "one", "--json"))

    assert f"berth-{running.pk}-1-main" in said
    assert "tcp://one:2376" in said
    assert [(c["reservation"], c["state"]) for c in values["containers"]] == [
        (running.pk, "running"),
        (later.pk, "booked"),
    ]


def test_an_unknown_node_is_named() -> None:
    make_node("gone", state="removed")

    for name in ("nowhere", "gone"):
        with pytest.raises(CommandError, match=f"There is no node '{name}'"):
            run("node", name)


def test_as_many_queries_for_fifty_nodes_as_for_one() -> None:
    make_node("one", last_seen_at=NOW)
    few = queries("nodes")
    for _ in range(49):
        make_node(last_seen_at=NOW)

    assert queries("nodes") == few


# ---- reservations -----------------------------------------------------------------------------------------


def test_reservations_are_listed_with_state_node_and_address(machines: Machines) -> None:
    make_node("one", cores=8)
    ada = make_user("ada")
    running = machines.settle(make_reservation(ada))
    booked = make_reservation(start=at(2))

    said = run("reservations")
    rows = {row["id"]: row for row in json.loads(run("reservations", "--json"))}

    assert [line.split()[0] for line in said.splitlines()[1:]] == [str(booked.pk), str(running.pk)]
    assert running.endpoints.get().address in said
    assert (rows[running.pk]["state"], rows[running.pk]["node"]) == ("running", "one")
    assert rows[running.pk]["workspace"] == str(workspace_of(ada))
    assert not any("credential" in key or "password" in json.dumps(row) for row in rows.values() for key in row)


def test_reservations_are_filtered(machines: Machines) -> None:
    make_node("one", cores=8, ram_mib=9000)
    make_node("two", cores=8)
    ada = make_user("ada")
    running = machines.settle(make_reservation(ada))
    booked = make_reservation(start=at(2))
    Reservation.objects.filter(pk=booked.pk).update(state="ended")

    def listed(*words: object) -> list[int]:
        return [row["id"] for row in json.loads(run("reservations", "--json", *words))]

    assert listed() == [running.pk]
    assert listed("--all") == [booked.pk, running.pk]
    assert listed("--all", "--limit=1") == [booked.pk]
    assert listed("--state=ended") == [booked.pk]
    assert listed("--workspace", workspace_of(ada).name) == [running.pk]
    assert (listed("--node=one"), listed("--node=two")) == ([running.pk], [])
    assert "There are none." in run("reservations", "--state=failed")
    assert "There are more than 1" in run("reservations", "--all", "--limit=1")


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--node=nowhere", "no node 'nowhere'"),
        ("--workspace=nobody", "no workspace 'nobody'"),
        ("--limit=0", "1 or more"),
        ("--state=sleeping", "invalid choice: 'sleeping'"),
    ],
)
def test_a_filter_that_cannot_be_is_refused(option: str, sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence):
        run("reservations", option)


def test_as_many_queries_for_fifty_reservations_as_for_one() -> None:
    make_node("one", cores=100, ram_mib=100_000)
    user = make_user()
    workspace_of(user).__class__.objects.update(max_reservations=100, max_cores=100, max_ram_mib=99_999)
    make_reservation(user)
    few = queries("reservations")
    for _ in range(49):
        make_reservation(user)

    assert queries("reservations") == few


# ---- drain ------------------------------------------------------------------------------------------------


def test_draining_shows_what_moves_and_does_it_without_asking(machines: Machines) -> None:
    make_node("one", cores=8, ram_mib=9000)
    make_node("two", cores=8)
    reservation = machines.settle(make_reservation())

    preview = run("drain", "one", "--dry-run")
    before = Node.objects.get(name="one").state
    said = run("drain", "one")

    assert "moves to two" in preview
    assert str(reservation) in preview
    assert before == "active"
    assert "one is draining; 1 reservations are on it." in said
    assert AuditEntry.objects.get(action="node.draining").actor_name == "manage.py drain"


def test_what_would_stay_is_named_and_needs_a_yes(machines: Machines) -> None:
    machines.with_ssh = True
    make_node("one", cores=8, ram_mib=9000)
    make_node("two", cores=8)
    machines.settle(make_reservation(service=make_service(mount_path="/data")))
    out = StringIO()

    with pytest.raises(CommandError, match=r"1 would stay on one\. Nothing was changed"):
        call_command("drain", "one", stdout=out)
    before = Node.objects.get(name="one").state
    run("drain", "one", "--yes")

    assert "stays until 2026-05-04 11:00:00 UTC: Its data is on the disk of this node." in out.getvalue()
    assert (before, Node.objects.get(name="one").state) == ("active", "draining")


@pytest.mark.parametrize(("answer", "state"), [("y", "draining"), ("n", "active"), ("", "active")])
def test_somebody_at_the_keyboard_is_asked(
    answer: str, state: str, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_node("one", cores=8)
    machines.settle(make_reservation())
    asked: list[str] = []

    def type_it(question: str) -> str:
        asked.append(question)
        return answer

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", type_it)

    if state == "draining":
        run("drain", "one")
    else:
        with pytest.raises(CommandError, match="Nothing was changed"):
            run("drain", "one")

    assert asked == ["1 would stay. Drain one all the same? [y/N] "]
    assert Node.objects.get().state == state


def test_two_nodes_that_are_drained_at_once_do_not_take_each_others(machines: Machines) -> None:
    make_node("one", cores=8, ram_mib=9000)
    make_node("two", cores=8)
    machines.settle(make_reservation())

    alone = json.loads(run("drain", "one", "--dry-run", "--json"))
    both = json.loads(run("drain", "one", "two", "--dry-run", "--json"))

    assert [(one["fate"], one["to"]) for one in alone] == [("moves", "two")]
    assert [one["fate"] for one in both] == ["stays"]


def test_the_preview_has_as_many_queries_for_fifty_as_for_one() -> None:
    node = make_node("one", cores=100, ram_mib=100_000)
    user = make_user()
    workspace_of(user).__class__.objects.update(max_reservations=100, max_cores=100, max_ram_mib=99_999)
    make_reservation(user)

    def count() -> int:
        with CaptureQueriesContext(connection) as seen:
            drain_command._as_text(drain_command.preview([node], NOW))
        return len(seen)

    few = count()
    for _ in range(49):
        make_reservation(user)

    assert count() == few


# ---- remove_node ------------------------------------------------------------------------------------------


def test_what_was_seen_on_a_removed_node_is_gone() -> None:
    node, other = make_node("one"), make_node("two")
    make_observed(node, health="healthy")
    make_observed(other)

    run("remove_node", "one")

    seen = ObservedContainer.objects.order_by("node__name").values_list("state", "health")
    assert list(seen) == [("gone", ""), ("running", "")]


def test_removing_a_node_is_tried_first(machines: Machines) -> None:
    node = make_node("one", cores=8)
    running, later = machines.settle(make_reservation()), make_reservation(start=at(3))
    Node.objects.update(health="lost")

    with pytest.raises(CommandError, match="would not be removed"):
        run("remove_node", "one", "--dry-run")
    said = run("remove_node", "one", "--lost", "--dry-run").splitlines()

    assert said[0].startswith(str(running))
    assert said[0].endswith("is ended as failed")
    assert said[1].startswith(str(later))
    assert "gets a place elsewhere" in said[1]
    assert Node.objects.get(pk=node.pk).state == "active"
    assert Reservation.objects.get(pk=running.pk).state == "running"
