"""/monitor/drift/: what differs, who may mend it, and that nothing is touched that healed, is foreign or is silent."""

import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from kombu.exceptions import OperationalError

from accounts.models import AuditEntry
from compute import forwarding, volumes
from compute.models import Gateway, LoadStep, Node, Volume
from compute.spec import LABEL_GENERATION, LABEL_RESERVATION
from monitoring import drift, tasks
from monitoring.models import DriftLook
from reservations import doctor
from reservations import drift as machines_drift
from reservations.drift import Difference, Kind
from reservations.models import Container, Orphan, Reservation
from tests.factories import make_node, make_reservation, make_storage, make_user
from tests.fakes import FakeEngine, FakeGateway
from tests.unit.conftest import Machines
from tests.unit.monitoring.pages import browser_of, staff, words

pytestmark = pytest.mark.django_db
PAGE, LOOK, MEND = "/monitor/drift/", "/monitor/drift/look/", "/monitor/drift/mend/"
STRAY = "berth-1-1-main"


@pytest.fixture(autouse=True)
def _plain_http(settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = False


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "SETTLE_S", 0)


@pytest.fixture
def node(machines: Machines) -> Node:
    """Behind a gateway that has its rules."""
    made = make_node("one", cores=8)
    forwarding.check(made.gateway, timezone.now())
    return made


@pytest.fixture
def engine(machines: Machines, node: Node) -> FakeEngine:
    return machines.engine(node)


@pytest.fixture
def gateway(machines: Machines, node: Node) -> FakeGateway:
    return machines.gateway(node.gateway)


@pytest.fixture
def admin() -> Client:
    return browser_of(staff("change_node"))


def run_one(machines: Machines) -> Reservation:
    machines.clock.now = timezone.now()
    return machines.settle(make_reservation(now=machines.clock.now, length=timedelta(hours=2)))


def look() -> DriftLook:
    """Asked for, and every machine looked at by a worker."""
    sent: list[tuple[int, str]] = []
    made = drift.ask(by="test", now=timezone.now(), send=lambda pk, machine: sent.append((pk, machine)))
    for pk, machine in sent:
        drift.look_at(pk, machine, timezone.now)
    return DriftLook.objects.get(pk=made.pk)


def found() -> list[Difference]:
    return drift.found_by(look())


def kinds() -> list[str]:
    return [difference.kind.value for difference in found()]


def ended_one(machines: Machines) -> str:
    """The name of the container of a reservation that is over."""
    reservation = run_one(machines)
    machines.clock.now += timedelta(hours=3)
    over = machines.settle(reservation)
    assert over.state == "ended"
    return f"berth-{reservation.pk}-1-main"


def put_stray(machines: Machines, engine: FakeEngine, *, seen_s: int = 0) -> str:
    """What is left of a reservation that is over; the rounds have seen it so many seconds ago."""
    name = ended_one(machines)
    engine.put_stranger(name, {LABEL_RESERVATION: name.split("-")[1], LABEL_GENERATION: "1"})
    if seen_s:
        first = timezone.now() - timedelta(seconds=seen_s)
        Orphan.objects.create(node=Node.objects.get(), name=name, first_seen_at=first)
    return name


def press(browser: Client, **values: str) -> str:
    answer = browser.post(MEND, values, follow=True)
    assert answer.status_code == 200
    return words(answer)


def mend_all(browser: Client) -> str:
    """What the latest look found, as it was read on the page."""
    return press(browser, all=str(DriftLook.objects.latest("asked_at").pk))


def key_of(kind: Kind) -> str:
    return next(difference.key for difference in found() if difference.kind == kind)


# ---- who ----------------------------------------------------------------------------------------------------


def test_strangers_are_told_nothing_and_only_who_may_change_nodes_mends() -> None:
    for address in (PAGE, LOOK, MEND):
        ask = "get" if address == PAGE else "post"
        assert getattr(browser_of(None), ask)(address).status_code == 302
        assert getattr(browser_of(make_user()), ask)(address).status_code == 404
    assert browser_of(staff()).get(PAGE).status_code == 200
    assert browser_of(staff()).post(MEND, {"all": "1"}).status_code == 403
    assert browser_of(staff()).post(LOOK).status_code == 403
    assert "Look now" not in words(browser_of(staff()).get(PAGE))
    assert not DriftLook.objects.exists()
    assert browser_of(staff("change_node")).get(MEND).status_code == 405


def test_what_is_no_key_is_not_found(admin: Client) -> None:
    assert admin.post(MEND, {"key": "x"}).status_code == 404
    assert admin.post(MEND, {}).status_code == 404
    assert "nothing was done" in press(admin, key="0123456789abcdef")


# ---- looking ------------------------------------------------------------------------------------------------


def test_when_all_is_as_it_should_be_it_says_so(
    machines: Machines, gateway: FakeGateway, engine: FakeEngine, admin: Client
) -> None:
    run_one(machines)

    assert found() == []
    assert "No difference" in words(admin.get(PAGE))


def test_a_flushed_gateway_and_a_stray_container_are_seen_with_what_mending_would_do(
    machines: Machines, engine: FakeEngine, gateway: FakeGateway, admin: Client
) -> None:
    stray = put_stray(machines, engine)
    run_one(machines)
    lost = gateway.rules.nat[0]
    gateway.flush()

    look()
    page = words(admin.get(PAGE))

    assert f"lacks the rule {lost}" in page
    assert f"On gate: iptables -t nat {lost}" in page
    assert f"Remove the container, network and volume entry {stray} from one" in page
    assert f"Mend all {len(DriftLook.objects.get().found)}…" in page
    asks = page[page.index('id="mend-all"') : page.index("Do all of this")]
    assert f"On gate: iptables -t nat {lost}" in asks
    assert f"Remove the container, network and volume entry {stray} from one" in asks


def test_a_silent_machine_is_not_checked_and_never_fine(
    machines: Machines, engine: FakeEngine, gateway: FakeGateway, admin: Client
) -> None:
    engine.trouble.silent = gateway.trouble.silent = True

    seen = found()
    page = words(admin.get(PAGE))

    assert sorted((row.where, row.kind) for row in seen) == [("gate", Kind.NOT_CHECKED), ("one", Kind.NOT_CHECKED)]
    assert "2 not checked" in page
    assert "No difference" not in page


def test_a_node_that_is_known_to_be_silent_is_not_asked(machines: Machines, node: Node, engine: FakeEngine) -> None:
    Node.objects.update(health=Node.Health.LOST, health_reason="no answer")

    assert [row.sentence for row in found()] == ["could not be checked: no answer"]
    assert engine.trouble.calls == []


def test_what_differs_for_a_moment_only_is_no_drift(
    machines: Machines, engine: FakeEngine, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_one(machines)
    gateway.flush()
    row = Gateway.objects.get()
    monkeypatch.setattr(time, "sleep", lambda seconds: forwarding.check(row, timezone.now()))

    assert found() == []


def test_a_fault_of_ours_is_not_checked_either(machines: Machines, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines_drift, "of_node", lambda row: 1 / 0)

    [row] = found()

    assert (row.kind, row.sentence) == (Kind.NOT_CHECKED, "could not be checked: ZeroDivisionError")


def test_one_look_at_a_time_with_its_progress(machines: Machines, node: Node, admin: Client) -> None:
    sent: list[str] = []
    first = drift.ask(by="ada", now=timezone.now(), send=lambda pk, machine: sent.append(machine))
    second = drift.ask(by="bob", now=timezone.now(), send=lambda pk, machine: sent.append("again"))
    drift.look_at(first.pk, sent[0], timezone.now)

    page = words(admin.get(PAGE))

    assert first == second
    assert sent == ["portal", f"gateway:{node.gateway_id}", f"node:{node.pk}"]
    assert "1 of 3 machines were looked at" in page
    assert 'hx-trigger="every 1s"' in page
    assert words(admin.get(PAGE, headers={"HX-Target": "drift"})).startswith("<div id=")


def test_a_look_that_nobody_took_up_ends_and_says_so(machines: Machines, node: Node) -> None:
    old = drift.ask(by="ada", now=timezone.now() - timedelta(minutes=11), send=lambda pk, machine: None)

    look()

    [missing] = drift.found_by(DriftLook.objects.get(pk=old.pk))
    assert missing.sentence.startswith("3 of 3 machines were not looked at")
    assert missing.kind == Kind.NOT_CHECKED


def test_the_button_asks_workers_and_the_timetable_does_too(
    node: Node, admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(tasks.look_at_machine, "apply_async", lambda args, expires: sent.append(args[1]))

    assert admin.post(LOOK).status_code == 302
    tasks.look_for_drift()

    assert sent == ["portal", f"gateway:{node.gateway_id}", f"node:{node.pk}"]


def test_when_the_queue_is_down_it_says_so_and_no_look_is_begun(
    node: Node, admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(args: object, expires: int) -> None:
        raise OperationalError("no queue")

    monkeypatch.setattr(tasks.look_at_machine, "apply_async", refuse)

    page = words(admin.post(LOOK, follow=True))

    assert "the queue (Redis) gives no answer" in page
    assert not DriftLook.objects.exists()


def test_the_doctor_says_the_same(machines: Machines, engine: FakeEngine, gateway: FakeGateway) -> None:
    put_stray(machines, engine)
    run_one(machines)
    gateway.flush()

    told = {(finding.where, finding.sentence) for finding in doctor.examine(timezone.now())}

    assert {(row.where, row.sentence) for row in found()} <= told


# ---- mending ------------------------------------------------------------------------------------------------


def test_the_rules_of_a_gateway_are_put_back_and_the_deed_is_in_the_audit(
    machines: Machines, engine: FakeEngine, gateway: FakeGateway, admin: Client
) -> None:
    run_one(machines)
    wanted = gateway.rules
    gateway.flush()

    page = press(admin, key=key_of(Kind.RULE_MISSING))

    assert gateway.rules == wanted
    assert "Applied the rules of gate anew" in page
    entry = AuditEntry.objects.get(action="drift.mend")
    assert (entry.target, entry.data["kind"], entry.data["done"]) == (
        f"gateway:{Gateway.objects.get().pk}",
        "rule missing",
        True,
    )


def test_a_stray_is_removed_only_after_its_grace(machines: Machines, engine: FakeEngine, admin: Client) -> None:
    stray = put_stray(machines, engine)
    key = key_of(Kind.STRAY)

    early = press(admin, key=key)
    kept = stray in engine.containers
    Orphan.objects.update(first_seen_at=timezone.now() - timedelta(seconds=61))
    page = press(admin, key=key)

    assert kept
    assert "was first seen a moment ago" in early
    assert stray not in engine.containers
    assert f"Removed {stray} from one." in page
    assert AuditEntry.objects.filter(action="drift.mend").count() == 1


def test_what_the_database_does_not_know_is_stopped_and_kept(
    machines: Machines, engine: FakeEngine, admin: Client
) -> None:
    engine.put_stranger("berth-99-1-main", {LABEL_RESERVATION: "99", LABEL_GENERATION: "1"})
    key = key_of(Kind.STRAY)

    page = press(admin, key=key)
    after = found()

    assert engine.containers["berth-99-1-main"].presence == "exited"
    assert "put it into quarantine" in page
    assert [(row.kind, row.can_be_mended) for row in after] == [(Kind.QUARANTINED, False)]
    assert "nothing was done" not in press(admin, key=after[0].key)
    assert "berth-99-1-main" in engine.containers


def test_what_healed_meanwhile_is_left_alone(
    machines: Machines, engine: FakeEngine, gateway: FakeGateway, admin: Client
) -> None:
    run_one(machines)
    gateway.flush()
    key = key_of(Kind.RULE_MISSING)
    forwarding.check(Gateway.objects.get(), timezone.now())
    applied = gateway.applied

    page = press(admin, key=key)

    assert gateway.applied == applied
    assert "it has healed meanwhile" in page
    assert not AuditEntry.objects.filter(action="drift.mend").exists()
    assert key not in {row.key for row in drift.found_by(DriftLook.objects.first())}


def test_a_stray_that_became_somebodys_is_left_alone(machines: Machines, engine: FakeEngine, admin: Client) -> None:
    stray = put_stray(machines, engine, seen_s=100)
    key = key_of(Kind.STRAY)
    Container.objects.update(gone_at=None)

    page = press(admin, key=key)

    assert stray in engine.containers
    assert "it has healed meanwhile" in page


def test_foreign_containers_are_never_seen_or_touched(
    machines: Machines, node: Node, engine: FakeEngine, admin: Client
) -> None:
    engine.put_stranger("somebodys-database")
    engine.put_stranger(STRAY)  # our kind of name, without our label
    look()
    forged = Difference(Kind.STRAY, f"node:{node.pk}", "one", STRAY, "", "", 1, "Remove it")
    DriftLook.objects.update(found=[drift.as_json(forged)])

    one, everything = press(admin, key=forged.key), mend_all(admin)

    assert set(engine.containers) == {"somebodys-database", STRAY}
    assert all(container.presence == "running" for container in engine.containers.values())
    assert "it has healed meanwhile" in one
    assert "nothing was done" in everything


def test_a_machine_that_does_not_answer_is_left_alone(machines: Machines, engine: FakeEngine, admin: Client) -> None:
    stray = put_stray(machines, engine, seen_s=100)
    key = key_of(Kind.STRAY)
    engine.trouble.silent = True

    page = press(admin, key=key)

    engine.trouble.silent = False
    assert stray in engine.containers
    assert "Nothing was done." in page
    assert not AuditEntry.objects.filter(action="drift.mend").exists()


def test_while_most_nodes_are_silent_nothing_is_taken_away(
    machines: Machines, engine: FakeEngine, admin: Client
) -> None:
    stray = put_stray(machines, engine, seen_s=100)
    key = key_of(Kind.STRAY)
    for _ in range(2):
        make_node(health=Node.Health.UNKNOWN)

    page = press(admin, key=key)

    assert stray in engine.containers
    assert "Most nodes gave no answer at once" in page


def test_a_machine_that_was_removed_meanwhile(machines: Machines, engine: FakeEngine, admin: Client) -> None:
    put_stray(machines, engine, seen_s=100)
    key = key_of(Kind.STRAY)
    Node.objects.update(state=Node.State.REMOVED)

    assert "it has healed meanwhile" in press(admin, key=key)


def test_one_that_should_run_is_looked_at_at_once(
    machines: Machines, engine: FakeEngine, admin: Client, sent_hints: list[int]
) -> None:
    reservation = run_one(machines)
    engine.end_by_itself(f"berth-{reservation.pk}-1-main")
    sent_hints.clear()

    page = press(admin, key=key_of(Kind.NOT_RUNNING))

    assert sent_hints == [reservation.pk]
    assert f"A worker looks at reservation {reservation.pk} now" in page


def test_the_plan_is_computed_anew(machines: Machines, engine: FakeEngine, admin: Client) -> None:
    run_one(machines)
    LoadStep.objects.update(ram_mib=4000)

    page = press(admin, key=key_of(Kind.PLAN))

    assert "Computed the plan of one anew" in page
    assert Kind.PLAN not in kinds()


def test_a_mount_that_nobody_uses_is_taken_away_and_what_is_no_volume_of_ours_is_not(
    machines: Machines, node: Node, admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines.with_ssh = True
    unmounted: list[str] = []
    mounted = {"volumes/vol-77", "volumes/strange"}
    monkeypatch.setattr(volumes, "list_mounted", lambda host: mounted)
    monkeypatch.setattr(volumes, "list_local", lambda host: set())
    monkeypatch.setattr(volumes, "list_both", lambda host: (mounted, set()))
    monkeypatch.setattr(volumes, "unmount", lambda host, name: unmounted.append(name))
    seen = {row.subject: row.can_be_mended for row in found()}
    Orphan.objects.update(first_seen_at=timezone.now() - timedelta(seconds=61))

    mend_all(admin)

    assert seen == {"vol-77": True, "strange": False}
    assert unmounted == ["vol-77"]


def test_a_volume_that_is_attached_meanwhile_stays_mounted(
    machines: Machines, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines.with_ssh = True
    unmounted: list[str] = []
    volume = Volume.objects.create(size_gb=1, server=make_storage())
    monkeypatch.setattr(volumes, "list_mounted", lambda host: {f"volumes/{volume}"})
    monkeypatch.setattr(volumes, "list_local", lambda host: set())
    monkeypatch.setattr(volumes, "list_remote", lambda host, store: set())
    monkeypatch.setattr(volumes, "unmount", lambda host, name: unmounted.append(name))
    asked = [row for row in found() if row.kind == Kind.MOUNT]

    def attached_now(host: object) -> set[str]:
        Volume.objects.update(node=node, state=Volume.State.ATTACHED)
        return {f"volumes/{volume}"}

    monkeypatch.setattr(volumes, "list_mounted", attached_now)
    Orphan.objects.update(first_seen_at=timezone.now() - timedelta(seconds=61))

    [outcome] = drift.mend(asked, by="test", clock=timezone.now)

    assert (outcome.done, outcome.sentence) == (False, f"{volume} on one was not unmounted: somebody uses it.")
    assert unmounted == []


@pytest.mark.parametrize(
    ("kind", "done"), [(Kind.MOUNT, ("unmount", "Unmounted")), (Kind.IMAGE_LEFT, ("remove_local", "Took"))]
)
def test_a_mount_is_unmounted_and_only_the_other_button_deletes_its_image(
    kind: Kind, done: tuple[str, str], machines: Machines, node: Node, admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines.with_ssh = True
    volume = Volume.objects.create(size_gb=1, state=Volume.State.REMOVED)
    name, deeds = volume.machine_name, list[tuple[str, str]]()
    monkeypatch.setattr(volumes, "list_mounted", lambda host: {f"volumes/{name}"})
    monkeypatch.setattr(volumes, "list_local", lambda host: {name})
    monkeypatch.setattr(volumes, "list_both", lambda host: ({f"volumes/{name}"}, {name}))
    monkeypatch.setattr(volumes, "unmount", lambda host, name: deeds.append(("unmount", name)))
    monkeypatch.setattr(volumes, "remove_local", lambda host, spec: deeds.append(("remove_local", spec.name)))
    key = key_of(kind)
    Orphan.objects.update(first_seen_at=timezone.now() - timedelta(seconds=61))

    page = press(admin, key=key)

    deed, word = done
    assert deeds == [(deed, name)]
    assert f"{word} {name}" in page


def test_a_button_does_what_it_said_or_nothing(machines: Machines, engine: FakeEngine, admin: Client) -> None:
    stray = put_stray(machines, engine, seen_s=100)
    key = key_of(Kind.STRAY)
    look_before = DriftLook.objects.get()
    [row] = look_before.found
    look_before.found = [row | {"would": f"Stop {stray} on one and keep it there in quarantine"}]
    look_before.save()

    page = press(admin, key=key)

    assert stray in engine.containers
    assert f"{stray} on one is another thing by now: look again." in page
    assert not AuditEntry.objects.filter(action="drift.mend").exists()


def test_mend_all_does_what_was_read_or_nothing(
    machines: Machines, engine: FakeEngine, gateway: FakeGateway, admin: Client
) -> None:
    run_one(machines)
    gateway.flush()
    read = look()
    look()

    page = press(admin, all=str(read.pk))

    assert "There was another look since: nothing was done." in page
    assert gateway.rules.nat == ()
    mend_all(admin)
    assert gateway.rules.nat != ()


def test_mend_all_mends_what_it_can_with_one_apply_for_a_gateway(
    machines: Machines, engine: FakeEngine, gateway: FakeGateway, admin: Client
) -> None:
    stray = put_stray(machines, engine, seen_s=100)
    run_one(machines)
    run_one(machines)
    gateway.flush()
    applied = gateway.applied
    look()

    mend_all(admin)

    assert stray not in engine.containers
    assert gateway.applied == applied + 1
    assert found() == []


def test_queries_do_not_grow(machines: Machines, node: Node, admin: Client) -> None:
    def with_rows(count: int) -> int:
        rows = [
            Difference(Kind.STRAY, f"node:{node.pk}", "one", f"berth-{n}-1-main", "x", "y", 1, "z")
            for n in range(count)
        ]
        DriftLook.objects.update(found=[drift.as_json(row) for row in rows])
        with CaptureQueriesContext(connection) as queries:
            page = words(admin.get(PAGE))
        assert page.count('name="key"') == count
        return len(queries)

    look()

    assert with_rows(1) == with_rows(50) <= 12
