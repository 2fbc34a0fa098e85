"""The lab itself: it comes up, mends itself, lets only the right ones in, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import CommandFailed, Lab, LabError
from lab.leftovers import cgroup_directories, cgroup_pids, strays
from lab.stack.layout import Layout

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="the lab needs root"),
]

NAME = "t-lab"
ROOT = Path(__file__).resolve().parents[2]
#: Where script/test looks for the labs of a run that was killed: below are their state directories.
LABS = Layout(os.environ.get("BERTH_STACK", "test")).var / "labs"
SSHFS_OPTIONS = ",".join(
    [
        "IdentityFile=/etc/berth/storage.key",
        "UserKnownHostsFile=/etc/berth/storage_known_hosts",
        "StrictHostKeyChecking=yes",
        "BatchMode=yes",
        "reconnect",
        "ServerAliveInterval=5",
        "ServerAliveCountMax=3",
    ]
)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    lab = Lab(NAME, _state_dir("own"))
    lab.down(echo=_quiet)
    lab.up(echo=_quiet)
    yield lab
    lab.down(echo=_quiet)


def _state_dir(name: str) -> Path:
    path = LABS / name
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture
def whole_lab(lab: Lab) -> Iterator[Lab]:
    """For tests that break something: mended afterwards."""
    yield lab
    lab.up(echo=_quiet)


def test_a_second_up_changes_nothing_and_is_quick(lab: Lab) -> None:
    before = dict(lab.store.state.inits)

    begin = time.monotonic()
    lab.up(echo=_quiet)

    assert time.monotonic() - begin < 1.5
    assert lab.store.state.inits == before
    assert lab.status().ok


def test_exec_gives_output_input_and_exit_code(lab: Lab) -> None:
    assert lab.exec("node1", ["hostname"]).stdout == "node1\n"
    assert lab.exec("node1", ["cat"], input="words").stdout == "words"
    assert lab.exec("node1", ["sh", "-c", "exit 7"], check=False).returncode == 7
    with pytest.raises(CommandFailed):
        lab.exec("node1", ["false"])


def test_exec_ends_what_takes_too_long(lab: Lab) -> None:
    with pytest.raises(CommandFailed, match="ran out of time"):
        lab.exec("node2", ["sleep", "4242"], timeout=0.3)

    assert lab.exec("node2", ["pgrep", "-f", "sleep 4242"], check=False).returncode == 1


def test_a_machine_cannot_write_to_the_host(lab: Lab) -> None:
    for path in ("/usr/berth-lab-test", "/opt/berth-lab-test", "/var/berth-lab-test", "/etc/berth-lab-test"):
        lab.exec("node1", ["touch", path], check=False)
        assert not Path(path).exists()


def test_the_engine_wants_the_client_certificate(lab: Lab) -> None:
    tls = Path(lab.info.keys.tls_dir)
    trusting = ssl.create_default_context(cafile=tls / "ca.pem")
    known = ssl.create_default_context(cafile=tls / "ca.pem")
    known.load_cert_chain(tls / "cert.pem", tls / "key.pem")

    for node in lab.info.nodes:
        assert b" 200 OK" in _ping(node.address, known)
        assert b" 200 " not in _ping(node.address, None)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            _ping(node.address, trusting)


def test_the_portal_reaches_every_machine_by_ssh(lab: Lab) -> None:
    info = lab.info
    for target, name in [(info.gateway.ssh, "gateway"), *((node.ssh, node.name) for node in info.nodes)]:
        assert _ssh(lab, "ssh", target, "hostname").stdout == f"{name}\n"
    listing = _ssh(lab, "sftp", "-b", "-", info.storage.ssh, stdin="mkdir /volumes/a\nls /volumes\nrmdir /volumes/a\n")
    assert "/volumes/a" in listing.stdout


def test_the_gateways_ssh_is_not_there_for_the_outside(lab: Lab) -> None:
    public = lab.info.public_address
    answer = lab.exec("outside", ["busybox", "timeout", "3", "busybox", "nc", public, "22"], check=False)

    assert answer.returncode != 0
    assert "SSH" not in answer.stdout


def test_an_image_file_on_the_storage_server_serves_as_a_volume(whole_lab: Lab) -> None:
    script = f"""
        set -e
        mkdir -p /var/lib/berth/remote /var/lib/berth/volume
        sshfs {whole_lab.info.storage.ssh}:/volumes /var/lib/berth/remote -o {SSHFS_OPTIONS}
        truncate -s 64M /var/lib/berth/remote/one.img
        mkfs.ext4 -q -F -m 0 -E lazy_itable_init=1,lazy_journal_init=1 /var/lib/berth/remote/one.img
        mount -o loop,nosuid,nodev /var/lib/berth/remote/one.img /var/lib/berth/volume
        echo kept >/var/lib/berth/volume/file
        ! dd if=/dev/zero of=/var/lib/berth/volume/big bs=1M count=100 2>/dev/null
        rm /var/lib/berth/volume/big
        umount /var/lib/berth/volume
        mount -o loop,nosuid,nodev /var/lib/berth/remote/one.img /var/lib/berth/volume
        cat /var/lib/berth/volume/file
    """
    assert whole_lab.exec("node1", ["sh", "-c", script], timeout=60).stdout == "kept\n"

    # Powered off with the volume in use: the loop device must not stay.
    whole_lab.stop_machine("node1")
    assert not any("one.img" in line for line in _loop_devices())
    assert whole_lab.exec("storage", ["ls", "/var/lib/storage/volumes"]).stdout == "one.img\n"


def test_down_does_not_hang_on_a_volume_whose_server_is_gone() -> None:
    before = _traces()
    lab = Lab("t-leave", _state_dir("hang"))
    lab.up(echo=_quiet)
    script = f"""
        set -e
        mkdir -p /var/lib/berth/remote /var/lib/berth/volume
        sshfs {lab.info.storage.ssh}:/volumes /var/lib/berth/remote -o {SSHFS_OPTIONS}
        truncate -s 64M /var/lib/berth/remote/left-behind
        mkfs.ext4 -q -F -m 0 /var/lib/berth/remote/left-behind
        mount -o loop /var/lib/berth/remote/left-behind /var/lib/berth/volume
    """
    lab.exec("node1", ["sh", "-c", script])
    writer = lab.popen("node1", ["dd", "if=/dev/zero", "of=/var/lib/berth/volume/x"], stderr=subprocess.DEVNULL)
    lab.stop_machine("storage")

    begin = time.monotonic()
    lab.down(echo=_quiet)

    writer.wait(timeout=10)
    assert time.monotonic() - begin < 20
    assert _traces() == before


def test_machines_are_found_again_when_the_state_file_is_lost(whole_lab: Lab) -> None:
    inits = dict(whole_lab.store.state.inits)
    (whole_lab.store.directory / "state.json").unlink()

    whole_lab.up(echo=_quiet)

    assert whole_lab.store.state.inits == inits


def test_a_killed_daemon_is_started_again(whole_lab: Lab) -> None:
    whole_lab.kill_daemon("node2", "dockerd")
    assert not whole_lab.status().ok

    whole_lab.up(echo=_quiet)

    assert whole_lab.status().ok


@pytest.mark.parametrize("machine", ["gateway", "node1", "switch"])
def test_a_machine_whose_init_was_killed_comes_up_again(whole_lab: Lab, machine: str) -> None:
    if machine == "node1":
        whole_lab.exec("node1", ["touch", "/var/lib/berth/kept"])
    os.kill(whole_lab.machine(machine).pid, signal.SIGKILL)
    _until(lambda: whole_lab.machine(machine).init is None)

    whole_lab.up(echo=_quiet)

    assert whole_lab.status().ok
    assert _ssh(whole_lab, "ssh", whole_lab.info.nodes[0].ssh, "hostname").stdout == "node1\n"
    if machine == "node1":
        whole_lab.exec("node1", ["test", "-e", "/var/lib/berth/kept"])


def test_a_cut_cable_is_seen_and_healed(whole_lab: Lab) -> None:
    whole_lab.cut("node1")
    rows = {row.name: row for row in whole_lab.status().machines}
    assert rows["node1"].running
    assert not rows["node1"].connected

    whole_lab.heal("node1")

    assert whole_lab.status().ok


def test_what_a_machine_starts_at_boot_runs_after_a_reboot(whole_lab: Lab) -> None:
    script = "#!/bin/sh\nsleep 4243 &\necho booted >/run/by-rc-local\n"
    whole_lab.exec("storage", ["sh", "-c", "cat >/etc/rc.local && chmod +x /etc/rc.local"], input=script)

    whole_lab.reboot("storage")

    assert whole_lab.exec("storage", ["cat", "/run/by-rc-local"]).stdout == "booted\n"
    assert whole_lab.exec("storage", ["pgrep", "-f", "sleep 4243"]).returncode == 0


def test_names_that_cannot_be_a_lab_are_refused() -> None:
    for name in ("", "Demo", "a/b", "..", "thirteen-char"):
        with pytest.raises(LabError, match="cannot name a lab"):
            Lab(name)


def test_down_leaves_nothing() -> None:
    before, labs = _traces(), _state_dir("leave")
    lab = Lab("t-leave", labs)
    lab.up(echo=_quiet)
    assert _traces() != before
    groups = [lab.plan.cgroup(spec) for spec in lab.specs]
    lab.exec("node1", ["sh", "-c", "cd /var/lib/berth && truncate -s 8M left-behind && losetup -f left-behind"])

    lab.down(echo=_quiet)

    assert _traces() == before
    assert not any(cgroup_directories(group) or cgroup_pids(group) for group in groups)
    assert list(labs.iterdir()) == []
    lab.down(echo=_quiet)


@pytest.mark.parametrize("seconds", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8])
def test_an_up_killed_half_way_can_be_repeated_and_removed(seconds: float) -> None:
    before, labs = _traces(), _state_dir("half")
    command = [sys.executable, "-m", "lab", "--state-dir", str(labs), "up", "t-half"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    threading.Event().wait(seconds)
    process.kill()
    process.wait()

    lab = Lab("t-half", labs)
    try:
        lab.up(echo=_quiet)
        assert lab.status().ok
        assert len(strays(lab.store.directory)) == len(lab.specs)
    finally:  # a failure must not leave machines behind
        lab.down(echo=_quiet)

    assert _traces() == before


def _quiet(line: str) -> None:
    del line


def _until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)


def _ping(address: str, context: ssl.SSLContext | None) -> bytes:
    """The engine's answer over TLS, or over plain TCP without a context."""
    request = f"GET /_ping HTTP/1.0\r\nHost: {address}\r\n\r\n".encode()
    with socket.create_connection((address, 2376), timeout=5) as connection:
        if context is None:
            connection.sendall(request)
            return connection.recv(4096)
        with context.wrap_socket(connection, server_hostname=address) as secure:
            secure.sendall(request)
            return secure.recv(4096)


def _ssh(lab: Lab, program: str, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    keys = lab.info.keys
    options = ["-i", keys.ssh_key, "-o", f"UserKnownHostsFile={keys.known_hosts}", "-o", "BatchMode=yes"]
    return subprocess.run(
        [program, *options, *arguments], input=stdin, capture_output=True, text=True, check=True, timeout=20
    )


def _loop_devices() -> list[str]:
    """Each with its file. Not from losetup: that asks the file itself, which may be on another lab's silent server."""
    found = []
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # detached meanwhile
            found.append(f"{path.parents[1].name} {path.read_text().strip()}")
    return found


def _traces() -> dict[str, set[str]]:
    """What labs of the tests leave visible on the host; other labs may come and go meanwhile."""
    links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True, timeout=10).stdout
    mounts = Path("/proc/mounts").read_text().splitlines()
    return {
        "links": set(re.findall(r"^(bl\d+p[ru]-t-(?:half|leav)\S*)@", links, re.MULTILINE)),
        "mounts": {line for line in mounts if "berth-lab" in line or "t-half" in line or "t-leave" in line},
        # The path of a file whose mount is gone is shown from that mount's root.
        "loops": {line for line in _loop_devices() if "/left-behind" in line},
        "cgroups": {str(path) for path in Path("/sys/fs/cgroup").glob("**/berth-lab-*-t-[hl][ae]*")},
    }
