"""How each daemon of a machine is started, and how one sees that it answers."""

from __future__ import annotations

import socket
from collections.abc import Callable

from . import engine
from .machine import Machine
from .machines import ENGINE_PORT, REGISTRY_PORT, Daemon, Plan
from .process import LabError, wait_until

_COMMANDS: dict[Daemon, list[str]] = {
    "sshd": ["/usr/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/sshd_config"],
    "dockerd": ["dockerd"],
    "registry": ["docker-registry", "serve", "/etc/berth/registry.yml"],
}
_START_SECONDS = 40


def ensure(machine: Machine, daemon: Daemon, plan: Plan) -> bool:
    """Start it unless it runs, and wait until it answers. Whether it had to be started."""
    if answers(machine, daemon, plan):
        return False
    started = machine.daemon_pid(daemon) is None
    if started:
        if daemon == "dockerd":
            engine.clean_before_start(machine)
        machine.start_daemon(daemon, _COMMANDS[daemon])
    wait_until(lambda: answers(machine, daemon, plan) or machine.daemon_pid(daemon) is None, seconds=_START_SECONDS)
    if not answers(machine, daemon, plan):
        tail = machine.store.log(machine.name, daemon).read_text(errors="replace")[-600:]
        raise LabError(f"{daemon} on {machine.name} does not answer; the end of its log says: {tail}")
    return started


def answers(machine: Machine, daemon: Daemon, plan: Plan) -> bool:
    """Whether the daemon runs and gives an answer to who asks from the host."""
    return machine.daemon_pid(daemon) is not None and _PROBES[daemon](machine, plan)


def _sshd_answers(machine: Machine, plan: Plan) -> bool:
    return _ask((plan.listen_address(machine.spec), 22), b"", b"SSH-")


def _registry_answers(machine: Machine, plan: Plan) -> bool:
    return _ask((plan.listen_address(machine.spec), REGISTRY_PORT), b"GET /v2/ HTTP/1.0\r\n\r\n", b"HTTP/1.0 200")


def _dockerd_answers(machine: Machine, plan: Plan) -> bool:
    # The TCP port comes up with the socket; TLS wants a client certificate, so only the socket is asked for more.
    request = b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n"
    return _ask(f"/proc/{machine.pid}/root{engine.SOCKET}", request, b"HTTP/1.0 200") and _ask(
        (plan.private(machine.spec), ENGINE_PORT), b"", b""
    )


_PROBES: dict[Daemon, Callable[[Machine, Plan], bool]] = {
    "sshd": _sshd_answers,
    "dockerd": _dockerd_answers,
    "registry": _registry_answers,
}


def _ask(address: tuple[str, int] | str, request: bytes, beginning: bytes) -> bool:
    """Whether the answer begins so; with an empty beginning, whether a connection is accepted."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as connection:
            connection.settimeout(2)
            connection.connect(address)
            connection.sendall(request)
            answer = b""
            while len(answer) < len(beginning):
                part = connection.recv(len(beginning) - len(answer))
                if not part:
                    return False
                answer += part
            return answer == beginning
    except OSError:
        return False
