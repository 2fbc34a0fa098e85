"""Talks to supervisord over its Unix socket."""

import http.client
import socket
import xmlrpc.client
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lab.process import wait_until
from lab.stack.errors import StackError

_CALL_SECONDS = 60  # stopping a program is one call that lasts until it has stopped
_RUNNING = "RUNNING"


class Control:
    """The programs of a running stack, by name."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def answers(self) -> bool:
        """Whether supervisord is there and has read its configuration."""
        try:
            return bool(self._call("getState")["statename"] == _RUNNING)
        except (OSError, http.client.HTTPException, StackError):
            return False

    def states(self) -> dict[str, str]:
        """State of every program (RUNNING, STARTING, STOPPED, BACKOFF, …); empty when supervisord is gone."""
        try:
            return {info["name"]: info["statename"] for info in self._call("getAllProcessInfo")}
        except (OSError, http.client.HTTPException):
            return {}

    def pid(self, name: str) -> int:
        """The program's pid as its own namespace counts; 0 when it does not run."""
        return int(self._call("getProcessInfo", name)["pid"])

    def start(self, names: Iterable[str]) -> None:
        """Start those that do not run, side by side, and return when all run. Raises StackError otherwise."""
        wanted = list(names)
        for name in wanted:
            if self.states().get(name) in {"STOPPED", "EXITED", "FATAL", "UNKNOWN"}:
                self._call("startProcess", name, False)
        wait_until(lambda: self._settled(wanted), seconds=_CALL_SECONDS, interval=0.1)
        states = self.states()
        failed = [f"{name} is {states.get(name)}" for name in wanted if states.get(name) != _RUNNING]
        if failed:
            raise StackError(", ".join(failed))

    def stop(self, names: Iterable[str]) -> None:
        """Stop those that run, one after the other in the given order."""
        for name in names:
            if self.states().get(name) in {_RUNNING, "STARTING", "BACKOFF"}:
                self._call("stopProcess", name)

    def kill(self, name: str) -> None:
        """Send SIGKILL to a program; supervisord starts it again."""
        self._call("signalProcess", name, "KILL")

    def shutdown(self) -> None:
        """Ask supervisord to stop everything in order and to end. No error when it is already gone."""
        try:
            self._call("shutdown")
        except (OSError, http.client.HTTPException, StackError):
            return  # the caller looks whether the processes went

    def _settled(self, names: list[str]) -> bool:
        states = self.states()
        return all(states.get(name) in {_RUNNING, "FATAL", None} for name in names)

    def _call(self, method: str, *arguments: str | bool) -> Any:
        proxy = xmlrpc.client.ServerProxy("http://localhost", transport=_Transport(self.path))
        with proxy:
            try:
                return getattr(proxy.supervisor, method)(*arguments)
            except xmlrpc.client.Fault as fault:
                raise StackError(f"supervisord: {method} {arguments}: {fault.faultString}") from fault
            except xmlrpc.client.ProtocolError as problem:
                raise StackError(f"supervisord: {method}: {problem.errmsg}") from problem


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_CALL_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _Transport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = _Connection(self._path)
        self._connection = host, connection  # where close() of the base class looks for it
        return connection
