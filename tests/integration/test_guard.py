"""The node's own guard on the real lab: it ends what is over and keeps its firewall, reached by nobody.

The containers here belong to no reservation, so worker and beat rest meanwhile. One node is rebooted at the end.
"""

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from compute import guard
from compute.shell import CommandFailed, Host, SshOptions
from lab import Lab
from tests.integration.desk import KILL_GUARD
from tests.live import RunningStack, wait_for

IMAGE = "guarded:1"
NODE = "node1"
_PREPARE = f"docker image inspect {IMAGE} >/dev/null 2>&1 || tar -C /usr -cf - bin/busybox | docker import - {IMAGE}"


@dataclass
class Bench:
    """node1 and a way to put containers on it."""

    lab: Lab
    host: Host
    blocked: list[str]

    def sh(self, script: str, *, check: bool = True) -> str:
        return self.lab.exec(NODE, ["sh", "-c", script], check=check).stdout

    def put(self, name: str, *options: str, argv: tuple[str, ...] = ("sleep", "3600")) -> None:
        # Its first process does not hear SIGTERM, and most tests have no reason to wait for that.
        run = ["docker", "run", "-d", "--name", name, "--stop-signal", "KILL", *options, IMAGE]
        self.lab.exec(NODE, [*run, "/bin/busybox", *argv])

    def ours(self, name: str, expires: str, *options: str, argv: tuple[str, ...] = ("sleep", "3600")) -> None:
        """One with our label, which runs until then by its label, on no network."""
        labels = ["--label", "berth.reservation=999999", "--label", f"berth.expires_at={expires}"]
        self.put(name, *labels, *(options or ("--network", "none")), argv=argv)

    def runs(self, *names: str) -> bool:
        text = self.sh("docker ps --format '{{.Names}}'")
        return set(names) <= set(text.split())

    def rules(self) -> str:
        return self.sh("iptables -S; ip6tables -S")

    def log(self) -> str:
        return self.sh(f"cat {guard.HOME}/guard.log", check=False)

    def loop(self) -> str:
        """The pid of the guard's loop, "" when it does not run."""
        return self.sh("pgrep -oxf '/bin/sh .*/guard.sh loop'", check=False).strip()

    def whole(self) -> bool:
        return guard.check(self.host, blocked=self.blocked) == []

    def reached(self, container: str, *places: tuple[str, int]) -> list[tuple[str, int]]:
        """Those of the places that a program in the container gets a connection to."""
        tries = [
            f"(/bin/busybox nc -w 2 {host} {port} -e /bin/busybox true && echo {host} {port}) &"
            for host, port in places
        ]
        script = "\n".join([*tries, "wait"])
        argv = ["docker", "exec", container, "/bin/busybox", "sh", "-c", script]
        lines = self.lab.exec(NODE, argv, timeout=20).stdout.splitlines()
        return [(host, int(port)) for host, port in map(str.split, lines)]


@pytest.fixture(scope="module")
def bench(lab: Lab, stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    stack.stop("beat", "worker")
    keys = lab.info.keys
    control = tmp_path_factory.mktemp("s")
    host = Host(lab.info.nodes[0].ssh, SshOptions(Path(keys.ssh_key), Path(keys.known_hosts), control))
    made = Bench(lab, host, [lab.info.private_subnet])
    guard.install(host, blocked=made.blocked)
    made.sh(_PREPARE)
    yield made
    lab.heal(NODE)
    lab.start_machine(NODE)
    left = "docker ps -aq --filter label=berth.reservation=999999; docker ps -aq --filter name=guest-"
    made.sh(f"docker rm -f $({left}); docker rmi {IMAGE}; docker network rm guard-a guard-b guard-x", check=False)
    made.sh(f"rm -f {guard.LEASES}/guest-*")
    for socket in control.glob("*"):
        subprocess.run(["ssh", "-O", "exit", "-o", f"ControlPath={socket}", "x"], capture_output=True, check=False)
    stack.start("worker", "beat")
    stack.wait_ready()


def _now(**more: float) -> datetime:
    return datetime.now(UTC) + timedelta(**more)


def test_a_node_that_is_cut_off_ends_what_is_over_and_nothing_else(bench: Bench) -> None:
    """Every case at once, since each waits for the same rounds."""
    bench.sh(f"rm -f {guard.HOME}/guard.log /run/berth/guard.said")
    past, later = _now(seconds=-60).isoformat(), _now(hours=1).isoformat()
    bench.ours("guest-ends", later, "--network", "none", "--stop-signal", "TERM")
    bench.ours("guest-extended", past)  # its lease is there before it is looked at
    guard.write_lease(bench.host, "guest-extended", _now(hours=1))
    bench.ours("guest-by-label", _now(seconds=1).isoformat())
    bench.ours("guest-malformed", "tomorrow")
    bench.ours("guest-without-zone", "2020-01-01T00:00:00")
    bench.ours("guest-bad-lease", past)
    bench.sh(f"echo soon >{guard.LEASES}/guest-bad-lease")
    bench.put("guest-stranger", "--network", "none", "--label", f"berth.expires_at={past}")
    stays = ["guest-extended", "guest-malformed", "guest-without-zone", "guest-bad-lease", "guest-stranger"]
    ends = time.monotonic() + 8
    guard.write_lease(bench.host, "guest-ends", _now(seconds=8))

    bench.lab.cut(NODE)
    try:
        wait_for(lambda: not bench.runs("guest-by-label"), seconds=40, interval=0.5)
        assert bench.runs("guest-ends") or time.monotonic() > ends
        wait_for(lambda: not bench.runs("guest-ends"), seconds=ends + 30 - time.monotonic(), interval=0.5)
        assert bench.runs(*stays)
    finally:
        bench.lab.heal(NODE)

    log = bench.log()
    assert "guest-ends is past its end" in log
    assert "the end of guest-malformed cannot be read" in log
    assert log.count("the end of guest-bad-lease cannot be read") == 1, "said once, not every ten seconds"
    assert "guest-stranger" not in log


def test_the_lease_is_what_is_left_of_it_whatever_the_nodes_clock_says(bench: Bench) -> None:
    guard.write_lease(bench.host, "guest-clock", _now(seconds=600))

    end, boot, up = bench.sh(f"cat {guard.LEASES}/guest-clock").split()
    now, uptime = bench.sh("date +%s; cut -d. -f1 /proc/uptime").split()

    assert 590 < int(end) - int(now) <= 600
    assert 590 < int(up) - int(uptime) <= 600
    assert boot == bench.sh("cat /proc/sys/kernel/random/boot_id").strip()
    # Of an earlier boot the uptime says nothing; then the clock counts.
    bench.ours("guest-clock", _now(hours=1).isoformat())
    bench.sh(f"printf '1\\n%s 99999999999\\n' {boot} >{guard.LEASES}/guest-clock")
    bench.sh(f"sh {guard.HOME}/guard.sh round")
    assert bench.runs("guest-clock")
    bench.sh(f"printf '1\\nanother 99999999999\\n' >{guard.LEASES}/guest-clock")
    bench.sh(f"sh {guard.HOME}/guard.sh round")
    assert not bench.runs("guest-clock")


def test_leases_of_containers_that_are_gone_are_forgotten_after_a_day(bench: Bench) -> None:
    bench.ours("guest-stopped", _now(hours=1).isoformat())
    bench.sh("docker stop guest-stopped")
    bench.sh(f"cd {guard.LEASES}; for name in stopped gone-long gone-now; do echo 99999999999 >guest-$name; done")
    bench.sh(f"cd {guard.LEASES}; touch -d '2 days ago' guest-stopped guest-gone-long; sh {guard.HOME}/guard.sh round")

    left = set(bench.sh(f"ls {guard.LEASES}").split())
    assert {"guest-stopped", "guest-gone-now"} <= left
    assert "guest-gone-long" not in left


@pytest.fixture(scope="module")
def rooms(bench: Bench) -> None:
    """Three networks as the engine driver names them: two may go out, one may not."""
    for name, bridge in (("guard-a", "bi-ga"), ("guard-b", "bi-gb"), ("guard-x", "bx-gx")):
        bench.sh(f"docker network create -o com.docker.network.bridge.name={bridge} {name}")
        options = ["--network", name, "-p", "80"]
        bench.ours(
            f"guest-{bridge}", _now(hours=1).isoformat(), *options, argv=("httpd", "-f", "-p", "80", "-h", "/bin")
        )


def test_a_room_reaches_the_outside_only(bench: Bench, rooms: None) -> None:
    info = bench.lab.info
    node, other = info.nodes[0].address, info.nodes[1].address
    registry, _, port = info.registry.address.partition(":")
    outside = (info.outside.address, 8099)
    format_ = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.Gateway}}{{end}}"
    neighbour, own_gateway = bench.sh(f"docker inspect -f '{format_}' guest-bi-gb").split()
    refused = [(node, 22), (node, 2376), (other, 22), (other, 2376), (info.gateway.private_address, 22)]
    refused += [(registry, int(port)), (info.storage.address, 22), (info.management_address, 8311)]
    refused += [(neighbour, 80), (own_gateway, 22), (own_gateway, 2376)]

    server = bench.lab.popen("outside", ["busybox", "httpd", "-f", "-p", "8099", "-h", "/run"])
    try:
        assert wait_for(lambda: bench.reached("guest-bi-ga", *refused, outside), seconds=10) == [outside]
        assert bench.reached("guest-bx-gx", *refused, outside) == []
    finally:
        server.terminate()
        server.wait(timeout=10)
    # What comes in is answered, by the closed one too.
    for name in ("guest-bi-ga", "guest-bx-gx"):
        published = bench.sh(f"docker port {name} 80").split()[0].rpartition(":")[2]
        url = f"http://{node}:{published}/busybox"
        assert bench.lab.exec("gateway", ["curl", "-sfm", "3", "-o", "/dev/null", url], check=False).returncode == 0, (
            name
        )
    # Metadata: no such server here, so the rule's own count is looked at.
    assert bench.reached("guest-bi-ga", ("169.254.169.254", 80)) == []
    counted = bench.sh("iptables -nvxL BERTH-OUT | grep 169.254.0.0/16").split()
    assert int(counted[0]) > 0


def test_the_firewall_comes_back_whatever_is_done_to_it(bench: Bench, rooms: None) -> None:
    bench.sh(KILL_GUARD)  # or it would have mended before we look
    for harm in [
        "iptables -F BERTH-OUT",
        "iptables -D BERTH-OUT -d 10.0.0.0/8 -j DROP",
        "iptables -D INPUT -j BERTH-INPUT",
        "iptables -F DOCKER-USER; iptables -D FORWARD -j BERTH-ROOM",
        "iptables -I INPUT 1 -p icmp -m comment --comment stranger -j ACCEPT",
        "iptables -F BERTH-INPUT; iptables -F BERTH-SELF; iptables -X BERTH-SELF",
        "ip6tables -F; ip6tables -X",
        "iptables -I DOCKER-USER 1 -j ACCEPT",
    ]:
        bench.sh(harm, check=False)
        problems = guard.check(bench.host, blocked=bench.blocked)
        assert any("firewall" in sentence for sentence in problems), f"{harm}: {problems}"
        bench.sh(f"sh {guard.HOME}/guard.sh round")
        assert bench.whole(), harm
    again = bench.rules()
    assert "-A INPUT -p icmp -m comment --comment stranger -j ACCEPT" in again
    assert "-A DOCKER-USER -j ACCEPT" in again
    bench.sh(f"sh {guard.HOME}/guard.sh round; sh {guard.HOME}/guard.sh round")
    assert bench.rules() == again

    bench.sh("iptables -D DOCKER-USER -j ACCEPT")
    bench.sh(f"sh {guard.HOME}/guard.sh start; iptables -F BERTH-SELF")
    wait_for(bench.whole, seconds=20, interval=0.5)  # by its own timer


def test_the_firewall_is_there_after_a_restart_of_the_engine(bench: Bench) -> None:
    bench.lab.kill_daemon(NODE, "dockerd")
    bench.sh("iptables -F DOCKER-USER; iptables -D FORWARD -j BERTH-ROOM")
    bench.lab.start_daemon(NODE, "dockerd")

    wait_for(bench.whole, seconds=20, interval=0.5)


def test_a_guard_that_is_killed_comes_back(bench: Bench) -> None:
    first = bench.loop()
    bench.sh(f"kill -9 {first}")
    wait_for(lambda: bench.loop() not in ("", first), seconds=5)

    bench.sh(f"{KILL_GUARD}; rm /run/berth/guard.beat")
    report = guard.examine(bench.host, blocked=bench.blocked)
    assert report.problems == ("its timer has not run since the machine was started",)
    assert report.needs_install
    guard.install(bench.host, blocked=bench.blocked)

    assert bench.whole()
    running = bench.loop()
    guard.install(bench.host, blocked=bench.blocked)
    assert bench.loop() == running
    wait_for(lambda: bench.sh("pgrep -cxf '/bin/sh .*/guard.sh loop'").strip() == "1", seconds=5)  # it forks at times


def test_an_older_guard_is_seen_and_replaced_without_a_restart(bench: Bench) -> None:
    assert guard.check(bench.host, blocked=["10.11.12.0/24"])[0] == "its guard is not the present version"

    guard.install(bench.host, blocked=["10.11.12.0/24"])
    assert "10.11.12.0/24" in bench.rules()
    guard.install(bench.host, blocked=bench.blocked)

    assert bench.whole()
    assert "10.11.12.0/24" not in bench.rules()


def test_a_node_without_docker_is_refused_with_the_reason(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    script = guard.install_script([]).replace("for program in docker", "for program in no-such-docker")
    with pytest.raises(CommandFailed, match="it has no program no-such-docker"):
        bench.host.run(["sh", "-s"], stdin=script)


def test_a_wrong_clock_is_seen(bench: Bench) -> None:
    ahead = guard.examine(bench.host, blocked=bench.blocked, clock=lambda: time.time() - 600)

    assert ahead.problems == ("its clock is 600 s ahead of the portal's",)
    assert not ahead.needs_install
    # Without a lease the timer goes by the label, and is told how far it is off.
    guard.tell_skew(bench.host, ahead)
    bench.ours("guest-early", _now(seconds=-300).isoformat())
    bench.sh(f"sh {guard.HOME}/guard.sh round")
    assert bench.runs("guest-early")
    right = guard.examine(bench.host, blocked=bench.blocked)
    assert (right.told_s, right.allowance_s) == (600, 0)
    guard.tell_skew(bench.host, right)
    bench.sh(f"sh {guard.HOME}/guard.sh round")
    assert not bench.runs("guest-early")


def test_what_is_wrong_is_said_and_a_worker_mends_it(bench: Bench, stack: RunningStack) -> None:
    bench.sh(f"{KILL_GUARD}; rm -r {guard.HOME}; touch {guard.HOME}; iptables -F BERTH-OUT", check=False)

    found = json.loads(stack.run_manage("doctor", "--json", check=False).stdout)
    said = [(f["promise"], f["sentence"]) for f in found if f["where"] == NODE]
    assert (8, "it has no guard: neither timer nor firewall") in said

    info = bench.lab.info.nodes[0]
    options = [f"--address={info.address}", f"--engine={info.engine_url}", f"--ssh={info.ssh}"]
    refused = stack.run_manage("add_node", NODE, "--gateway=gateway", *options, check=False)
    assert f"The node {NODE} cannot be added, since its guard" in refused.stderr  # a file lies where its folder should

    bench.sh(f"rm {guard.HOME}")
    node = f"Node.objects.get(name='{NODE}')"
    look = f"from compute.tasks import check_guard; from compute.models import Node; check_guard({node}.pk)"
    stack.run_manage("shell", "-c", look)
    assert bench.whole()
    with stack.database() as connection:
        query = "SELECT guard_checked_at, guard_problem, tls_expires_at FROM compute_node WHERE name = %s"
        [(checked_at, problem, expires_at)] = connection.execute(query, [NODE]).fetchall()
    assert checked_at > _now(seconds=-20)
    assert problem == ""
    assert expires_at > _now(days=3600)


def test_after_a_reboot_timer_and_firewall_are_back_without_the_portal(bench: Bench) -> None:
    bench.ours("guest-boot", _now(hours=1).isoformat())
    guard.write_lease(bench.host, "guest-boot", _now(seconds=-60))
    bench.lab.stop_machine(NODE)
    bench.lab.start_machine(NODE)
    bench.lab.cut(NODE)
    try:
        look = bench.sh(f"sh {guard.HOME}/guard.sh look")
        assert "problem its firewall" not in look
        bench.sh("docker start guest-boot")  # over by its lease, which is on the disk
        wait_for(lambda: not bench.runs("guest-boot"), seconds=25, interval=0.5)
        assert "beat" in bench.sh(f"sh {guard.HOME}/guard.sh look")
    finally:
        bench.lab.heal(NODE)
    wait_for(bench.whole, seconds=10)
