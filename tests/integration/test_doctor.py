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


@pytest.fixture(scope="module")
def rows(module_desk: Desk) -> dict[str, Answer]:
    return {
        "kept": module_desk.running("nginx", size="tiny", storage="C3"),
        "gone": module_desk.running("redis", size="tiny"),
        "over": module_desk.running("nginx", size="tiny"),
    }


@pytest.fixture(scope="module")
def drifts(rows: dict[str, Answer], module_desk: Desk, lab: Lab) -> list[Drift]:
    desk = module_desk
    kept, gone, over = rows["kept"]["id"], rows["gone"]["id"], rows["over"]["id"]
    node = rows["kept"]["node"]
    [[volume]] = desk.sql("SELECT volume_id FROM reservations_container WHERE reservation_id = %s", kept)
    image = lab.exec(node, ["docker", "inspect", "-f", "{{.Image}}", desk.container(kept)]).stdout.strip()
    label = ["--label", "berth.reservation=999999", "--label", "berth.expires_at=2099-01-01T00:00:00+00:00"]
    forward = desk.sql("SELECT public_port FROM compute_forward WHERE wanted ORDER BY id")[0][0]
    ours = _rule_of(lab, forward)

    def on(machine: str, script: str) -> Callable[[], CompletedProcess[str]]:
        return lambda: lab.exec(machine, ["sh", "-c", script])

    def sql(query: str, *values: object) -> Callable[[], object]:
        return lambda: desk.sql(query, *values)

    lent = desk.sql("SELECT ram_mib, name FROM compute_node")

    def lend_again() -> None:
        for ram_mib, name in lent:
            desk.sql("UPDATE compute_node SET ram_mib = %s WHERE name = %s", ram_mib, name)

    place = "/var/lib/berth/volumes/vol-777777"
    return [
        Drift(
            "a container is gone",
            lambda: lab.exec(rows["gone"]["node"], ["docker", "rm", "-f", desk.container(gone)]),
            f"{desk.container(gone)} should be running for reservation {gone} but is not",
            1,
            lambda: None,  # the workers start it again
        ),
        Drift(
            "a stranger with our label",
            lambda: lab.exec(
                node, ["docker", "run", "-d", "--name", "berth-999999-1-main", *label, image, "sleep", "9"]
            ),
            "berth-999999-1-main carries Berth's label but belongs to no live reservation",
            1,
            on(node, "docker rm -f berth-999999-1-main"),
        ),
        Drift(
            "a network with our label",
            lambda: lab.exec(node, ["docker", "network", "create", *label, "berth-999998-1-main"]),
            "berth-999998-1-main carries Berth's label",
            1,
            on(node, "docker network rm berth-999998-1-main"),
        ),
        Drift(
            "a rule is lost",
            lambda: lab.exec("gateway", ["iptables", "-w", "5", "-t", "nat", "-D", *ours.split()]),
            f"lacks the rule -A {ours}",
            2,
            lambda: None,  # the workers put it back
        ),
        Drift(
            "a strange rule",
            lambda: lab.exec("gateway", ["iptables", "-w", "5", "-t", "nat", "-A", *RULE.split()]),
            f"has a rule that nobody wants: -A {RULE}",
            2,
            lambda: None,
        ),
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
            sql("UPDATE compute_volume SET problem = 'It is not well.' WHERE id = %s", volume),
            f"vol-{volume} is degraded: It is not well.",
            3,
            sql("UPDATE compute_volume SET problem = '' WHERE id = %s", volume),
        ),
        Drift(
            "the plan",
            sql("UPDATE compute_loadstep SET ram_mib = ram_mib + 64"),
            "the plan and the bookings differ",
            5,
            sql("UPDATE compute_loadstep SET ram_mib = ram_mib - 64"),
        ),
        Drift(
            "more in use than is lent",
            sql("UPDATE compute_node SET ram_mib = 100"),
            "are in use, 100 MiB",
            5,
            lend_again,
        ),
        Drift(
            "a bill that runs on",
            sql("UPDATE reservations_reservation SET state = 'stopped', wish = 'stop' WHERE id = %s", over),
            "is charged although it does not run",
            6,
            sql("UPDATE reservations_reservation SET state = 'running', wish = 'run' WHERE id = %s", over),
        ),
        Drift(
            "one that nobody looks at",
            sql("UPDATE reservations_reservation SET look_at = now() - interval '5 minutes' WHERE id = %s", kept),
            "is running and late",
            7,
            lambda: None,
        ),
        Drift(
            "the node's timer and firewall",
            on(node, f"{KILL_GUARD}; iptables -F BERTH-ROOM"),
            "firewall",
            8,
            lambda: None,  # the workers put the guard back
        ),
        Drift(
            "a history that ends otherwise",
            lambda: None,  # it is the same row as that of the bill
            f"reservation {over}: is stopped, but its history ends otherwise",
            10,
            lambda: None,
        ),
    ]


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
