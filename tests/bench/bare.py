"""Bare `docker run -d -p` on a node of the lab: what Berth is measured against.

The command runs inside the node's machine (nsenter) and speaks to the engine over its Unix socket: the least
overhead there is, less than over TLS from the host.
"""

import itertools
import os
import subprocess
import threading
import time
from collections.abc import Sequence

from lab.lab import Lab

LABEL = "berth-bench=1"
NETWORK, SUBNET = "berth-bench", "192.168.231.0/24"  # for many: the nodes' default bridge has few addresses
FIRST_PORT = 31_000  # beside what the gateway lends
RUN_SECONDS = 60


class BareNode:
    """One node's engine, by the docker command."""

    def __init__(self, lab: Lab, name: str, address: str, image: str, *, many: bool = False) -> None:
        self.name, self.address, self.image, self.many = name, address, image, many
        self._enter = lab.machine(name).enter([])
        self._ports = itertools.count(FIRST_PORT)
        self._lock = threading.Lock()

    def next_port(self) -> int:
        with self._lock:
            return next(self._ports)

    def start(self, port: int) -> subprocess.Popen[bytes]:
        """Begin `docker run -d -p`; the caller waits for it."""
        network = ["--network", NETWORK] if self.many else []
        return self._open(["run", "-d", "--label", LABEL, *network, "-p", f"{port}:80", self.image])

    def make_network(self) -> None:
        """The network for many containers; `remove_all` removes it."""
        self._output(["network", "create", "--label", LABEL, "--subnet", SUBNET, NETWORK])

    def run(self, port: int) -> None:
        """`docker run -d -p` to its end."""
        self.wait(self.start(port))

    def wait(self, process: subprocess.Popen[bytes]) -> None:
        _, errors = process.communicate(timeout=RUN_SECONDS)
        if process.returncode:
            raise RuntimeError(f"docker run on {self.name}: {errors.decode(errors='replace')[-300:]}")

    def remove_all(self) -> None:
        """Remove all that this bench ran, in this run or one that was killed."""
        found = self._output(["ps", "-aq", "--filter", f"label={LABEL}"]).split()
        if found:
            self._output(["rm", "-f", "-v", *found])
        if self._output(["network", "ls", "-q", "--filter", f"label={LABEL}"]).strip():
            self._output(["network", "rm", NETWORK])

    def _open(self, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self._enter, "docker", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"HOME": "/nonexistent"},
            start_new_session=True,  # Ctrl-C is ours: what it began is removed by its label
        )

    def _output(self, arguments: Sequence[str]) -> str:
        for attempt in (1, 2, 3):
            process = self._open(arguments)
            output, errors = process.communicate(timeout=RUN_SECONDS)
            if process.returncode == 0:
                return output.decode()
            time.sleep(0.3 * attempt)
        raise RuntimeError(f"docker {arguments[0]} on {self.name}: {errors.decode(errors='replace')[-300:]}")
