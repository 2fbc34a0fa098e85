"""A real gateway that hides its nodes behind its own address, in network namespaces of this test's own: no lab."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from compute.gateway import render
from compute.iptables_gateway import IptablesGateway
from compute.shell import CommandFailed
from compute.spec import ForwardSpec
from tests.live import wait_for

MISSING = [program for program in ("ip", "iptables", "conntrack") if not shutil.which(program)]
pytestmark = pytest.mark.skipif(os.geteuid() != 0 or bool(MISSING), reason=f"needs root and {MISSING or 'nothing'}")
SUBNET, CLIENT, PORT = "10.77.7.0/24", "198.18.7.2", 20_001
FORWARD = ForwardSpec("198.18.7.1", PORT, "10.77.7.2", PORT)
SPEAKS_BY_ITSELF = f"""
import socket, time
listening = socket.create_server(("0.0.0.0", {PORT}))
connection, _ = listening.accept()
while True:
    connection.sendall(b"tick"); time.sleep(0.02)
"""
LISTENS = f"""
import socket, sys
connection = socket.create_connection(("198.18.7.1", {PORT}), timeout=5)
connection.settimeout(None)
while connection.recv(4):
    print("tick", flush=True)
"""


class Space:
    """A network namespace, as compute.shell.Host is a machine."""

    target = ""

    def __init__(self, name: str) -> None:
        self.name = f"b{os.getpid()}{name}"
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.run(["ip", "link", "set", "lo", "up"])

    def run(self, argv: Sequence[str], *, stdin: str = "", timeout_s: float = 20) -> str:
        inside = ["ip", "netns", "exec", self.name, *argv]
        done = subprocess.run(inside, input=stdin, text=True, capture_output=True, timeout=timeout_s, check=False)
        if done.returncode:
            raise CommandFailed(self.name, argv, done.returncode, done.stderr)
        return done.stdout

    def start(self, program: str) -> "subprocess.Popen[bytes]":
        argv = ["ip", "netns", "exec", self.name, sys.executable, "-c", program]
        return subprocess.Popen(argv, stdout=subprocess.PIPE)

    def remove(self) -> None:
        subprocess.run(["ip", "netns", "del", self.name], check=True)


@pytest.fixture
def spaces() -> Iterator[tuple[Space, Space, Space]]:
    """A gateway between a client and a node, whose way out it is."""
    made: list[Space] = []
    try:
        for name in ("g", "c", "n"):
            made.append(Space(name))
        gateway, client, node = made
        for leg, there, end in (("o", client, "198.18.7"), ("i", node, "10.77.7")):
            pair = [f"b{leg}0", "type", "veth", "peer", "name", f"b{leg}1", "netns", there.name]
            gateway.run(["ip", "link", "add", *pair])
            for space, link, host in ((gateway, f"b{leg}0", 1), (there, f"b{leg}1", 2)):
                space.run(["ip", "addr", "add", f"{end}.{host}/24", "dev", link])
                space.run(["ip", "link", "set", link, "up"])
        node.run(["ip", "route", "add", "default", "via", "10.77.7.1"])
        gateway.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"])
        gateway.run(["iptables", "-t", "nat", "-A", "POSTROUTING", "-s", SUBNET, "!", "-d", SUBNET, "-j", "MASQUERADE"])
        yield gateway, client, node
    finally:
        for space in made:
            space.remove()


def held_back(gateway: Space) -> bool:
    """Whether something that the node sent was dropped."""
    lines = gateway.run(["iptables-save", "-c", "-t", "filter"]).splitlines()
    return any(f"--sport {PORT} " in line and not line.startswith("[0:0]") for line in lines)


def tracked(gateway: Space) -> bool:
    """Whether the gateway knows a connection of the port, whoever began it."""
    return f"port={PORT} " in gateway.run(["sh", "-c", "conntrack -L -p tcp 2>/dev/null"])


def test_who_was_taken_off_the_list_hears_no_more_of_a_node_that_speaks_by_itself(
    spaces: tuple[Space, Space, Space],
) -> None:
    """The node's next packet must not begin the connection anew from inside, of which the client's were answers."""
    space, client, node = spaces
    gateway = IptablesGateway(space)  # type: ignore[arg-type]  # only `run` is used
    allowed, not_any_more = (replace(FORWARD, sources=(f"{source}/32",)) for source in (CLIENT, "203.0.113.9"))
    gateway.apply(render([allowed], SUBNET))
    speaking = node.start(SPEAKS_BY_ITSELF)
    wait_for(lambda: f":{PORT} " in node.run(["ss", "-ltn"]), seconds=10)
    hearing = client.start(LISTENS)
    try:
        assert hearing.stdout is not None
        assert hearing.stdout.readline() == b"tick\n"

        wanted = render([not_any_more], SUBNET)
        gateway.apply(wanted)
        gateway.cut_strangers([not_any_more])

        assert gateway.found() == wanted
        wait_for(lambda: held_back(space) or tracked(space), seconds=10)
        assert not tracked(space)
    finally:
        for program in (hearing, speaking):
            program.kill()
            program.wait(timeout=10)
            assert program.stdout is not None
            program.stdout.close()
