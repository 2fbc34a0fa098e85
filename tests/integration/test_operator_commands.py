"""The operators' commands on the real lab: a move, images, a flushed gateway, a bare machine that becomes a node."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from lab import Lab
from lab.engine import RESTART, SOCKET
from tests.integration.desk import KILL_GUARD, Answer, Desk
from tests.live import RunningStack, wait_for

KEYS = "/etc/ssh/authorized_keys_root"
LATER = "sha256:" + "e" * 64


@pytest.fixture(scope="module")
def nginx(module_desk: Desk) -> Answer:
    """With its volume on the storage server, so that it may leave its node."""
    wait_for(lambda: not module_desk.sql("SELECT 1 FROM compute_node WHERE health <> 'ok'"), seconds=60)
    return module_desk.running("nginx", size="tiny", storage="C2", storage_gb=1)


def other_node(lab: Lab, name: str) -> str:
    return next(node.name for node in lab.info.nodes if node.name != name)


# ---- moving -----------------------------------------------------------------------------------------------


def test_a_running_one_is_moved_and_answers_at_the_same_address(
    nginx: Answer, stack: RunningStack, lab: Lab, desk: Desk
) -> None:
    target, old = other_node(lab, nginx["node"]), desk.container(nginx["id"])

    preview = stack.run_manage("move", str(nginx["id"]), "--dry-run").stdout
    said = stack.run_manage("move", str(nginx["id"]), "--to", target).stdout
    wait_for(lambda: desk.get(nginx["id"])["state"] == "running", seconds=30)
    moved = desk.get(nginx["id"])

    assert f"would move from {nginx['node']} to {target}" in preview
    assert f"moves from {nginx['node']} to {target}" in said
    assert (moved["node"], moved["endpoints"]) == (target, nginx["endpoints"])
    wait_for(lambda: desk.fetch(moved) == "200", seconds=10)
    assert not desk.on_node(nginx["node"], old)
    periods = desk.sql(
        "SELECT lower(during), upper(during) FROM reservations_usageperiod WHERE reservation_id = %s ORDER BY during",
        nginx["id"],
    )
    assert len(periods) == 2
    assert periods[0][1] <= periods[1][0]
    assert periods[1][1] is None


def test_one_with_its_data_on_its_node_is_not_moved(stack: RunningStack, desk: Desk) -> None:
    redis = desk.running("redis", size="tiny")

    refused = stack.run_manage("move", str(redis["id"]), check=False)

    assert refused.returncode
    assert "on the disk of" in refused.stderr
    assert desk.get(redis["id"])["state"] == "running"


def test_one_that_is_ended_by_an_operator_says_why(stack: RunningStack, desk: Desk) -> None:
    booked = desk.running("nginx", size="tiny")

    stack.run_manage("end_reservation", str(booked["id"]), "--reason", "The rack is moved.")
    over = wait_for(lambda: (found := desk.get(booked["id"]))["state"] == "ended" and found, seconds=30)

    assert over
    assert any("Ended by an operator: The rack is moved." in text for _, text in desk.history(booked["id"]))


# ---- images, the gateway ----------------------------------------------------------------------------------


def test_images_that_nothing_needs_are_pruned_and_others_stay(stack: RunningStack, lab: Lab, desk: Desk) -> None:
    over = desk.running("redis", size="tiny")
    node = over["node"]
    [[image]] = desk.sql("SELECT image FROM reservations_reservation WHERE id = %s", over["id"])
    desk.delete_and_wait(over["id"])
    before = _images(lab, node)
    needed = json.loads(stack.run_manage("prune_images", "--node", node, "--older-than", "0m", "--json").stdout)
    versions = "UPDATE reservations_serviceversion SET digest = %s WHERE image LIKE 'library/redis:%%'"
    desk.sql("UPDATE reservations_service SET digest = %s WHERE slug = 'redis'", LATER)
    desk.sql(versions, LATER)  # the lab's has the same image
    try:
        young = stack.run_manage("prune_images", "--node", node).stdout
        dry = stack.run_manage("prune_images", "--node", node, "--older-than", "0m", "--dry-run").stdout
        assert _images(lab, node) == before
        said = stack.run_manage("prune_images", "--node", node, "--older-than", "0m").stdout
    finally:
        desk.sql("UPDATE reservations_service SET digest = %s WHERE slug = 'redis'", image.split("@")[1])
        desk.sql(versions, image.split("@")[1])

    assert image not in [pruned["reference"] for pruned in needed["images"]]
    assert image not in young
    assert image in dry
    assert image in said
    assert before - _images(lab, node) == {image}
    again = desk.running("redis", size="tiny")  # it is pulled again
    assert again["state"] == "running"


def _images(lab: Lab, node: str) -> set[str]:
    words = ["docker", "images", "--digests", "--format", "{{.Repository}}@{{.Digest}}"]
    return set(lab.exec(node, words).stdout.split())


def test_a_flushed_gateway_is_shown_and_mended(nginx: Answer, stack: RunningStack, lab: Lab, desk: Desk) -> None:
    stack.stop("beat", "worker")  # they would mend it meanwhile
    try:
        lab.exec("gateway", ["iptables", "-w", "5", "-t", "nat", "-F", "BERTH-DNAT"])
        lost = desk.fetch(nginx)
        dry = stack.run_manage("resync_gateway", "--dry-run", check=False)
        still_lost = desk.fetch(nginx)
        said = stack.run_manage("resync_gateway", "gateway").stdout
        again = stack.run_manage("resync_gateway", "gateway").stdout
        mended = desk.fetch(nginx)
    finally:
        stack.start("worker", "beat")
        stack.wait_ready()

    assert (lost, still_lost, mended) == ("000", "000", "200")
    assert dry.returncode == 1
    assert f"--dport {nginx['endpoints'][0]['port']} -j DNAT" in dry.stdout
    assert "differed; it has the wanted ones now" in said
    assert "its rules are as they should be" in again


# ---- a bare machine becomes a node ------------------------------------------------------------------------


class Bare:
    """A node of the lab as somebody gets it who installed Debian, sshd and Docker: nothing of Berth is on it."""

    def __init__(self, lab: Lab, name: str, folder: Path) -> None:
        self.lab, self.name = lab, name
        self.info = next(node for node in lab.info.nodes if node.name == name)
        self.other = next(node for node in lab.info.nodes if node.name != name)
        self.identity = folder / "somebodys_key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.identity)], check=True)
        self.known_hosts = Path(lab.info.keys.known_hosts)
        self.authority = self.known_hosts.parent.parent / "secrets/authority"
        key = lab.exec(name, ["ssh-keygen", "-lf", "/etc/ssh/berth_host_key"]).stdout
        self.fingerprint = key.split()[1]

    def strip(self) -> None:
        config = json.loads(self.read("/etc/docker/daemon.json"))
        lab_only = ("data-root", "storage-driver", "exec-opts", "cgroup-parent", "ip6tables", "shutdown-timeout")
        bare = {key: config[key] for key in lab_only} | {"hosts": [f"unix://{SOCKET}"], "labels": ["rack=7"]}
        self.lab.exec(
            self.name,
            ["sh", "-c", "rm -rf /etc/docker; mkdir /etc/docker; cat >/etc/docker/daemon.json"],
            input=json.dumps(bare),
        )
        self.lab.exec(self.name, ["sh", "-c", f"cat >{KEYS}"], input=self.identity.with_suffix(".pub").read_text())
        self.lab.exec(self.name, ["sh", "/var/lib/berth/guard/guard.sh", "remove"], check=False)
        self.lab.exec(self.name, ["sh", "-c", KILL_GUARD])
        self.lab.exec(self.name, [RESTART])
        self.forget_pin()

    def forget_pin(self) -> None:
        lines = self.known_hosts.read_text().splitlines(keepends=True)
        kept = [line for line in lines if self.info.address not in line.split()[0].split(",")]
        as_it_was = self.known_hosts.stat()
        self.known_hosts.write_text("".join(kept))
        os.chown(self.known_hosts, as_it_was.st_uid, as_it_was.st_gid)

    def read(self, path: str) -> str:
        return self.lab.exec(self.name, ["cat", path]).stdout

    def engine_pid(self) -> str:
        return self.read("/run/lab/dockerd.pid")

    def words(self, *more: str) -> list[str]:
        words = [
            "enrol_node",
            self.name,
            "--ssh",
            self.info.ssh,
            "--gateway",
            "gateway",
            "--address",
            self.info.address,
        ]
        words += ["--ca", str(self.authority), "--restart-command", RESTART, "--identity", str(self.identity)]
        words += ["--ram-mib", str(self.info.ram_mib), "--cores", str(self.info.cores)]
        return [*words, "--insecure-registry", self.lab.info.registry.address, *more]


@pytest.fixture(scope="module")
def bare(stack: RunningStack, lab: Lab, module_desk: Desk, nginx: Answer) -> Iterator[Bare]:
    """The node that has nothing on it, out of the fleet and wiped."""
    idle = other_node(lab, module_desk.get(nginx["id"])["node"])
    [[pin]] = [[Path(lab.info.keys.known_hosts).read_text()]]
    try:
        with TemporaryDirectory() as folder:
            stack.run_manage("drain", idle, "--yes")
            wait_for(lambda: stack.run_manage("remove_node", idle, check=False).returncode == 0, seconds=60)
            machine = Bare(lab, idle, Path(folder))
            machine.strip()
            yield machine
    finally:
        Path(lab.info.keys.known_hosts).write_text(pin)
        module_desk.sql("UPDATE compute_node SET state = 'active'")


def test_what_speaks_against_it_is_named_and_nothing_is_changed(bare: Bare, stack: RunningStack, lab: Lab) -> None:
    before = bare.read("/etc/docker/daemon.json"), bare.known_hosts.read_text(), bare.engine_pid()

    def refused(*words: str) -> str:
        done = stack.run_manage(*words, check=False)
        assert done.returncode, words
        assert "Traceback" not in done.stderr
        return done.stderr

    nobody = refused(*bare.words())
    wrong = refused(*bare.words("--host-key", "SHA256:" + "A" * 43))
    named = refused(*("node9" if word == bare.name else word for word in bare.words("--address", bare.other.address)))

    assert f"--host-key {bare.fingerprint}" in nobody
    assert "does not have the host key SHA256:AAA" in wrong
    assert f"That machine is a node already: {bare.other.name}" in named
    assert (bare.read("/etc/docker/daemon.json"), bare.known_hosts.read_text(), bare.engine_pid()) == before


def test_a_dry_run_tells_every_step_and_does_none(bare: Bare, stack: RunningStack) -> None:
    before = bare.read("/etc/docker/daemon.json"), bare.known_hosts.read_text(), bare.engine_pid(), bare.read(KEYS)

    unknown = stack.run_manage(*bare.words("--dry-run")).stdout
    said = stack.run_manage(*bare.words("--dry-run", "--host-key", bare.fingerprint)).stdout

    assert bare.fingerprint in unknown
    for step in ("would pin", "would let Berth's key in", "would make a key", "would set hosts", "would restart"):
        assert step in said, said
    after = bare.read("/etc/docker/daemon.json"), bare.known_hosts.read_text(), bare.engine_pid(), bare.read(KEYS)
    assert after == before


def test_a_bare_machine_becomes_a_node_and_the_same_again_changes_nothing(
    bare: Bare, stack: RunningStack, lab: Lab, desk: Desk
) -> None:
    first = stack.run_manage(*bare.words("--host-key", bare.fingerprint)).stdout
    pid, config = bare.engine_pid(), bare.read("/etc/docker/daemon.json")
    again = stack.run_manage(*bare.words()).stdout

    assert f"Node {bare.name} enrolled: lends {bare.info.ram_mib} MiB" in first
    assert "Nothing had to be changed on it." in again
    assert (bare.engine_pid(), bare.read("/etc/docker/daemon.json")) == (pid, config)
    assert json.loads(config)["labels"] == ["rack=7"]
    kept = lab.exec(bare.name, ["sh", "-c", "cat /etc/docker/daemon.json.berth-*"]).stdout
    assert json.loads(kept)["hosts"] == [f"unix://{SOCKET}"]
    assert lab.exec(bare.name, ["stat", "-c", "%a", "/etc/docker/tls/key.pem"]).stdout.strip() == "600"
    desk.sql("UPDATE compute_node SET state = 'cordoned' WHERE name = %s", bare.other.name)
    booked = desk.running("nginx", size="tiny")
    desk.sql("UPDATE compute_node SET state = 'active'")
    assert booked["node"] == bare.name
    assert desk.fetch(booked) == "200"


def test_one_that_was_killed_half_way_goes_on(bare: Bare, stack: RunningStack, lab: Lab) -> None:
    """What a SIGKILL leaves: a key without its certificate, a configuration of before, an engine not started anew."""
    wait_for(lambda: not lab.exec(bare.name, ["docker", "ps", "-q"]).stdout, seconds=30)
    tls = "/etc/docker/tls"
    changed = json.loads(bare.read("/etc/docker/daemon.json")) | {"userland-proxy": True}
    lab.exec(bare.name, ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{tls}/key.pem"])
    lab.exec(bare.name, ["sh", "-c", "cat >/etc/docker/daemon.json"], input=json.dumps(changed))
    lab.exec(bare.name, ["touch", f"{tls}/berth-unfinished"])
    pid = bare.engine_pid()

    said = stack.run_manage(*bare.words()).stdout

    assert "the present one is not that of its key" in said
    assert "set userland-proxy in" in said
    assert "restart its engine" in said
    assert bare.engine_pid() != pid


def test_a_certificate_is_renewed_and_not_while_containers_would_end(
    bare: Bare, nginx: Answer, stack: RunningStack, lab: Lab, desk: Desk
) -> None:
    busy = desk.get(nginx["id"])["node"]
    words = ["--ca", str(bare.authority), "--restart-command", RESTART]
    before = bare.read("/etc/docker/tls/cert.pem"), bare.read("/etc/docker/tls/key.pem")

    refused = stack.run_manage("renew_certificate", busy, *words, check=False)
    early = stack.run_manage("renew_certificate", bare.name, "--within", "60d", *words).stdout
    dry = stack.run_manage("renew_certificate", bare.name, "--dry-run", *words).stdout
    unchanged = bare.read("/etc/docker/tls/cert.pem"), bare.read("/etc/docker/tls/key.pem")
    said = stack.run_manage("renew_certificate", bare.name, *words).stdout
    after = bare.read("/etc/docker/tls/cert.pem"), bare.read("/etc/docker/tls/key.pem")

    assert refused.returncode
    assert "would end with the restart of its engine" in refused.stderr
    assert "its certificate is good for longer" in early
    assert "would make a key and a certificate" in dry
    assert unchanged == before
    assert after[0] != before[0]
    assert after[1] != before[1]
    assert "its certificate is good until" in said
    assert desk.fetch(desk.get(nginx["id"])) == "200"
