"""Each kind of drift is made by hand, and the doctor names it; then it is undone, and the doctor finds nothing.

Nobody may mend anything meanwhile: worker and beat rest.
"""

from collections.abc import Callable
from dataclasses import dataclass
from subprocess import CompletedProcess

import pytest

from lab import Lab
from tests.integration.desk import KILL_GUARD, Answer, Desk
from tests.live import RunningStack, wait_for

RULE = "BERTH-DNAT -p tcp -m tcp --dport 20999 -j DNAT --to-destination 10.0.0.1:80"
STORED = "/var/lib/storage/volumes"


@dataclass
class Drift:
    """What is put out of order, what the doctor has to say of it, and how it comes into order again."""

    name: str
    do: Callable[[], object]
    says: str
    promise: int
    undo: Callable[[], object]


@dataclass
class Scene:
    """Three reservations that run, and the hands that put their machines and rows out of order."""

    desk: Desk
    lab: Lab
    kept: Answer
    gone: Answer
    over: Answer

    @property
    def node(self) -> str:
        """Where the kept one is."""
        return str(self.kept["node"])

    def on(self, machine: str, script: str) -> Callable[[], CompletedProcess[str]]:
        return lambda: self.lab.exec(machine, ["sh", "-c", script])

    def sql(self, query: str, *values: object) -> Callable[[], object]:
        return lambda: self.desk.sql(query, *values)


@pytest.fixture(scope="module")
def scene(module_desk: Desk, lab: Lab) -> Scene:
    return Scene(
        module_desk,
        lab,
        kept=module_desk.running("nginx", size="tiny", storage="C3"),
        gone=module_desk.running("redis", size="tiny"),
        over=module_desk.running("nginx", size="tiny"),
    )


@pytest.fixture(scope="module")
def drifts(scene: Scene) -> list[Drift]:
    kinds = (_of_containers, _of_rules, _of_storage, _of_capacity, _of_rows, _of_guards)
    return [drift for kind in kinds for drift in kind(scene)]


def by_itself() -> None:
    """The workers mend it; or nothing is done, since it is broken already."""


def _of_containers(scene: Scene) -> list[Drift]:
    lab, node, gone = scene.lab, scene.node, scene.gone["id"]
    lost = scene.desk.container(gone)
    inspect = ["docker", "inspect", "-f", "{{.Image}}", scene.desk.container(scene.kept["id"])]
    image = lab.exec(node, inspect).stdout.strip()
    label = ["--label", "berth.reservation=999999", "--label", "berth.expires_at=2099-01-01T00:00:00+00:00"]
    stranger = ["docker", "run", "-d", "--name", "berth-999999-1-main", *label, image, "sleep", "9"]
    return [
        Drift(
            "a container is gone",
            lambda: lab.exec(scene.gone["node"], ["docker", "rm", "-f", lost]),
            f"{lost} should be running for reservation {gone} but is not",
            1,
            by_itself,
        ),
        Drift(
            "a stranger with our label",
            lambda: lab.exec(node, stranger),
            "berth-999999-1-main carries Berth's label but belongs to no live reservation",
            1,
            scene.on(node, "docker rm -f berth-999999-1-main"),
        ),
        Drift(
            "a network with our label",
            lambda: lab.exec(node, ["docker", "network", "create", *label, "berth-999998-1-main"]),
            "berth-999998-1-main carries Berth's label",
            1,
            scene.on(node, "docker network rm berth-999998-1-main"),
        ),
    ]


def _of_rules(scene: Scene) -> list[Drift]:
    forward = scene.desk.sql("SELECT public_port FROM compute_forward WHERE wanted ORDER BY id")[0][0]
    ours, table = _rule_of(scene.lab, forward), ["iptables", "-w", "5", "-t", "nat"]
    return [
        Drift(
            "a rule is lost",
            lambda: scene.lab.exec("gateway", [*table, "-D", *ours.split()]),
            f"lacks the rule -A {ours}",
            2,
            by_itself,
        ),
        Drift(
            "a strange rule",
            lambda: scene.lab.exec("gateway", [*table, "-A", *RULE.split()]),
            f"has a rule that nobody wants: -A {RULE}",
            2,
            by_itself,
        ),
    ]


def _of_storage(scene: Scene) -> list[Drift]:
    on, node, place = scene.on, scene.node, "/var/lib/berth/volumes/vol-777777"
    of_kept = "SELECT volume_id FROM reservations_container WHERE reservation_id = %s"
    [[volume]] = scene.desk.sql(of_kept, scene.kept["id"])
    return [
        Drift(
            "a mount",
            on(node, f"mkdir -p {place} && mount -t tmpfs none {place}"),
            "vol-777777 is mounted but no live reservation uses it",
            3,
            on(node, f"umount {place} && rmdir {place}"),
        ),
        Drift(
            "a local image",
            on(node, "mkdir -p /var/lib/berth/images && touch /var/lib/berth/images/vol-888888.img"),
            "the image of vol-888888 is there, and the database does not know it",
            3,
            on(node, "rm /var/lib/berth/images/vol-888888.img"),
        ),
        Drift(
            "an image on the storage server",
            on("storage", f"touch {STORED}/vol-888889.img"),
            "vol-888889 is stored, and the database does not know it",
            3,
            on("storage", f"rm {STORED}/vol-888889.img"),
        ),
        Drift(
            "a kept volume",
            on("storage", f"mv {STORED}/vol-{volume}.img {STORED}/../aside.img"),
            f"the kept volume vol-{volume} is missing",
            3,
            on("storage", f"mv {STORED}/../aside.img {STORED}/vol-{volume}.img"),
        ),
        Drift(
            "a degraded volume",
            scene.sql("UPDATE compute_volume SET problem = 'It is not well.' WHERE id = %s", volume),
            f"vol-{volume} is degraded: It is not well.",
            3,
            scene.sql("UPDATE compute_volume SET problem = '' WHERE id = %s", volume),
        ),
    ]


def _of_capacity(scene: Scene) -> list[Drift]:
    lent = scene.desk.sql("SELECT ram_mib, name FROM compute_node")

    def lend_again() -> None:
        for ram_mib, name in lent:
            scene.desk.sql("UPDATE compute_node SET ram_mib = %s WHERE name = %s", ram_mib, name)

    return [
        Drift(
            "the plan",
            scene.sql("UPDATE compute_loadstep SET ram_mib = ram_mib + 64"),
            "the plan and the bookings differ",
            5,
            lambda: scene.desk.stack.run_manage("doctor", "--mend-plan", check=False),
        ),
        Drift(
            "more in use than is lent",
            scene.sql("UPDATE compute_node SET ram_mib = 100"),
            "are in use, 100 MiB",
            5,
            lend_again,
        ),
    ]


def _of_rows(scene: Scene) -> list[Drift]:
    over = scene.over["id"]
    return [
        Drift(
            "a bill that runs on",
            scene.sql("UPDATE reservations_reservation SET state = 'stopped', wish = 'stop' WHERE id = %s", over),
            "is charged although it does not run",
            6,
            scene.sql("UPDATE reservations_reservation SET state = 'running', wish = 'run' WHERE id = %s", over),
        ),
        Drift(
            "one that nobody looks at",
            scene.sql(
                "UPDATE reservations_reservation SET look_at = now() - interval '5 minutes' WHERE id = %s",
                scene.kept["id"],
            ),
            "is running and late",
            7,
            by_itself,
        ),
        Drift(
            "a history that ends otherwise",
            by_itself,  # it is the same row as that of the bill
            f"reservation {over}: is stopped, but its history ends otherwise",
            10,
            by_itself,
        ),
    ]


def _of_guards(scene: Scene) -> list[Drift]:
    kill = f"{KILL_GUARD}; iptables -F BERTH-ROOM"
    return [Drift("the node's timer and firewall", scene.on(scene.node, kill), "firewall", 8, by_itself)]


def _rule_of(lab: Lab, port: int) -> str:
    saved = lab.exec("gateway", ["iptables-save", "-t", "nat"]).stdout.splitlines()
    return next(line for line in saved if line.startswith("-A BERTH-DNAT") and f"--dport {port} " in line)[3:]


def test_the_doctor_names_each_kind_of_drift_and_nothing_when_it_is_undone(
    drifts: list[Drift], stack: RunningStack
) -> None:
    healthy = stack.run_manage("doctor", check=False)
    assert healthy.returncode == 0, healthy.stdout + healthy.stderr
    done: list[Drift] = []
    stack.stop("beat", "worker")
    try:
        for drift in drifts:
            done.append(drift)
            drift.do()
        told = stack.run_manage("doctor", check=False)
    finally:
        for drift in reversed(done):
            drift.undo()
        stack.start("worker", "beat")
        stack.wait_ready()

    assert told.returncode == 1
    unsaid = [drift.name for drift in drifts if not _says(told.stdout, drift)]
    assert unsaid == [], told.stdout
    wait_for(lambda: stack.run_manage("doctor", check=False).returncode == 0, seconds=90)


def _says(told: str, drift: Drift) -> bool:
    return any(drift.says in line and f"(promise {drift.promise})" in line for line in told.splitlines())


def test_a_node_that_does_not_answer_is_not_called_well(stack: RunningStack, lab: Lab, desk: Desk) -> None:
    node = lab.info.nodes[0].name
    lab.cut(node)
    try:
        ill = stack.run_manage("doctor", check=False)
    finally:
        lab.heal(node)
        wait_for(lambda: desk.sql("SELECT health FROM compute_node WHERE name = %s", node)[0][0] == "ok", seconds=60)

    assert ill.returncode == 1
    assert f"{node}: could not be checked" in ill.stdout
    assert "(not checked)" in ill.stdout
