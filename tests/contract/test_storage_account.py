"""The account on the storage server can do sftp in its own directory, and nothing else: no shell, no way through."""

import subprocess
from collections.abc import Iterator

import pytest

from compute.shell import CommandFailed, Host, NoAnswer, SshOptions
from compute.spec import RemoteStore
from compute.volume_scripts import KEY, KNOWN_HOSTS
from lab import Lab
from tests.contract.test_volumes import node, nodes, server, store

__all__ = ["node", "nodes", "server", "store"]
AS_A_NODE = f"-i {KEY} -o UserKnownHostsFile={KNOWN_HOSTS} -o StrictHostKeyChecking=yes -o BatchMode=yes"


@pytest.fixture
def link(quiet_lab: Lab) -> Iterator[str]:
    """A symbolic link out of the directory, as somebody with the account can make it."""
    path = "/var/lib/storage/volumes/way-out"
    quiet_lab.exec("storage", ["ln", "-sfn", "/etc", path])
    yield "way-out"
    quiet_lab.exec("storage", ["rm", "-f", path])


def test_no_command_is_run(server: Host) -> None:
    with pytest.raises((CommandFailed, NoAnswer)) as refused:
        server.run(["id"])

    assert "uid=" not in str(refused.value)


@pytest.mark.parametrize("command", ["id", "sh -c id", "/bin/sh"])
def test_a_node_cannot_run_a_command_either(node: Host, server: Host, command: str) -> None:
    said = node.run(["sh", "-c", f"ssh {AS_A_NODE} {server.target} {command} </dev/null 2>&1 || echo refused $?"])

    assert "uid=" not in said
    assert "refused" in said


def test_there_is_no_terminal(node: Host, server: Host) -> None:
    said = node.run(["sh", "-c", f"ssh -tt {AS_A_NODE} {server.target} id </dev/null 2>&1 || true"])

    assert "uid=" not in said
    assert "PTY allocation request failed" in said


@pytest.mark.parametrize("way", ["-W 127.0.0.1:22", "-W 10.99.0.1:22"])
def test_no_connection_goes_through_it(node: Host, server: Host, way: str) -> None:
    said = node.run(["sh", "-c", f"ssh {AS_A_NODE} {way} {server.target} </dev/null 2>&1 || true"])

    assert "SSH-2.0" not in said
    assert "administratively prohibited" in said


def test_nothing_is_forwarded_back(node: Host, server: Host) -> None:
    options = f"-N -o ExitOnForwardFailure=yes -R 2222:127.0.0.1:22 {AS_A_NODE}"
    said = node.run(["sh", "-c", f"timeout 10 ssh {options} {server.target} 2>&1; echo ended with $?"])

    assert "remote port forwarding failed" in said
    assert "ended with 255" in said


@pytest.mark.parametrize("path", ["/etc/passwd", "../etc/passwd", "/volumes/../../etc/passwd", "/../../etc/shadow"])
def test_no_path_leads_out_of_the_directory(server: Host, path: str) -> None:
    with pytest.raises(CommandFailed, match="not found"):
        server.sftp([f"get {path} /dev/null"])


def test_no_link_leads_out_of_the_directory(server: Host, store: RemoteStore, link: str) -> None:
    with pytest.raises(CommandFailed, match="not found"):
        server.sftp([f"get {store.path}/{link}/passwd /dev/null"])


def test_nothing_can_be_put_beside_the_volumes(server: Host) -> None:
    with pytest.raises(CommandFailed, match="Permission denied"):
        server.sftp(["mkdir /other"])
    assert server.sftp(["ls -1 /"]).split()[-1] == "/volumes"


def test_the_account_has_no_password(quiet_lab: Lab, ssh_options: SshOptions, server: Host) -> None:
    offered = ["-o", "PreferredAuthentications=none", "-o", f"UserKnownHostsFile={ssh_options.known_hosts}"]
    command = ["ssh", "-o", "ControlPath=none", *offered, server.target, "true"]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20).stderr

    assert "Permission denied (publickey)" in said
